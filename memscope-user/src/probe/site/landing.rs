//! Which branches land where: nothing may enter a function between its entry and the probe's site.

use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind, Register};

use crate::target::address::ElfAddress;

/// What the branches of one function's body say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BodyBranches {
    /// The lowest address in the range asked about that a direct branch or call of the body lands on.
    pub first: Option<ElfAddress>,
    /// The body has an indirect jump that may go through a table of its own labels.
    pub table_jump: bool,
    /// A jump of the body, not a call, leads back to the entry itself.
    pub re_enters: bool,
}

/// Reads the whole body in a linear sweep from its entry, which is a true instruction boundary; bytes that decode to
/// nothing are passed over one at a time.
pub(super) fn branches_of_body(code: &[u8], entry: ElfAddress, range: &Range<ElfAddress>) -> BodyBranches {
    let mut found = BodyBranches {
        first: None,
        table_jump: false,
        re_enters: false,
    };
    sweep(code, entry, |instruction| {
        let target = direct_target(instruction);
        found.re_enters |= target == Some(entry) && instruction.flow_control() != FlowControl::Call;
        if let Some(target) = target.filter(|target| range.contains(target)) {
            found.first = Some(found.first.map_or(target, |first| first.min(target)));
        }
        found.table_jump |= may_jump_through_table(instruction);
    });
    found
}

/// Whether any branch of a module may land in `range` (`entry + 1 .. site + 1` for a site). See [`first_branch_into`].
#[must_use]
pub fn branches_into(text: &[u8], text_address: ElfAddress, range: Range<ElfAddress>) -> bool {
    first_branch_into(text, text_address, range).is_some()
}

/// The lowest address in `range` on which a branch from anywhere in `text` may land.
///
/// A superset on purpose, since nothing says where the instructions of foreign code begin. Branches and address
/// computations with a 32-bit displacement (`call`, `jmp`, `jcc`, `xbegin`, `lea …(%rip)`) are looked for at every byte.
/// Branches with an 8-bit one only reach 128 bytes: that neighbourhood is decoded from sixteen successive bytes, one of
/// which begins an instruction, since none is longer than fifteen bytes.
#[must_use]
pub fn first_branch_into(text: &[u8], text_address: ElfAddress, range: Range<ElfAddress>) -> Option<ElfAddress> {
    let far = first_far_branch_into(text, text_address, &range);
    let near = first_near_branch_into(text, text_address, &range);
    far.into_iter().chain(near).min()
}

fn first_far_branch_into(text: &[u8], text_address: ElfAddress, range: &Range<ElfAddress>) -> Option<ElfAddress> {
    let length = range.end.0.saturating_sub(range.start.0);
    // Where the text begins, seen from the range: targets are then compared with one subtraction.
    let base = text_address.0.wrapping_sub(range.start.0);
    let mut first: Option<u64> = None;
    for (index, bytes) in text.windows(4).enumerate() {
        let displacement = i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let target = base
            .wrapping_add(index as u64 + 4)
            .wrapping_add(i64::from(displacement) as u64);
        if target < length && is_far_reference(&text[..index]) {
            first = Some(first.map_or(target, |known| known.min(target)));
        }
    }
    first.map(|target| ElfAddress(range.start.0.wrapping_add(target)))
}

/// Whether bytes that end in `before` can be the opcode of an instruction whose last four bytes are a displacement.
fn is_far_reference(before: &[u8]) -> bool {
    match before {
        [.., 0xe8 | 0xe9] | [.., 0x0f, 0x80..=0x8f] | [.., 0xc7, 0xf8] => true,
        [.., 0x8d, modrm] => modrm & 0xc7 == 0x05,
        _ => false,
    }
}

/// The reach of an 8-bit displacement, and of the longest instruction that carries one.
const REACH: u64 = 128 + 15;
/// Bytes decoded before the first branch is believed: streams begun inside an instruction have met the true one by then.
const RUN_IN: u64 = 64;
/// The longest instruction is 15 bytes.
const ALIGNMENTS: u64 = 16;

fn first_near_branch_into(text: &[u8], text_address: ElfAddress, range: &Range<ElfAddress>) -> Option<ElfAddress> {
    let believed_from = range.start.0.saturating_sub(REACH);
    let mut first: Option<ElfAddress> = None;
    for alignment in 0..ALIGNMENTS {
        let from = believed_from
            .saturating_sub(RUN_IN + ALIGNMENTS)
            .saturating_add(alignment);
        let from = from.max(text_address.0);
        let window = slice(text, text_address, from, range.end.0.saturating_add(REACH));
        sweep(window, ElfAddress(from), |instruction| {
            let target = direct_target(instruction).filter(|target| range.contains(target));
            if let Some(target) = target.filter(|_| instruction.ip() >= believed_from) {
                first = Some(first.map_or(target, |known| known.min(target)));
            }
        });
    }
    first
}

fn slice(text: &[u8], text_address: ElfAddress, from: u64, to: u64) -> &[u8] {
    let offset = |address: u64| {
        usize::try_from(address.saturating_sub(text_address.0)).map_or(text.len(), |offset| offset.min(text.len()))
    };
    let (from, to) = (offset(from), offset(to));
    &text[from..to.max(from)]
}

fn sweep(code: &[u8], address: ElfAddress, mut visit: impl FnMut(&Instruction)) {
    let mut decoder = Decoder::with_ip(64, code, address.0, DecoderOptions::NONE);
    let mut instruction = Instruction::default();
    while decoder.can_decode() {
        let at = decoder.position();
        decoder.decode_out(&mut instruction);
        if instruction.is_invalid() {
            // No more than the one byte: what follows may be code again.
            if decoder.set_position(at + 1).is_err() {
                return;
            }
            decoder.set_ip(address.0.wrapping_add(at as u64 + 1));
        } else {
            visit(&instruction);
        }
    }
}

/// Where a direct branch or call goes. Conditional moves of control without a jump's form (`loop`, `jrcxz`, `xbegin`) too.
fn direct_target(instruction: &Instruction) -> Option<ElfAddress> {
    match instruction.flow_control() {
        FlowControl::Next | FlowControl::Return | FlowControl::IndirectBranch | FlowControl::IndirectCall => None,
        _ if instruction.op_count() == 0 => None,
        _ => match instruction.op0_kind() {
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
                Some(ElfAddress(instruction.near_branch_target()))
            }
            _ => None,
        },
    }
}

/// A jump through one fixed word (`jmp *slot(%rip)`: a PLT slot, a hook) goes to a function; any other indirect jump may
/// be a `switch`.
fn may_jump_through_table(instruction: &Instruction) -> bool {
    instruction.flow_control() == FlowControl::IndirectBranch
        && !(instruction.is_ip_rel_memory_operand() && instruction.memory_index() == Register::None)
}
