//! Signals that interrupt a probed call: the handler may allocate, and its blocks are its own.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::helpers::generated::bpf_get_current_pid_tgid;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;

use crate::maps;

/// `SIG_DFL` and `SIG_IGN`: no handler.
const IGNORED: u64 = 1;

/// signal_deliver(sig, info, ka): the running thread is about to run a handler, or to end. Marks its open call. (That the
/// handler returns has no tracepoint of its own; the next call's stack tells.)
#[raw_tracepoint(tracepoint = "signal_deliver")]
pub fn signal_delivered(ctx: RawTracePointContext) -> i32 {
    mark_open_call(&ctx);
    0
}

#[inline(always)]
fn mark_open_call(ctx: &RawTracePointContext) -> Option<()> {
    // SAFETY: the helper takes nothing.
    let thread = unsafe { bpf_get_current_pid_tgid() } as u32;
    let inflight = maps::INFLIGHT.get_ptr_mut(thread)?;
    // SAFETY: the element belongs to this thread alone, and this thread is here. struct k_sigaction begins with the
    // handler's address; the helper checks the kernel address.
    unsafe {
        let depth = (*inflight).depth;
        if depth == 0 {
            return None;
        }
        let action: *const u64 = ctx.arg(2);
        if bpf_probe_read_kernel(action).ok()? > IGNORED {
            (*inflight).interrupted |= 1 << ((depth - 1) & 63);
        }
    }
    None
}
