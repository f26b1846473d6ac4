//! What happens to the target itself: exec, and the exit of its threads.
//!
//! The only programs that log. Unless a foreground run asked for it, the log level is a constant 0 at load, and the verifier
//! takes the logging out as dead code.

use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use aya_log_ebpf::{debug, info};

use memscope_ebpf::family::TaskField;
use memscope_ebpf::limits::MAX_NESTING;
use memscope_ebpf::state::Control;

use crate::enter::call_at;
use crate::{block, maps, task};

/// sched_process_exec: a new image, whose memory is not what we recorded. Collection ends there.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn target_exec(ctx: RawTracePointContext) -> i32 {
    // SAFETY: the helper takes nothing.
    let process = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
    if let (Some(control), Some(state)) = (maps::CONTROL.get_ptr_mut(0), maps::STATE.get_ptr_mut(0)) {
        // SAFETY: array elements; only one thread of a process survives its exec, so no other program writes here.
        unsafe {
            if is_target(control, process) && (*state).exec_at_ns == 0 {
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
    give_back(thread);
    let _ = maps::INFLIGHT.remove(thread);
    if let (Some(control), Some(state)) = (maps::CONTROL.get_ptr(0), maps::STATE.get_ptr_mut(0)) {
        // SAFETY: array elements; concurrent exits write times that differ by nothing that matters.
        unsafe {
            if is_target(control, process) {
                let now = bpf_ktime_get_ns();
                (*state).thread_exit_at_ns = now;
                if (*control).bound_tid == thread && others_go_on(control) {
                    (*state).bound_exit_at_ns = now;
                }
                debug!(&ctx, "thread {} of process {} exits", thread, process);
            }
        }
    }
    0
}

/// Puts the blocks that the exiting thread's reallocs hold back into LIVE: nothing says that they were freed.
#[inline(always)]
fn give_back(thread: u32) {
    let Some(inflight) = maps::INFLIGHT.get_ptr_mut(thread) else {
        return;
    };
    for depth in 0..MAX_NESTING {
        // SAFETY: the element belongs to this thread alone, and this thread is here.
        unsafe {
            let Some(call) = call_at(inflight, depth) else { return };
            block::put_back(call);
        }
    }
}

/// Whether the process of the exiting thread goes on without it. Where the kernel keeps that is not known, it is taken for
/// granted: a report then says too often that it may not have seen everything.
///
/// # Safety
/// `control` is the element of CONTROL.
#[inline(always)]
unsafe fn others_go_on(control: *const Control) -> bool {
    // SIGNAL_GROUP_EXIT, include/linux/sched/signal.h.
    const GROUP_EXIT: u32 = 4;
    // SAFETY: the caller's element.
    if unsafe { (*control).born_tick } == 0 {
        return true;
    }
    let Some(signal) = task::read::<u64>(task::current(), TaskField::Signal) else {
        return true;
    };
    let lives = task::read::<u32>(signal, TaskField::SignalLive);
    let flags = task::read::<u32>(signal, TaskField::SignalFlags);
    lives != Some(0) && flags.is_none_or(|flags| flags & GROUP_EXIT == 0)
}

/// Whether the running process, whose id this is, is the target: not another one that got its id after its end.
///
/// # Safety
/// `control` is the element of CONTROL.
#[inline(always)]
unsafe fn is_target(control: *const Control, process: u32) -> bool {
    // SAFETY: the caller's element.
    let (tgid, born) = unsafe { ((*control).tgid, (*control).born_tick) };
    tgid == process && (born == 0 || task::current_born_tick() == Some(born))
}
