//! Follows the arguments through the registers: which still hold one, whole, at a given instruction.

use iced_x86::{Code, InstructionInfo, OpAccess, Register};
use memscope_ebpf::call::Argument;

use super::need::ArgumentSet;

/// The argument registers in the order of the calling convention (System V x86-64, §3.2.3).
pub(super) const ARGUMENT_REGISTERS: [Register; ArgumentSet::MOST] = [
    Register::RDI,
    Register::RSI,
    Register::RDX,
    Register::RCX,
    Register::R8,
    Register::R9,
];

/// Which general registers hold each argument: a bit a register (0 = rax … 15 = r15) for each of the six positions.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holders([u16; ArgumentSet::MOST]);

impl Holders {
    /// At a function's entry.
    pub(super) fn at_entry() -> Self {
        Self(ARGUMENT_REGISTERS.map(bit))
    }

    /// Past one instruction: what it writes, even in part or on a condition, holds an argument no more; a whole copy of a
    /// register holds what the register holds.
    pub(super) fn cross(&mut self, code: Code, op0: Register, op1: Register, info: &InstructionInfo) {
        let copied = matches!(code, Code::Mov_r64_rm64 | Code::Mov_rm64_r64)
            .then(|| self.0.map(|holders| holders & bit(op1) != 0))
            .filter(|_| op0.is_gpr64() && op1.is_gpr64());
        for used in info.used_registers().iter().filter(|used| writes(used.access())) {
            for holders in &mut self.0 {
                *holders &= !bit(used.register());
            }
        }
        for (holders, copied) in self.0.iter_mut().zip(copied.into_iter().flatten()) {
            if copied {
                *holders |= bit(op0);
            }
        }
    }

    /// Whether the register holds the argument.
    pub(super) fn hold(&self, argument: Argument, register: Register) -> bool {
        self.of(argument) & bit(register) != 0
    }

    /// The first needed argument that no register holds any longer.
    pub(super) fn lost(&self, needed: ArgumentSet) -> Option<Argument> {
        needed.iter().find(|argument| self.of(*argument) == 0)
    }

    /// Where a program finds each needed argument: its own register if that still holds it, else another of the six.
    /// `None` when one of them is only in a register that no [`Argument`] names.
    pub(super) fn places(&self, needed: ArgumentSet) -> Option<[u8; ArgumentSet::MOST]> {
        let mut places = [0, 1, 2, 3, 4, 5];
        for argument in needed.iter() {
            let own = argument.position();
            let place = std::iter::once(own)
                .chain(places)
                .find(|place| self.of(argument) & bit(ARGUMENT_REGISTERS[usize::from(*place)]) != 0)?;
            places[usize::from(own)] = place;
        }
        Some(places)
    }

    fn of(&self, argument: Argument) -> u16 {
        self.0[usize::from(argument.position())]
    }
}

/// Whether an access may change its register.
pub(super) fn writes(access: OpAccess) -> bool {
    matches!(
        access,
        OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
    )
}

/// No bit for what is not a general register.
fn bit(register: Register) -> u16 {
    let full = register.full_register();
    if full.is_gpr64() { 1 << full.number() } else { 0 }
}
