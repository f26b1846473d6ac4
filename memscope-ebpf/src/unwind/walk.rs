//! From one frame to its caller. The same code runs in the kernel and, against recorded images, in tests.

use super::cache::{CacheEntry, slot};
use super::lookup::{Tables, find_row};
use super::row::{RbpRule, Row, RowKind};
use crate::limits::MAX_FRAMES;
use crate::site::{INTERRUPTED, StackEnd};

/// Steps a walk may take: one a frame, and some for return addresses that a return probe had replaced.
pub const MAX_STEPS: u32 = MAX_FRAMES as u32 + 16;

/// A frame record further than this from the stack pointer is not believed to be one.
const MAX_FRAME_POINTER_REACH: u64 = 1 << 20;
/// No code lies below this address (`vm.mmap_min_addr` of every distribution) …
const LOWEST_CODE: u64 = 0x1000;
/// … nor at or above this one: 57 bits, the end of user space with five-level page tables.
const CODE_END: u64 = 1 << 56;

// The kernel's `struct rt_sigframe` as rsp finds it in the restorer: its return address has been popped, so rsp is at
// the ucontext (arch/x86/include/uapi/asm/ucontext.h, sigcontext.h).
const UCONTEXT_RBP: u64 = 120;
const UCONTEXT_RSP: u64 = 160;
const UCONTEXT_RIP: u64 = 168;

/// What a walk needs of the world: tables, the target's memory, a place for the frames.
pub trait Target: Tables {
    /// Reads 8 bytes of the target's stack. Addresses mostly grow from one call to the next.
    fn read_word(&mut self, address: u64) -> Option<u64>;
    /// An entry of the rule cache.
    fn cache_entry(&self, index: u32) -> Option<&CacheEntry>;
    /// The generation of the tables this walk uses.
    fn generation(&self) -> u64;
    /// The return address that a return probe found in this stack slot when it put its trampoline there.
    fn original_return(&self, slot: u64) -> Option<u64>;
    /// Stores frame number `index`, below [`MAX_FRAMES`]: its address, with [`INTERRUPTED`] where it is no return address.
    fn record(&mut self, index: u32, address: u64);
    /// Keeps the row of frame number `index` for the next walk; [`Row::GAP`] when it is not the row of its return address.
    #[inline(always)]
    fn keep_row(&mut self, _index: u32, _row: Row) {}
}

/// The registers a walk begins with: at an allocator's return, rip is the return address and rsp is just past it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// rip: a return address.
    pub ip: u64,
    /// rsp.
    pub sp: u64,
    /// rbp.
    pub bp: u64,
}

/// Set in [`Walk::flags`]: at least one frame was found by frame pointer, for want of CFI.
pub const BY_FRAME_POINTER: u32 = 1;
/// Set in [`Walk::flags`]: at least one signal frame was crossed.
pub const ACROSS_SIGNAL: u32 = 2;
/// Set in [`Walk::flags`]: the last frame lies in no known executable mapping.
pub const INTO_UNKNOWN_CODE: u32 = 4;

/// How the walk came to its present address.
pub(super) const BY_CALL: u32 = 0;
pub(super) const BY_SIGNAL: u32 = 1;
const BY_GUESS: u32 = 2;

/// What [`Walk::rbp`] is. rbp is read from the stack only when a frame's CFA depends on it: lazily.
const RBP_VALUE: u32 = 0;
pub(super) const RBP_SAVED: u32 = 1;
pub(super) const RBP_LOST: u32 = 2;

/// Where a walk stands.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Walk {
    /// Address in the present frame: a return address, or the interrupted instruction after a signal frame.
    pub(super) pc: u64,
    /// Stack pointer of the present frame.
    pub(super) sp: u64,
    /// rbp of the present frame, or the address it is saved at.
    pub(super) rbp: u64,
    pub(super) rbp_is: u32,
    pub(super) came: u32,
    /// Frames recorded so far.
    pub frames: u32,
    /// [`BY_FRAME_POINTER`], [`ACROSS_SIGNAL`].
    pub flags: u32,
    /// [`StackEnd`] as a number, once the walk has ended.
    pub end: u32,
    padding: u32,
}

/// Whether a step led to another frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Take another step.
    Continue,
    /// The walk has ended; [`Walk::end`] says why.
    Ended,
}

impl Walk {
    /// At the frame whose registers these are.
    #[must_use]
    #[inline(always)]
    pub const fn begin(registers: Registers) -> Self {
        Self {
            pc: registers.ip,
            sp: registers.sp,
            rbp: registers.bp,
            rbp_is: RBP_VALUE,
            came: BY_CALL,
            frames: 0,
            flags: 0,
            end: StackEnd::FrameLimit as u32,
            padding: 0,
        }
    }

    /// Address and stack pointer of the present frame.
    #[must_use]
    #[inline(always)]
    pub const fn position(&self) -> (u64, u64) {
        (self.pc, self.sp)
    }

    #[inline(always)]
    fn ended(&mut self, end: StackEnd) -> Progress {
        self.end = end as u32;
        Progress::Ended
    }

    /// Records the present frame and goes to its caller.
    #[inline(always)]
    pub fn step<T: Target>(&mut self, target: &mut T) -> Progress {
        // A return address belongs to the call before it, which may be its function's last instruction.
        let address = if self.came == BY_SIGNAL {
            self.pc
        } else {
            self.pc.wrapping_sub(1)
        };
        let row = remembered_row(target, address);
        let kind = row.kind_number();

        if kind == RowKind::Trampoline as u8 || kind == RowKind::NoMapping as u8 {
            if self.came == BY_CALL
                && self.frames > 0
                && let Some(original) = target.original_return(self.sp.wrapping_sub(8))
            {
                self.pc = original;
                return Progress::Continue;
            }
            if self.came == BY_GUESS {
                return self.ended(StackEnd::FramePointers);
            }
            // CFI led here, so this is where the frame returns to, if into code mapped since the tables were made.
            if kind == RowKind::NoMapping as u8 && LOWEST_CODE <= self.pc && self.pc < CODE_END {
                self.record(target);
                self.flags |= INTO_UNKNOWN_CODE;
            }
            return self.ended(StackEnd::NotCode);
        }
        let index = self.frames;
        if !self.record(target) {
            return self.ended(StackEnd::FrameLimit);
        }
        target.keep_row(index, if self.came == BY_SIGNAL { Row::GAP } else { row });
        if kind == RowKind::CfaFromRsp as u8 {
            let cfa = self.sp.wrapping_add(row.offset_bytes());
            self.follow(target, row, cfa, cfa)
        } else {
            self.step_rarely(target, row)
        }
    }

    /// Stores the present address; false when the stack has as many frames as it may.
    #[inline(always)]
    fn record<T: Target>(&mut self, target: &mut T) -> bool {
        if self.frames >= MAX_FRAMES as u32 {
            return false;
        }
        let interrupted = if self.came == BY_SIGNAL { INTERRUPTED } else { 0 };
        target.record(self.frames, self.pc | interrupted);
        self.frames += 1;
        true
    }

    /// Every kind of row but the common one. Not inlined for BPF, so that the common one is short and verified apart.
    #[cfg_attr(target_arch = "bpf", inline(never))]
    fn step_rarely<T: Target>(&mut self, target: &mut T, row: Row) -> Progress {
        match row.kind() {
            Some(RowKind::CfaFromRbp) => match self.read_rbp(target) {
                Ok(rbp) => {
                    let cfa = rbp.wrapping_add(row.offset_bytes());
                    self.follow(target, row, cfa, cfa)
                }
                Err(end) => self.ended(end),
            },
            Some(RowKind::CfaAtRbp) => match self.read_rbp(target) {
                Ok(rbp) => match target.read_word(rbp.wrapping_add(row.offset_bytes())) {
                    Some(word) => self.follow(target, row, word.wrapping_add(row.addend_bytes()), rbp),
                    None => self.ended(StackEnd::Unreadable),
                },
                Err(end) => self.ended(end),
            },
            Some(RowKind::CfaAtRsp) => match target.read_word(self.sp.wrapping_add(row.offset_bytes())) {
                Some(word) => {
                    let cfa = word.wrapping_add(row.addend_bytes());
                    self.follow(target, row, cfa, cfa)
                }
                None => self.ended(StackEnd::Unreadable),
            },
            Some(RowKind::SignalFrame) => self.cross_signal_frame(target),
            Some(RowKind::Outermost) => self.ended(StackEnd::Outermost),
            Some(RowKind::Gap) if self.came == BY_SIGNAL => self.ended(StackEnd::SignalFrame),
            Some(RowKind::Gap | RowKind::NoTable) => self.step_by_frame_pointer(target),
            _ => self.ended(StackEnd::UnsupportedRule),
        }
    }

    /// Goes to the caller of a frame whose CFA is known. The return address is the word below the CFA, on x86-64 always.
    #[inline(always)]
    fn follow<T: Target>(&mut self, target: &mut T, row: Row, cfa: u64, rbp_base: u64) -> Progress {
        if cfa <= self.sp || cfa & 7 != 0 {
            return self.ended(StackEnd::Cycle);
        }
        let Some(return_address) = target.read_word(cfa.wrapping_sub(8)) else {
            return self.ended(StackEnd::Unreadable);
        };
        match row.rbp() {
            RbpRule::Same => {}
            RbpRule::SavedAt(words) => {
                self.rbp = rbp_base.wrapping_add((i64::from(words) * 8) as u64);
                self.rbp_is = RBP_SAVED;
            }
            RbpRule::Lost => self.rbp_is = RBP_LOST,
        }
        if return_address == 0 {
            return self.ended(StackEnd::Outermost);
        }
        self.goes_on(return_address, cfa, BY_CALL)
    }

    #[inline(always)]
    fn goes_on(&mut self, pc: u64, sp: u64, came: u32) -> Progress {
        self.pc = pc;
        self.sp = sp;
        self.came = came;
        Progress::Continue
    }

    /// rbp of the present frame, read from the stack if it is saved there; or why it cannot be known.
    #[inline(always)]
    pub fn read_rbp<T: Target>(&mut self, target: &mut T) -> Result<u64, StackEnd> {
        if self.rbp_is == RBP_LOST {
            return Err(StackEnd::UnsupportedRule);
        }
        if self.rbp_is == RBP_SAVED {
            self.rbp = target.read_word(self.rbp).ok_or(StackEnd::Unreadable)?;
            self.rbp_is = RBP_VALUE;
        }
        Ok(self.rbp)
    }

    /// A frame whose code has no CFI: its caller is believed to be in the frame record at rbp, if that looks like one.
    #[inline(always)]
    fn step_by_frame_pointer<T: Target>(&mut self, target: &mut T) -> Progress {
        let distrust = if self.came == BY_GUESS {
            StackEnd::FramePointers
        } else {
            StackEnd::NoTable
        };
        let Ok(rbp) = self.read_rbp(target) else {
            return self.ended(distrust);
        };
        // psABI 3.4.1: code that keeps frame pointers marks the outermost frame with rbp = 0. Only a frame pointer that led
        // here tells that the code keeps them: in code that does not, rbp is often 0 and means nothing.
        if rbp == 0 && self.came == BY_GUESS {
            return self.ended(StackEnd::Outermost);
        }
        if rbp < self.sp || rbp & 7 != 0 || rbp - self.sp > MAX_FRAME_POINTER_REACH {
            return self.ended(distrust);
        }
        let Some(return_address) = target.read_word(rbp.wrapping_add(8)) else {
            return self.ended(distrust);
        };
        // The same holds of a frame record without return address: musl's strdup has its argument in rbp, which may be a
        // zeroed buffer on the stack.
        if return_address == 0 {
            let end = if self.came == BY_GUESS {
                StackEnd::Outermost
            } else {
                distrust
            };
            return self.ended(end);
        }
        self.flags |= BY_FRAME_POINTER;
        self.rbp_is = RBP_SAVED;
        self.goes_on(return_address, rbp.wrapping_add(16), BY_GUESS)
    }

    /// From a signal handler's return into the code it interrupted, whose stack may be another one, above or below.
    #[inline(always)]
    fn cross_signal_frame<T: Target>(&mut self, target: &mut T) -> Progress {
        let ucontext = self.sp;
        let (Some(rbp), Some(rsp), Some(rip)) = (
            target.read_word(ucontext.wrapping_add(UCONTEXT_RBP)),
            target.read_word(ucontext.wrapping_add(UCONTEXT_RSP)),
            target.read_word(ucontext.wrapping_add(UCONTEXT_RIP)),
        ) else {
            return self.ended(StackEnd::SignalFrame);
        };
        // A call through a null pointer has a caller, but how the thread came to address 0 nothing tells for certain.
        if rip == 0 {
            return self.ended(StackEnd::SignalFrame);
        }
        self.flags |= ACROSS_SIGNAL;
        self.rbp = rbp;
        self.rbp_is = RBP_VALUE;
        self.goes_on(rip, rsp, BY_SIGNAL)
    }
}

#[inline(always)]
fn remembered_row<T: Target>(target: &T, address: u64) -> Row {
    let generation = target.generation();
    let Some(entry) = target.cache_entry(slot(address)) else {
        return find_row(target, address);
    };
    if let Some(row) = entry.get(address, generation) {
        return row;
    }
    let row = find_row(target, address);
    // Only answers about code: anything else on a broken stack would push good rows out.
    let kind = row.kind_number();
    if kind != RowKind::NoMapping as u8 && kind != RowKind::Trampoline as u8 {
        entry.set(address, generation, row);
    }
    row
}

/// Walks a whole stack, as the BPF program does with `bpf_loop`.
pub fn walk<T: Target>(registers: Registers, target: &mut T) -> Walk {
    let mut walk = Walk::begin(registers);
    for _ in 0..MAX_STEPS {
        if walk.step(target) == Progress::Ended {
            break;
        }
    }
    walk
}
