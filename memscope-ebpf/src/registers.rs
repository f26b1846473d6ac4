//! The target's registers at a probe, as the System V x86-64 calling convention uses them.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::pt_regs;
use memscope_ebpf::call::Argument;

/// Registers of the probed thread.
#[derive(Clone, Copy)]
pub struct Registers(*const pt_regs);

impl Registers {
    /// The registers behind a uprobe's context.
    #[inline(always)]
    pub fn of(ctx: &impl EbpfContext) -> Self {
        Self(ctx.as_ptr().cast())
    }

    /// An integer argument, as it is at the function's entry.
    #[inline(always)]
    pub fn argument(self, argument: Argument) -> u64 {
        // SAFETY: a uprobe's context is a pt_regs; the verifier checks each constant offset.
        unsafe {
            match argument.position() {
                0 => (*self.0).rdi,
                1 => (*self.0).rsi,
                2 => (*self.0).rdx,
                3 => (*self.0).rcx,
                4 => (*self.0).r8,
                _ => (*self.0).r9,
            }
        }
    }

    /// The integer result, at a function's return.
    #[inline(always)]
    pub fn result(self) -> u64 {
        // SAFETY: as above.
        unsafe { (*self.0).rax }
    }

    /// The stack pointer.
    #[inline(always)]
    pub fn stack_pointer(self) -> u64 {
        // SAFETY: as above.
        unsafe { (*self.0).rsp }
    }
}
