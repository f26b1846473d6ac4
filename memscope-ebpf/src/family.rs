//! A followed target and its descendants: who of them lives, and what the follower is woken by.

/// Value of FAMILY, by process id: a living process of the family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Member {
    /// CLOCK_BOOTTIME nanoseconds of its birth; with the process id, who it is. Compared by [`born_tick`]: what the user
    /// side enters comes from procfs, which is no finer.
    pub born_ns: u64,
    /// CLOCK_MONOTONIC nanoseconds of its last exec since it was noted; 0: none.
    pub exec_at_ns: u64,
    /// Process that forked it; 0: it was there before the family was followed.
    pub parent: u32,
    /// 1: it runs in its parent's memory until it execs (vfork): what it allocates is its parent's.
    pub shares_memory: u32,
    /// Its command name at birth, later at its last exec.
    pub comm: [u8; 16],
}

const _: () = assert!(size_of::<Member>() == 40);

/// What one record of FAMILY_EVENTS says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum EventKind {
    /// A member forked.
    Born = 1,
    /// A member runs another program.
    Exec = 2,
    /// A member's last thread has ended; it is no longer in FAMILY.
    Ended = 3,
}

/// One record of FAMILY_EVENTS. Births and execs only wake: FAMILY itself tells of the living.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct FamilyEvent {
    /// [`EventKind`] as a number.
    pub kind: u32,
    /// Process id.
    pub pid: u32,
    /// What was noted of it.
    pub member: Member,
}

const _: () = assert!(size_of::<FamilyEvent>() == 48);

/// Element of FAMILY_TALLY: children not noted because FAMILY was full, or there was no memory for an element.
pub const UNNOTED: u32 = 0;
/// Element of FAMILY_TALLY: ends that nobody was told of because FAMILY_EVENTS was full.
pub const UNTOLD_ENDS: u32 = 1;

/// Places of what the programs read of the kernel's own structures; each kernel build has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum TaskField {
    /// `task_struct.pid`
    Pid,
    /// `task_struct.tgid`
    Tgid,
    /// `task_struct.real_parent`
    RealParent,
    /// `task_struct.mm`
    Mm,
    /// `task_struct.group_leader`
    GroupLeader,
    /// `task_struct.start_boottime`
    StartBoottime,
    /// `task_struct.signal`
    Signal,
    /// `signal_struct.live`: threads that have not begun to exit
    SignalLive,
    /// `signal_struct.flags`: whether all of them are to exit
    SignalFlags,
}

/// Number of [`TaskField`]s.
pub const TASK_FIELDS: usize = 9;

/// Nanoseconds of a clock tick as procfs counts them (USER_HZ, include/asm-generic/param.h).
pub const TICK_NS: u64 = 10_000_000;

/// A birth as `/proc/PID/stat` gives it.
#[must_use]
#[inline(always)]
pub const fn born_tick(born_ns: u64) -> u64 {
    born_ns / TICK_NS
}
