//! What every unwind table promises, and the kernel's walk through any table.

use std::collections::BTreeSet;
use std::sync::Arc;

use memscope::target::address::{FileOffset, RuntimeAddress};
use memscope::unwind::replay::ReplayTables;
use memscope::unwind::table::{MAX_ROWS, UnwindTable};
use memscope::unwind::{CodeMapping, CodeSource, Layout};
use memscope_ebpf::limits::MAX_FRAMES;
use memscope_ebpf::unwind::row::PAGE_BYTES;
use memscope_ebpf::unwind::walk::Registers;

/// Where a table's image is mapped.
pub const MAPPED: u64 = 0x7f00_0000_0000;

/// Where the stack begins.
pub const STACK: u64 = 0x7fff_0000_0000;

/// Of a table that was made from call frame information.
pub fn check(table: &UnwindTable) {
    let mut next = 0;
    for page in &table.pages {
        assert_eq!(page.first_row, next);
        assert!(u64::from(page.rows) <= PAGE_BYTES);
        next += page.rows;
        let rows = &table.rows[page.first_row as usize..next as usize];
        assert!(
            rows.windows(2).all(|pair| pair[0].last() < pair[1].first()),
            "rows overlap"
        );
        assert!(rows.iter().all(|row| row.kind().is_some() && row.first() <= row.last()));
    }
    assert_eq!(next as usize, table.rows.len());
    assert!(table.rows.len() <= MAX_ROWS);
    assert!(table.coverage.usable <= table.coverage.sites);
}

/// Walks over a stack of these bytes, beginning at its first words; whatever the table says, the walk ends within its
/// limits.
pub fn walk(table: UnwindTable, stack: &[u8]) {
    let mapping = |start: u64, source| CodeMapping {
        start: RuntimeAddress(start),
        end: RuntimeAddress(start + 0x10_0000),
        offset: FileOffset(0),
        source,
    };
    let mappings = [
        mapping(MAPPED, CodeSource::Image("image".to_owned())),
        mapping(MAPPED + 0x20_0000, CodeSource::Bare),
        mapping(MAPPED + 0x40_0000, CodeSource::Trampoline),
    ];
    let table = Arc::new(table);
    let refresh = Layout::new(1 << 20, 1 << 22).refresh(&mappings, &BTreeSet::new(), |_| Some(Arc::clone(&table)));
    let word = |at: usize| {
        stack
            .get(at..at + 8)
            .and_then(|word| word.first_chunk())
            .map(|word| u64::from_le_bytes(*word))
    };
    let registers = Registers {
        ip: word(0).unwrap_or(MAPPED + 1),
        sp: STACK,
        bp: word(8).unwrap_or(STACK),
    };
    let walked = ReplayTables::new(refresh).walk(registers, |address| {
        word(
            usize::try_from(address.checked_sub(STACK)?)
                .ok()
                .filter(|at| *at < stack.len())?,
        )
    });
    assert!(walked.frames.len() <= MAX_FRAMES);
}
