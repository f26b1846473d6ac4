//! The target's registers at a probe, as the System V x86-64 calling convention uses them.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::pt_regs;
use memscope_ebpf::call::Argument;
use memscope_ebpf::unwind::walk;

/// Reads one field of the context. Each read is its own instruction with its own constant offset: the verifier allows no
/// other, and left alone the optimiser would merge the arms of a match into one load from a computed offset.
macro_rules! field {
    ($registers:expr, $name:ident) => {{
        let value: u64;
        // SAFETY: a uprobe's context is a pt_regs; one load from it.
        unsafe {
            core::arch::asm!(
                "{value} = *(u64 *)({regs} + {offset})",
                value = out(reg) value,
                regs = in(reg) $registers,
                offset = const core::mem::offset_of!(pt_regs, $name),
                options(nostack, readonly),
            );
        }
        value
    }};
}

/// Registers of the probed thread, and where it returns to if it is still at its `ret`.
#[derive(Clone, Copy)]
pub struct Registers(*const pt_regs, Option<u64>);

impl Registers {
    /// The registers behind a uprobe's context.
    #[inline(always)]
    pub fn of(ctx: &impl EbpfContext) -> Self {
        Self(ctx.as_ptr().cast(), None)
    }

    /// The same at a `ret` that has not popped its return address yet.
    #[inline(always)]
    pub fn of_exit(ctx: &impl EbpfContext, return_address: u64) -> Self {
        Self(ctx.as_ptr().cast(), Some(return_address))
    }

    /// An integer argument, as it is at the function's entry.
    #[inline(always)]
    pub fn argument(self, argument: Argument) -> u64 {
        match argument.position() {
            0 => field!(self.0, rdi),
            1 => field!(self.0, rsi),
            2 => field!(self.0, rdx),
            3 => field!(self.0, rcx),
            4 => field!(self.0, r8),
            _ => field!(self.0, r9),
        }
    }

    /// The integer result, at a function's return.
    #[inline(always)]
    pub fn result(self) -> u64 {
        field!(self.0, rax)
    }

    /// The stack pointer.
    #[inline(always)]
    pub fn stack_pointer(self) -> u64 {
        field!(self.0, rsp)
    }

    /// What a walk begins with: the caller's registers. At a return probe they are in place, and the kernel has already put
    /// the return address into rip; at a `ret` all but rip and rsp are.
    #[inline(always)]
    pub fn of_walk(self) -> walk::Registers {
        let (ip, sp) = match self.1 {
            None => (field!(self.0, rip), field!(self.0, rsp)),
            Some(return_address) => (return_address, field!(self.0, rsp).wrapping_add(8)),
        };
        walk::Registers {
            ip,
            sp,
            bp: field!(self.0, rbp),
        }
    }
}
