//! A database's life in the kernel: what the programs are told, what has happened to the target, the next free numbers.

/// Array element 0 of CONTROL: what the user side tells the programs. Kept apart from [`State`] because the user side can
/// only write an element whole, and would undo what the programs count meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Control {
    /// Thread group id of the target, initial PID namespace.
    pub tgid: u32,
    /// 1: the programs record; 0: they return at once. The exec program clears it.
    pub collecting: u32,
    /// Thread the perf events are bound to: the kernel takes the probes out when it exits.
    pub bound_tid: u32,
    /// What happens when the budget is exceeded ([`OverBudget`] as a number).
    pub over_budget: u32,
    /// Mean distance of two samples, bytes allocated; 0: every block is recorded. The programs set it under
    /// [`OverBudget::Sample`].
    pub sample_bytes: u64,
    /// Returns of allocating calls in one second that the budget allows; 0: no budget.
    pub calls_per_second: u64,
    /// Birth of the target, in ticks of CLOCK_BOOTTIME ([`crate::family::born_tick`]): its id may be given to another
    /// process after its end. 0: where the kernel keeps births is not known, and the id alone must do.
    pub born_tick: u64,
}

const _: () = assert!(size_of::<Control>() == 40);

/// What the programs do when a target calls more often than its budget allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum OverBudget {
    /// Go on.
    #[default]
    Ignore = 0,
    /// Stop collecting: the programs return at once from then on.
    Stop = 1,
    /// Go on by sampling, one block in [`OVER_BUDGET_SAMPLE_BYTES`].
    Sample = 2,
}

/// Mean distance of two samples under [`OverBudget::Sample`].
pub const OVER_BUDGET_SAMPLE_BYTES: u64 = 512 << 10;

/// Array element 0 of STATE: written by the programs, only read by the user side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct State {
    /// CLOCK_MONOTONIC nanoseconds of the target's first exec since the database was created; 0: none.
    pub exec_at_ns: u64,
    /// CLOCK_MONOTONIC nanoseconds of the last exit of one of the target's threads; 0: none.
    pub thread_exit_at_ns: u64,
    /// CLOCK_MONOTONIC nanoseconds of the exit of the thread the probes are bound to; 0: it lives.
    pub bound_exit_at_ns: u64,
    /// Last entry number given out.
    pub last_number: u64,
    /// Site indices given out, the unused ones of lost races included; past the capacity it only counts.
    pub sites_used: u64,
    /// Frames given out; past the capacity it only counts.
    pub frames_used: u64,
    /// CLOCK_MONOTONIC nanoseconds of the moment at which the budget was exceeded; 0: it was not.
    pub over_budget_at_ns: u64,
    /// Calls in the present second, and when it began (CLOCK_MONOTONIC nanoseconds): only kept under a budget.
    pub window_calls: u64,
    /// See [`State::window_calls`].
    pub window_from_ns: u64,
}

const _: () = assert!(size_of::<State>() == 72);
