//! The one record of a database's life in the kernel: what has happened to the target, and the next free numbers.

/// Array element 0 of STATE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct State {
    /// Thread group id of the target, initial PID namespace. Set before the first probe is attached.
    pub tgid: u32,
    /// 1: the programs record; 0: they return at once.
    pub collecting: u32,
    /// CLOCK_MONOTONIC nanoseconds of the target's first exec since the database was created; 0: none.
    pub exec_at_ns: u64,
    /// CLOCK_MONOTONIC nanoseconds of the last exit of one of the target's threads; 0: none.
    pub thread_exit_at_ns: u64,
    /// CLOCK_MONOTONIC nanoseconds of the exit of the thread the probes are bound to; 0: it lives.
    pub leader_exit_at_ns: u64,
    /// Last entry number given out.
    pub last_number: u64,
    /// Last site index given out.
    pub last_site: u32,
    /// Frames given out.
    pub frames_used: u32,
}

const _: () = assert!(size_of::<State>() == 48);
