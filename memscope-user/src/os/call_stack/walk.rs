//! From frame to frame, innermost first.

use memscope_ebpf::site::StackEnd;

use super::code_map::CodeMap;
use super::frame_info::Caller;
use super::registers::{RBP, Registers};
use crate::target::address::RuntimeAddress;
use crate::target::memory::TargetMemory;

/// Frames followed; Python and Ruby reach some hundreds.
const MAX_FRAMES: usize = 1024;
/// A frame record further than this from the stack pointer is not believed to be one.
const MAX_FRAME_POINTER_REACH: u64 = 1 << 20;

/// Why a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkEnd {
    /// As in the database.
    Stack(StackEnd),
    /// The next frame is found by rbp, which `/proc/PID/task/TID/syscall` does not tell.
    RbpUnknown,
    /// The frame returns into the kernel's trampoline of a return probe, which alone knows where to go on: the thread is
    /// inside a probed allocator function.
    ReturnProbe,
}

impl WalkEnd {
    /// As it is shown.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Stack(end) => end.text(),
            Self::ReturnProbe => "the caller's address is hidden by the return probe of a running collection",
            Self::RbpUnknown => {
                "the next frame needs rbp, and a sleeping thread's rbp is told to root only (CAP_BPF + CAP_PERFMON)"
            }
        }
    }
}

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkedFrame {
    /// Where it stands.
    pub address: u64,
    /// Of the call it made: the instruction after; otherwise the instruction itself.
    pub is_return_address: bool,
    /// What a signal handler returns to.
    pub is_signal_trampoline: bool,
}

/// A stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walked {
    /// Innermost first.
    pub frames: Vec<WalkedFrame>,
    /// Why it ends.
    pub end: WalkEnd,
    /// Frames found by frame pointer, for want of call frame information.
    pub by_frame_pointer: usize,
}

/// Walks a stack.
pub fn walk(start: Registers, code: &CodeMap, memory: &dyn TargetMemory) -> Walked {
    let mut walked = Walked {
        frames: vec![WalkedFrame {
            address: start.rip,
            is_return_address: false,
            is_signal_trampoline: false,
        }],
        end: WalkEnd::Stack(StackEnd::FrameLimit),
        by_frame_pointer: 0,
    };
    let mut registers = start;
    let mut is_return_address = false;
    let mut guessed = false;
    while walked.frames.len() < MAX_FRAMES {
        let at = registers.rip.wrapping_sub(u64::from(is_return_address));
        let Some(info) = code.at(RuntimeAddress(at)) else {
            walked.end = WalkEnd::Stack(if guessed {
                StackEnd::FramePointers
            } else {
                StackEnd::NotCode
            });
            return walked;
        };
        if info.is_trampoline() {
            walked.end = WalkEnd::ReturnProbe;
            return walked;
        }
        let found = info.caller(&registers, memory).and_then(|found| match found {
            Some(caller) => Ok((caller, false)),
            None => by_frame_pointer(&registers, memory).map(|caller| (caller, true)),
        });
        let (caller, by_guess) = match found {
            Ok(found) => found,
            Err(end) => {
                walked.end = end;
                return walked;
            }
        };
        if caller.registers.rip == 0 {
            walked.end = WalkEnd::Stack(StackEnd::Outermost);
            return walked;
        }
        // Handlers may run on a stack of their own; every other caller is further up.
        if !caller.by_signal && caller.registers.rsp <= registers.rsp {
            walked.end = WalkEnd::Stack(StackEnd::Cycle);
            return walked;
        }
        if by_guess && code.at(RuntimeAddress(caller.registers.rip.wrapping_sub(1))).is_none() {
            walked.end = WalkEnd::Stack(StackEnd::FramePointers);
            return walked;
        }
        if let Some(left) = walked.frames.last_mut() {
            left.is_signal_trampoline = caller.by_signal;
        }
        guessed = by_guess;
        walked.by_frame_pointer += usize::from(by_guess);
        is_return_address = !caller.by_signal;
        registers = caller.registers;
        walked.frames.push(WalkedFrame {
            address: registers.rip,
            is_return_address,
            is_signal_trampoline: false,
        });
    }
    walked
}

/// For code that nothing is said about: a JIT's, or musl's.
fn by_frame_pointer(registers: &Registers, memory: &dyn TargetMemory) -> Result<Caller, WalkEnd> {
    let rbp = registers.get(RBP).ok_or(WalkEnd::RbpUnknown)?;
    let reach = rbp.wrapping_sub(registers.rsp);
    if rbp % 8 != 0 || reach > MAX_FRAME_POINTER_REACH {
        return Err(WalkEnd::Stack(StackEnd::NoTable));
    }
    let word = |address: u64| {
        memory
            .read_word(RuntimeAddress(address))
            .map_err(|_| WalkEnd::Stack(StackEnd::Unreadable))
    };
    let mut caller = Registers::new(word(rbp.wrapping_add(8))?, rbp.wrapping_add(16));
    caller.set(RBP, Some(word(rbp)?));
    Ok(Caller {
        registers: caller,
        by_signal: false,
    })
}
