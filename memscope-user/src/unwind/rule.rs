//! One row of full call frame information into the rule part of a compact row.

use gimli::{CfaRule, EndianSlice, LittleEndian, Operation, RegisterRule, UnwindSection, UnwindTableRow, X86_64};
use memscope_ebpf::unwind::row::{RbpRule, Row, RowKind};

/// The bytes of a call frame section.
pub type Bytes<'data> = EndianSlice<'data, LittleEndian>;

/// 64-bit DWARF expressions of call frame sections; the version does not matter to the operations we know.
const ENCODING: gimli::Encoding = gimli::Encoding {
    format: gimli::Format::Dwarf32,
    version: 4,
    address_size: 8,
};

/// An expression of the few shapes that compilers and assembly libraries use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// register + offset
    Register(gimli::Register, i64),
    /// [register + offset] + addend
    Deref(gimli::Register, i64, i64),
}

/// The compact rule for a row; `Unsupported` when it says something a compact row cannot hold.
#[must_use]
pub fn compact_rule<'data, S: UnwindSection<Bytes<'data>>>(section: &S, row: &UnwindTableRow<usize>) -> Row {
    try_compact(section, row).unwrap_or(Row::bare(RowKind::Unsupported))
}

fn try_compact<'data, S: UnwindSection<Bytes<'data>>>(section: &S, row: &UnwindTableRow<usize>) -> Option<Row> {
    match row.register(X86_64::RA) {
        // The only mark of a thread's outermost frame: glibc's _start, clone and __start_context carry it.
        Some(RegisterRule::Undefined) => return Some(Row::bare(RowKind::Outermost)),
        Some(RegisterRule::Offset(-8)) => {}
        _ => return None,
    }
    let (kind, offset, addend) = match cfa_shape(section, row.cfa())? {
        Shape::Register(X86_64::RSP, offset) => (RowKind::CfaFromRsp, offset, 0),
        Shape::Register(X86_64::RBP, offset) => (RowKind::CfaFromRbp, offset, 0),
        Shape::Deref(X86_64::RBP, offset, addend) => (RowKind::CfaAtRbp, offset, addend),
        Shape::Deref(X86_64::RSP, offset, addend) => (RowKind::CfaAtRsp, offset, addend),
        _ => return None,
    };
    let rbp = rbp_rule(section, kind, row.register(X86_64::RBP));
    let addend = i8::try_from(words(addend)?).ok()?;
    Row::rule(kind, rbp, i32::try_from(words(offset)?).ok()?, addend)
}

fn cfa_shape<'data, S: UnwindSection<Bytes<'data>>>(section: &S, cfa: &CfaRule<usize>) -> Option<Shape> {
    match cfa {
        CfaRule::RegisterAndOffset { register, offset } => Some(Shape::Register(*register, *offset)),
        CfaRule::Expression(expression) => shape(expression.get(section).ok()?),
    }
}

/// A lost rbp spoils only frames further out whose CFA depends on it, so it does not make the row unsupported.
fn rbp_rule<'data, S: UnwindSection<Bytes<'data>>>(
    section: &S,
    kind: RowKind,
    rule: Option<RegisterRule<usize>>,
) -> RbpRule {
    let slot = match rule {
        None | Some(RegisterRule::SameValue) => return RbpRule::Same,
        Some(RegisterRule::Offset(offset)) if kind != RowKind::CfaAtRbp => offset,
        Some(RegisterRule::Expression(expression)) if kind == RowKind::CfaAtRbp => {
            match expression.get(section).ok().and_then(shape) {
                Some(Shape::Register(X86_64::RBP, offset)) => offset,
                _ => return RbpRule::Lost,
            }
        }
        _ => return RbpRule::Lost,
    };
    match words(slot).and_then(|slot| i8::try_from(slot).ok()) {
        Some(i8::MIN | i8::MAX) | None => RbpRule::Lost,
        Some(slot) => RbpRule::SavedAt(slot),
    }
}

fn words(bytes: i64) -> Option<i64> {
    (bytes % 8 == 0).then_some(bytes / 8)
}

fn shape(expression: gimli::Expression<Bytes<'_>>) -> Option<Shape> {
    let mut operations = expression.operations(ENCODING);
    let Some(Operation::RegisterOffset { register, offset, .. }) = operations.next().ok()? else {
        return None;
    };
    let Some(second) = operations.next().ok()? else {
        return Some(Shape::Register(register, offset));
    };
    let Operation::Deref {
        size: 8, space: false, ..
    } = second
    else {
        return None;
    };
    let addend = match operations.next().ok()? {
        None => 0,
        Some(Operation::PlusConstant { value }) => i64::try_from(value).ok()?,
        Some(_) => return None,
    };
    operations
        .next()
        .ok()?
        .is_none()
        .then_some(Shape::Deref(register, offset, addend))
}
