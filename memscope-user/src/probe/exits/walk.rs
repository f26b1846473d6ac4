//! Follows a function over all its branches and notes every instruction by which it can return.
//!
//! What is proved: every normal return of a call that entered at `entry` executes one of the `ret`s found, with the stack
//! pointer of the entry, or first reaches the entry of another probed function by a jump ([`Code::takes_over`]), whose own
//! probes then see the return. For:
//! 1. Control only moves by falling through, by a direct branch, by an indirect jump, or by the unwinder. Of each instruction
//!    all successors are followed; an indirect jump through a word that the loader has filled in has the one that is in it;
//!    any other indirect jump is an obstacle, and so is whatever does not decode or is no code of the image.
//! 2. The unwinder enters a function at its landing pads only: those of every function touched are followed too, whichever
//!    call throws.
//! 3. A call comes back to the instruction after it, or never. Both are followed, so a call that does not return leads on
//!    into padding or into another function; what is found there is too much, and harms nobody (`memscope-ebpf/src/exit.rs`).
//!    Where a call is the last instruction before another function begins, it does not return: compilers place no such call
//!    otherwise, for its return address would belong to the other function.
//! 4. A `ret` returns to the caller if the return address is what it was. One that is reached straight from a write to
//!    `[rsp]`, or from a push, is a jump (retpolines): an obstacle.
//! 5. Compiled code restores the stack pointer before it returns, and before it jumps out as its last act.
//!
//! Absent on purpose: code changed at run time, and a search for cheaper sites. A probe on a `ret` costs a single step; in
//! the allocators of Debian 12 no instruction that the kernel emulates lies between the last write of rax and a `ret`.

use std::collections::BTreeMap;

use iced_x86::{Code as Opcode, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::frames::Frame;
use super::obstacle::ExitObstacle;
use crate::probe::site::{SiteClass, classify};
use crate::target::address::ElfAddress;

/// Instructions followed; the largest `operator new` known has some thousand.
const MOST_INSTRUCTIONS: usize = 1 << 14;
/// Exits of one function.
const MOST_EXITS: usize = 64;
/// The longest instruction is 15 bytes.
const LONGEST_INSTRUCTION: usize = 15;

/// Where a jump through a word goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JumpsTo {
    /// Into the same image.
    Here(ElfAddress),
    /// To another probed function, wherever it is: its own probes see the return.
    Probed,
    /// Elsewhere.
    Elsewhere(String),
    /// It cannot be said.
    Unknown,
}

/// The code a function lies in.
pub trait Code {
    /// Code from this address to the end of what holds it; empty where there is none.
    fn bytes(&self, at: ElfAddress) -> &[u8];
    /// The function, or the part of one, that this address belongs to, as the call frame information has it.
    fn frame(&self, at: ElfAddress) -> Option<&Frame>;
    /// Where the unwinder may enter it.
    ///
    /// # Errors
    /// Its table cannot be read.
    fn landing_pads(&self, frame: &Frame) -> Result<Vec<ElfAddress>, ExitObstacle>;
    /// Where a jump through the word at `slot` goes.
    fn jump_through(&self, slot: ElfAddress) -> JumpsTo;
    /// Whether another probed function begins here.
    fn takes_over(&self, at: ElfAddress) -> bool;
}

/// How an instruction was come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Came {
    /// Straight from a call, but for padding: the call may never return.
    AfterCall,
    /// From an instruction that wrote a word for `ret` to take.
    AfterReturnWord,
    /// In any other way.
    Plainly,
}

/// Every `ret` by which a call of the function at `entry` can return.
///
/// # Errors
/// They cannot all be known.
pub fn exits(code: &dyn Code, entry: ElfAddress) -> Result<Vec<ElfAddress>, ExitObstacle> {
    let mut walk = Walk {
        code,
        entry,
        todo: vec![(entry, Came::Plainly)],
        seen: BTreeMap::new(),
        frames: BTreeMap::new(),
        exits: Vec::new(),
    };
    while let Some((at, came)) = walk.todo.pop() {
        walk.visit(at, came)?;
    }
    if walk.exits.is_empty() {
        return Err(ExitObstacle::NoReturn);
    }
    walk.exits.sort_unstable();
    walk.exits.dedup();
    if walk.exits.len() > MOST_EXITS {
        return Err(ExitObstacle::TooLarge);
    }
    Ok(walk.exits)
}

struct Walk<'a> {
    code: &'a dyn Code,
    entry: ElfAddress,
    todo: Vec<(ElfAddress, Came)>,
    /// Instructions visited, and the ways they were come to: the same one may be padding after a call and a label.
    seen: BTreeMap<(ElfAddress, Came), ()>,
    /// Functions touched.
    frames: BTreeMap<u64, ()>,
    exits: Vec<ElfAddress>,
}

impl Walk<'_> {
    fn visit(&mut self, at: ElfAddress, came: Came) -> Result<(), ExitObstacle> {
        if at != self.entry && came != Came::AfterCall && self.code.takes_over(at) {
            return Ok(());
        }
        let frame = self.code.frame(at);
        if came == Came::AfterCall && frame.is_some_and(|frame| frame.start == at) {
            return Ok(());
        }
        if self.seen.insert((at, came), ()).is_some() {
            return Ok(());
        }
        if self.seen.len() > MOST_INSTRUCTIONS {
            return Err(ExitObstacle::TooLarge);
        }
        let bytes = self.code.bytes(at);
        if bytes.is_empty() {
            return Err(ExitObstacle::OutsideCode { to: at });
        }
        let bytes = bytes.get(..LONGEST_INSTRUCTION).unwrap_or(bytes);
        let instruction = Decoder::with_ip(64, bytes, at.0, DecoderOptions::NONE).decode();
        if instruction.is_invalid() {
            return Err(ExitObstacle::Undecodable { at });
        }
        let is_padding = matches!(instruction.mnemonic(), Mnemonic::Nop | Mnemonic::Int3);
        // Padding belongs to no function, or to the one before it.
        if let Some(frame) = frame.filter(|_| !(is_padding && came == Came::AfterCall))
            && self.frames.insert(frame.start.0, ()).is_none()
        {
            let pads = self.code.landing_pads(frame)?;
            self.todo.extend(pads.into_iter().map(|pad| (pad, Came::Plainly)));
        }
        self.follow(&instruction, &bytes[..instruction.len()], at, came)
    }

    fn follow(
        &mut self,
        instruction: &Instruction,
        bytes: &[u8],
        at: ElfAddress,
        came: Came,
    ) -> Result<(), ExitObstacle> {
        let next = ElfAddress(instruction.next_ip());
        let is_direct = matches!(instruction.op0_kind(), OpKind::NearBranch64) && instruction.op_count() > 0;
        let target = ElfAddress(instruction.near_branch_target());
        match instruction.flow_control() {
            FlowControl::Return => return self.note(instruction, bytes, at, came),
            FlowControl::UnconditionalBranch if is_direct => self.todo.push((target, Came::Plainly)),
            FlowControl::ConditionalBranch if is_direct => {
                self.todo.push((target, Came::Plainly));
                self.todo.push((next, Came::Plainly));
            }
            FlowControl::IndirectBranch => return self.jump(instruction, at),
            FlowControl::Call | FlowControl::IndirectCall => self.todo.push((next, Came::AfterCall)),
            FlowControl::XbeginXabortXend => {
                if is_direct {
                    self.todo.push((target, Came::Plainly));
                }
                self.todo.push((next, Came::Plainly));
            }
            // ud2 and its like: no call gets past them. int3 neither: after a call it is padding, elsewhere a trap.
            FlowControl::Exception => {}
            FlowControl::Interrupt if instruction.mnemonic() == Mnemonic::Int3 => {}
            FlowControl::Interrupt => self.todo.push((next, Came::Plainly)),
            FlowControl::Next if instruction.mnemonic() == Mnemonic::Hlt => {}
            FlowControl::Next => {
                let came = if instruction.mnemonic() == Mnemonic::Nop {
                    came
                } else if leaves_a_return_word(instruction) {
                    Came::AfterReturnWord
                } else {
                    Came::Plainly
                };
                self.todo.push((next, came));
            }
            // Far branches, and those of 16 bits.
            _ => return Err(ExitObstacle::Undecodable { at }),
        }
        Ok(())
    }

    fn note(
        &mut self,
        instruction: &Instruction,
        bytes: &[u8],
        at: ElfAddress,
        came: Came,
    ) -> Result<(), ExitObstacle> {
        let is_plain = matches!(instruction.code(), Opcode::Retnq | Opcode::Retnq_imm16);
        if !is_plain || came == Came::AfterReturnWord || classify(bytes) == SiteClass::Refused {
            return Err(ExitObstacle::OddReturn { at });
        }
        self.exits.push(at);
        Ok(())
    }

    fn jump(&mut self, instruction: &Instruction, at: ElfAddress) -> Result<(), ExitObstacle> {
        if !(instruction.is_ip_rel_memory_operand() && instruction.memory_index() == Register::None) {
            return Err(ExitObstacle::IndirectJump { at });
        }
        match self.code.jump_through(ElfAddress(instruction.ip_rel_memory_address())) {
            JumpsTo::Here(target) => self.todo.push((target, Came::Plainly)),
            JumpsTo::Probed => {}
            JumpsTo::Elsewhere(to) => return Err(ExitObstacle::LeavesImage { at, to }),
            JumpsTo::Unknown => return Err(ExitObstacle::IndirectJump { at }),
        }
        Ok(())
    }
}

/// Whether the instruction leaves a word of its own at `[rsp]`.
fn leaves_a_return_word(instruction: &Instruction) -> bool {
    match instruction.mnemonic() {
        Mnemonic::Push => true,
        Mnemonic::Mov => {
            instruction.op0_kind() == OpKind::Memory
                && instruction.memory_base() == Register::RSP
                && instruction.memory_index() == Register::None
                && instruction.memory_displacement64() == 0
        }
        _ => false,
    }
}
