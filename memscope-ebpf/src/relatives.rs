//! Births, execs and ends in a followed family: noted for the command that attaches its members.
//!
//! A child belongs to the family from before it first runs, so no generation is too short-lived to be noted.

use aya_ebpf::bindings::{BPF_ANY, BPF_F_NO_PREALLOC};
use aya_ebpf::helpers::bpf_get_current_comm;
use aya_ebpf::helpers::generated::{bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::macros::{map, raw_tracepoint};
use aya_ebpf::maps::{Array, HashMap, RingBuf};
use aya_ebpf::programs::RawTracePointContext;
use memscope_ebpf::family::{EventKind, FamilyEvent, Member, TaskField, UNNOTED, UNTOLD_ENDS, born_tick};

use crate::atomic;
use crate::task::{self, read};

// include/uapi/linux/sched.h.
const CLONE_VM: u64 = 0x100;
const CLONE_THREAD: u64 = 0x1_0000;

/// The living members by process id. Sized at load.
#[map]
static FAMILY: HashMap<u32, Member> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

/// [`FamilyEvent`]s. Sized at load.
#[map]
static FAMILY_EVENTS: RingBuf = RingBuf::with_byte_size(4096, 0);

#[map]
static FAMILY_TALLY: Array<u64> = Array::with_max_entries(2, 0);

/// task_newtask: the new task is complete and has not run. Its flags tell a process from a thread.
#[raw_tracepoint(tracepoint = "task_newtask")]
pub fn relative_born(ctx: RawTracePointContext) -> i32 {
    let flags: u64 = ctx.arg(1);
    let Some((parent, _)) = current_member().filter(|_| flags & CLONE_THREAD == 0) else {
        return 0;
    };
    let task: u64 = ctx.arg(0);
    let (Some(pid), Some(born_ns)) = (
        read::<u32>(task, TaskField::Pid),
        read::<u64>(task, TaskField::StartBoottime),
    ) else {
        tally(UNNOTED);
        return 0;
    };
    let member = Member {
        born_ns,
        exec_at_ns: 0,
        parent,
        shares_memory: u32::from(flags & CLONE_VM != 0),
        comm: bpf_get_current_comm().unwrap_or_default(),
    };
    match FAMILY.insert(pid, member, u64::from(BPF_ANY)) {
        Ok(()) => {
            tell(EventKind::Born, pid, member);
        }
        Err(_) => tally(UNNOTED),
    }
    0
}

/// sched_process_exec: a member runs another program, in memory of its own.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn relative_exec(_ctx: RawTracePointContext) -> i32 {
    if let Some((pid, member)) = current_member() {
        // SAFETY: an element of the map; only this process, which has one thread now, writes to it.
        let member = unsafe {
            (*member).exec_at_ns = bpf_ktime_get_ns();
            (*member).shares_memory = 0;
            (*member).comm = bpf_get_current_comm().unwrap_or_default();
            *member
        };
        tell(EventKind::Exec, pid, member);
    }
    0
}

/// sched_process_exit: runs in every exiting thread, after it was taken off the count of living ones (do_exit,
/// kernel/exit.c).
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn relative_exit(_ctx: RawTracePointContext) -> i32 {
    let Some((pid, member)) = current_member() else {
        return 0;
    };
    let Some(signal) = read::<u64>(task::current(), TaskField::Signal) else {
        return 0;
    };
    if read::<u32>(signal, TaskField::SignalLive) != Some(0) {
        return 0;
    }
    // SAFETY: an element of the map, copied before it is removed.
    let member = unsafe { *member };
    // Two last threads can both see nobody left: one of them removes the element.
    if FAMILY.remove(pid).is_ok() && !tell(EventKind::Ended, pid, member) {
        tally(UNTOLD_ENDS);
    }
    0
}

/// The family's element for the process that runs.
#[inline(always)]
fn current_member() -> Option<(u32, *mut Member)> {
    // SAFETY: the helper takes nothing.
    let pid = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
    let member = FAMILY.get_ptr_mut(pid)?;
    // SAFETY: an element of the map; this word never changes.
    let noted = born_tick(unsafe { (*member).born_ns });
    (noted == task::current_born_tick()?).then_some((pid, member))
}

#[inline(always)]
fn tell(kind: EventKind, pid: u32, member: Member) -> bool {
    let Some(mut room) = FAMILY_EVENTS.reserve::<FamilyEvent>(0) else {
        return false;
    };
    room.write(FamilyEvent {
        kind: kind as u32,
        pid,
        member,
    });
    room.submit(0);
    true
}

#[inline(always)]
fn tally(element: u32) {
    if let Some(count) = FAMILY_TALLY.get_ptr_mut(element) {
        // SAFETY: an 8-aligned element of the map.
        unsafe { atomic::add(count, 1) };
    }
}
