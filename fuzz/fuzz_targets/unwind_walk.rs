//! The walk through rows of any kind over a stack of any kind: cycles, unreadable memory, frames that lead anywhere.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memscope::target::address::{ElfAddress, FileOffset};
use memscope::unwind::table::{SegmentPlace, UnwindTable};
use memscope_ebpf::unwind::row::{Page, RbpRule, Row, RowKind};
use memscope_fuzz::{elf, seeds, table};

fuzz_target!(init: seeds::plant([seed()]), |data: &[u8]| {
    let mut rest = data;
    let [pages] = elf::take(&mut rest);
    let (mut rows, mut list) = (Vec::new(), Vec::new());
    for _ in 0..pages % 8 {
        let [count] = elf::take(&mut rest);
        let first_row = rows.len() as u32;
        for _ in 0..count % 16 {
            rows.push(Row(u64::from_le_bytes(elf::take(&mut rest))));
        }
        list.push(Page { first_row, rows: rows.len() as u32 - first_row });
    }
    let size = list.len() as u64 * 1024;
    let made = UnwindTable {
        base: ElfAddress(0),
        pages: list,
        rows,
        segments: vec![SegmentPlace { offset: FileOffset(0), address: ElfAddress(0), size }],
        coverage: memscope::unwind::Coverage::default(),
    };
    table::walk(made, rest);
});

/// Two pages of rules, and a stack of return addresses into them.
fn seed() -> Vec<u8> {
    let rules = [
        Row::rule(RowKind::CfaFromRsp, RbpRule::Same, 2, 0),
        Row::rule(RowKind::CfaFromRbp, RbpRule::SavedAt(-2), 2, 0),
        Row::rule(RowKind::CfaAtRbp, RbpRule::Lost, -1, 1),
        Some(Row::bare(RowKind::SignalFrame)),
        Some(Row::bare(RowKind::Outermost)),
    ];
    let mut seed = vec![2];
    for _ in 0..2 {
        let rows: Vec<Row> = rules.iter().flatten().copied().collect();
        seed.push(rows.len() as u8);
        for (row, first) in rows.iter().zip((0u16..).step_by(100)) {
            seed.extend(row.at(first, first + 99).0.to_le_bytes());
        }
    }
    for frame in 0..64u64 {
        let word = if frame % 2 == 0 {
            table::MAPPED + frame * 16
        } else {
            table::STACK + frame * 8
        };
        seed.extend(word.to_le_bytes());
    }
    seed
}
