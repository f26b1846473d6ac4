//! Proof of the pruned tables: on every call site of real libraries, one step of the kernel's walk over the compact table
//! leads where gimli's full evaluation of the call frame information leads.

use std::collections::BTreeSet;
use std::sync::Arc;

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EndianSlice, EvaluationResult, Expression, LittleEndian, Register, RegisterRule,
    UnwindContext, UnwindSection as _, UnwindTableRow, Value, X86_64,
};
use iced_x86::{Decoder, DecoderOptions, FlowControl};
use memscope_ebpf::site::StackEnd;
use memscope_ebpf::unwind::walk::Registers;
use object::{Object as _, ObjectSection as _, SectionKind};

use super::replay::ReplayTables;
use super::session::{CodeMapping, CodeSource, Layout};
use super::table::table_for_elf;
use crate::target::address::{FileOffset, RuntimeAddress};

type Bytes<'a> = EndianSlice<'a, LittleEndian>;

const SP: u64 = 0x7ffc_0000_0000;
const BP: u64 = SP + 0x400;
const ENCODING: gimli::Encoding = gimli::Encoding {
    format: gimli::Format::Dwarf32,
    version: 4,
    address_size: 8,
};

/// Libraries of the usual places; those that this machine lacks are passed over, but one must be there.
const CORPUS: [&str; 12] = [
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib64/libc.so.6",
    "/lib64/ld-linux-x86-64.so.2",
    "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
    "/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
    "/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0",
    "/usr/lib/x86_64-linux-gnu/libpython3.13.so.1.0",
    "/usr/lib/x86_64-linux-gnu/libm.so.6",
    "/usr/lib/x86_64-linux-gnu/libgcc_s.so.1",
    "/usr/bin/perl",
    "/usr/bin/git",
    "/usr/bin/gdb",
];

/// Memory in which every word is another 8-aligned address above the stack pointer: a wrong slot shows.
fn memory(address: u64) -> u64 {
    SP + 0x1_0000 + ((address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 30) << 3)
}

fn register(number: Register) -> Option<u64> {
    match number {
        X86_64::RSP => Some(SP),
        X86_64::RBP => Some(BP),
        _ => None,
    }
}

fn evaluate(expression: Expression<Bytes<'_>>) -> Option<u64> {
    let mut evaluation = expression.evaluation(ENCODING);
    let mut result = evaluation.evaluate().ok()?;
    loop {
        result = match result {
            EvaluationResult::Complete => return evaluation.value_result()?.to_u64(u64::MAX).ok(),
            EvaluationResult::RequiresRegister { register: number, .. } => evaluation
                .resume_with_register(Value::Generic(register(number)?))
                .ok()?,
            EvaluationResult::RequiresMemory { address, .. } => {
                evaluation.resume_with_memory(Value::Generic(memory(address))).ok()?
            }
            _ => return None,
        };
    }
}

/// What a full unwinder makes of a row: CFA, return address, rbp (`None`: not recoverable).
enum Expected {
    Caller(u64, u64, Option<u64>),
    Outermost,
    NotEvaluated,
}

fn expected(section: &EhFrame<Bytes<'_>>, row: &UnwindTableRow<usize>) -> Expected {
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset {
            register: number,
            offset,
        } => register(*number).map(|v| v.wrapping_add_signed(*offset)),
        CfaRule::Expression(e) => e.get(section).ok().and_then(evaluate),
    };
    let value = |rule: Option<RegisterRule<usize>>, cfa: u64, same: u64| match rule {
        None | Some(RegisterRule::SameValue) => Some(same),
        Some(RegisterRule::Offset(offset)) => Some(memory(cfa.wrapping_add_signed(offset))),
        Some(RegisterRule::ValOffset(offset)) => Some(cfa.wrapping_add_signed(offset)),
        Some(RegisterRule::Expression(e)) => Some(memory(evaluate(e.get(section).ok()?)?)),
        Some(RegisterRule::ValExpression(e)) => evaluate(e.get(section).ok()?),
        Some(RegisterRule::Register(number)) => register(number),
        Some(_) => None,
    };
    if row.register(X86_64::RA) == Some(RegisterRule::Undefined) {
        return Expected::Outermost;
    }
    match cfa.and_then(|cfa| Some((cfa, value(row.register(X86_64::RA), cfa, 0)?))) {
        Some((cfa, ra)) => Expected::Caller(cfa, ra, value(row.register(X86_64::RBP), cfa, BP)),
        None => Expected::NotEvaluated,
    }
}

/// Ends of all call instructions that a linear disassembly of the text sections finds.
fn call_sites(file: &object::File<'_>) -> BTreeSet<u64> {
    let mut sites = BTreeSet::new();
    for section in file.sections().filter(|section| section.kind() == SectionKind::Text) {
        let data = section.data().unwrap();
        for instruction in &mut Decoder::with_ip(64, data, section.address(), DecoderOptions::NONE) {
            if matches!(
                instruction.flow_control(),
                FlowControl::Call | FlowControl::IndirectCall
            ) {
                let bytes = &data[(instruction.ip() - section.address()) as usize..];
                if !bytes.starts_with(&[0x0f]) {
                    sites.insert(instruction.next_ip());
                }
            }
        }
    }
    sites
}

#[derive(Default, Debug)]
struct Tally {
    sites: u64,
    equal: u64,
    outermost: u64,
    unsupported: u64,
    rbp_given_up: u64,
    without_cfi: u64,
}

fn compare(path: &str, bytes: &[u8]) -> Tally {
    let file = object::File::parse(bytes).unwrap();
    let table = Arc::new(table_for_elf(bytes).unwrap());
    let mappings: Vec<CodeMapping> = table
        .segments
        .iter()
        .map(|segment| CodeMapping {
            start: RuntimeAddress(segment.address.0),
            end: RuntimeAddress(segment.address.0 + segment.size),
            offset: FileOffset(segment.offset.0),
            source: CodeSource::Image(path.to_owned()),
        })
        .collect();
    let refresh = Layout::new(u32::MAX, u32::MAX).refresh(&mappings, &BTreeSet::new(), |_| Some(table.clone()));
    let tables = ReplayTables::new(refresh);
    let step = |ip: u64| tables.step(Registers { ip, sp: SP, bp: BP }, |address| Some(memory(address)));

    let mut left = call_sites(&file);
    let mut tally = Tally {
        sites: left.len() as u64,
        ..Tally::default()
    };
    let section = file.section_by_name(".eh_frame").unwrap();
    let frames = EhFrame::new(section.data().unwrap(), LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(section.address());
    let mut context = UnwindContext::new();
    let mut entries = frames.entries(&bases);
    while let Some(entry) = entries.next().unwrap() {
        let gimli::CieOrFde::Fde(partial) = entry else { continue };
        let fde = partial.parse(EhFrame::cie_from_offset).unwrap();
        let mut rows = fde.rows(&frames, &bases, &mut context).unwrap();
        while let Some(row) = rows.next_row().unwrap() {
            let inside: Vec<u64> = left
                .range(row.start_address() + 1..=row.end_address())
                .copied()
                .collect();
            for site in inside {
                left.remove(&site);
                let got = step(site);
                match (expected(&frames, row), got) {
                    (_, Err(StackEnd::UnsupportedRule)) => tally.unsupported += 1,
                    (Expected::Outermost, Err(StackEnd::Outermost)) => tally.outermost += 1,
                    (Expected::Caller(cfa, ra, rbp), Ok((pc, sp, got_rbp))) => {
                        assert_eq!((pc, sp), (ra, cfa), "{path} {site:#x} {row:?}");
                        if got_rbp.is_some() {
                            assert_eq!(got_rbp, rbp, "{path} {site:#x} {row:?}");
                        } else {
                            tally.rbp_given_up += u64::from(rbp.is_some());
                        }
                        tally.equal += 1;
                    }
                    (_, got) => panic!("{path} {site:#x}: {got:?} for {row:?}"),
                }
            }
        }
    }
    for site in left {
        // No FDE: nothing but a frame pointer to go by, and BP is plausible here.
        let got = step(site).unwrap();
        assert_eq!(got, (memory(BP + 8), BP + 16, Some(memory(BP))), "{path} {site:#x}");
        tally.without_cfi += 1;
    }
    tally
}

#[test]
fn every_call_site_of_real_libraries_unwinds_as_full_cfi_says() {
    let mut compared = 0;
    for path in CORPUS {
        let Ok(bytes) = std::fs::read(path) else { continue };
        let tally = compare(path, &bytes);
        println!("{path}: {tally:?}");
        assert_eq!(
            tally.sites,
            tally.equal + tally.outermost + tally.unsupported + tally.without_cfi
        );
        // Hand-written cryptography keeps its CFA in registers that a callee may not preserve for us; nobody else does.
        assert!(tally.unsupported * 50 <= tally.sites, "{path}: {tally:?}");
        compared += tally.equal;
    }
    assert!(compared > 10_000, "no library of the corpus is on this machine");
}
