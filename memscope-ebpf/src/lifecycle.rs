//! What happens to the target itself: exec, and the exit of its threads.
//!
//! The only programs that log. Unless a foreground run asked for it, the log level is a constant 0 at load, and the verifier
//! takes the logging out as dead code.

use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use aya_log_ebpf::{debug, info};

use crate::maps;

/// sched_process_exec: a new image, whose memory is not what we recorded. Collection ends there.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn target_exec(ctx: RawTracePointContext) -> i32 {
    // SAFETY: the helper takes nothing.
    let process = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
    if let (Some(control), Some(state)) = (maps::CONTROL.get_ptr_mut(0), maps::STATE.get_ptr_mut(0)) {
        // SAFETY: array elements; only one thread of a process survives its exec, so no other program writes here.
        unsafe {
            if (*control).tgid == process && (*state).exec_at_ns == 0 {
                (*state).exec_at_ns = bpf_ktime_get_ns();
                (*control).collecting = 0;
                info!(
                    &ctx,
                    "process {} has replaced its image by exec: collection ends", process
                );
            }
        }
    }
    0
}

/// sched_process_exit: runs in every exiting thread. Its number may be given to another thread: forget its open calls.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn thread_exit(ctx: RawTracePointContext) -> i32 {
    // SAFETY: the helper takes nothing.
    let current = unsafe { bpf_get_current_pid_tgid() };
    let (process, thread) = ((current >> 32) as u32, current as u32);
    let _ = maps::INFLIGHT.remove(thread);
    if let (Some(control), Some(state)) = (maps::CONTROL.get_ptr(0), maps::STATE.get_ptr_mut(0)) {
        // SAFETY: array elements; concurrent exits write times that differ by nothing that matters.
        unsafe {
            if (*control).tgid == process {
                let now = bpf_ktime_get_ns();
                (*state).thread_exit_at_ns = now;
                if (*control).bound_tid == thread {
                    (*state).bound_exit_at_ns = now;
                }
                debug!(&ctx, "thread {} of process {} exits", thread, process);
            }
        }
    }
    0
}
