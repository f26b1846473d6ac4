//! Walks from a function's entry over straight-line instructions and notes where a probe could sit.
//!
//! Proof obligations at every candidate, kept by [`Walk::cross`] stopping before the instruction that would break one:
//! 1. Every relevant call passes it: only instructions with one successor are crossed. The one branch that may be crossed
//!    is `je` straight on the pointer's NULL test, where the need says that NULL calls do not matter.
//! 2. Each needed argument is whole in a register ([`Holders`]).
//! 3. If needed, rsp is what it was at the entry and `[rsp]` is untouched: no crossed instruction writes rsp, stores at or
//!    above it, or copies it to a register through which a later one could.
//! 4. Nothing has happened yet: no store but to the function's own stack is crossed. A block whose release were already
//!    published could be given out again before its end is recorded.
//!
//! That nothing enters between entry and candidate is checked by the caller ([`super::landing`]). The handler runs before
//! the instruction, so what a candidate does itself is free.

use iced_x86::{
    Code, ConditionCode, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfo, InstructionInfoFactory,
    Mnemonic, OpKind, Register,
};

use super::kernel::{Emulation, SiteClass, classify};
use super::need::{ArgumentSet, SiteNeed};
use super::obstacle::Obstacle;
use super::registers::{Holders, writes};
use crate::target::address::ElfAddress;

/// The longest walk, in instructions; prologues that have not come to a push, a branch or a call by then have none.
const MOST_INSTRUCTIONS: usize = 64;

/// An instruction where a probe could sit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub offset: u32,
    pub instruction: Instruction,
    pub class: SiteClass,
    /// Where each argument is there, by position.
    pub places: [u8; ArgumentSet::MOST],
    /// NULL calls do not come here.
    pub past_null_test: bool,
}

/// The candidates in order of offset, and what ended the walk.
pub(super) struct Walk {
    pub candidates: Vec<Candidate>,
    pub end: Obstacle,
}

/// Walks `code` from its first byte.
pub(super) fn walk(code: &[u8], entry: ElfAddress, need: SiteNeed) -> Walk {
    let mut decoder = Decoder::with_ip(64, code, entry.0, DecoderOptions::NONE);
    let mut factory = InstructionInfoFactory::new();
    let mut state = State::at_entry();
    let mut candidates = Vec::new();
    for _ in 0..MOST_INSTRUCTIONS {
        if !decoder.can_decode() {
            return Walk {
                candidates,
                end: Obstacle::EndOfCode,
            };
        }
        let offset = decoder.position();
        let instruction = decoder.decode();
        let bytes = &code[offset..decoder.position()];
        let Ok(offset) = u32::try_from(offset) else { break };
        if instruction.is_invalid() {
            return Walk {
                candidates,
                end: Obstacle::Undecodable { offset },
            };
        }
        if let Some(places) = state.holders.places(need.arguments) {
            candidates.push(Candidate {
                offset,
                instruction,
                class: state.class(bytes, need),
                places,
                past_null_test: state.past_null_test,
            });
        }
        if let Err(end) = state.cross(&instruction, factory.info(&instruction), offset, need) {
            return Walk { candidates, end };
        }
    }
    Walk {
        candidates,
        end: Obstacle::TooFar,
    }
}

struct State {
    holders: Holders,
    /// The zero flag says whether the pointer argument is NULL.
    zero_flag_is_null: bool,
    past_null_test: bool,
    /// A crossed instruction wrote to the stack, perhaps below rsp.
    stored: bool,
}

impl State {
    fn at_entry() -> Self {
        Self {
            holders: Holders::at_entry(),
            zero_flag_is_null: false,
            past_null_test: false,
            stored: false,
        }
    }

    /// The kernel's class, less the emulations that could harm the target from here.
    fn class(&self, bytes: &[u8], need: SiteNeed) -> SiteClass {
        match classify(bytes) {
            SiteClass::Emulated(Emulation::Call) if need.shadow_stack => SiteClass::Refused,
            // 6.18 replaces a 5-byte nop by a call, whose return address overwrites the 8 bytes below rsp: free at the
            // entry (the caller's red zone ended with its call), not once the function may have stored there.
            SiteClass::Emulated(Emulation::LongNop) if self.stored => SiteClass::Refused,
            class => class,
        }
    }

    fn cross(
        &mut self,
        instruction: &Instruction,
        info: &InstructionInfo,
        offset: u32,
        need: SiteNeed,
    ) -> Result<(), Obstacle> {
        match instruction.flow_control() {
            FlowControl::Next => {}
            FlowControl::ConditionalBranch if self.is_null_bypass(instruction, need) => {
                self.past_null_test = true;
                return Ok(());
            }
            _ => return Err(Obstacle::Branch { offset }),
        }
        if need.return_address && endangers_return_address(instruction, info) {
            return Err(Obstacle::ReturnAddress { offset });
        }
        let tests_null = need
            .null_may_bypass
            .is_some_and(|pointer| is_null_test(instruction) && self.holders.hold(pointer, instruction.op0_register()));
        if tests_null {
            self.zero_flag_is_null = true;
        } else if instruction.rflags_modified() != 0 {
            self.zero_flag_is_null = false;
        }
        for store in info.used_memory().iter().filter(|memory| writes(memory.access())) {
            if store.base() != Register::RSP {
                return Err(Obstacle::Store { offset });
            }
            self.stored = true;
        }
        let (op0, op1) = (register_operand(instruction, 0), register_operand(instruction, 1));
        self.holders.cross(instruction.code(), op0, op1, info);
        match self.holders.lost(need.arguments) {
            Some(argument) => Err(Obstacle::Argument {
                offset,
                position: argument.position(),
            }),
            None => Ok(()),
        }
    }

    /// `je` on the NULL test: what jumps is NULL. Past `jne` come the NULL calls, and only they.
    fn is_null_bypass(&self, instruction: &Instruction, need: SiteNeed) -> bool {
        need.null_may_bypass.is_some()
            && self.zero_flag_is_null
            && instruction.is_jcc_short_or_near()
            && instruction.condition_code() == ConditionCode::e
    }
}

/// `test r64, r64` of one register with itself, or `cmp r64, 0`.
fn is_null_test(instruction: &Instruction) -> bool {
    match instruction.code() {
        Code::Test_rm64_r64 => {
            instruction.op0_kind() == OpKind::Register && instruction.op0_register() == instruction.op1_register()
        }
        Code::Cmp_rm64_imm8 | Code::Cmp_rm64_imm32 | Code::Cmp_RAX_imm32 => {
            instruction.op0_kind() == OpKind::Register && instruction.immediate(1) == 0
        }
        _ => false,
    }
}

fn endangers_return_address(instruction: &Instruction, info: &InstructionInfo) -> bool {
    let is_rsp = |register: Register| register.full_register() == Register::RSP;
    let moved = info
        .used_registers()
        .iter()
        .any(|used| is_rsp(used.register()) && writes(used.access()));
    let copied = (0..instruction.op_count())
        .any(|operand| instruction.op_kind(operand) == OpKind::Register && is_rsp(instruction.op_register(operand)))
        || instruction.mnemonic() == Mnemonic::Lea && is_rsp(instruction.memory_base());
    let stored = info.used_memory().iter().any(|memory| {
        let size = memory.memory_size().size() as i64;
        let end = (memory.displacement() as i64).checked_add(size);
        let is_below = memory.index() == Register::None && size > 0 && end.is_some_and(|end| end <= 0);
        writes(memory.access()) && is_rsp(memory.base()) && !is_below
    });
    moved || copied || stored
}

fn register_operand(instruction: &Instruction, operand: u32) -> Register {
    if operand < instruction.op_count() && instruction.op_kind(operand) == OpKind::Register {
        instruction.op_register(operand)
    } else {
        Register::None
    }
}
