//! A database's life in the kernel: what the programs are told, what has happened to the target, the next free numbers.

/// Array element 0 of CONTROL: what the user side tells the programs. Kept apart from [`State`] because the user side can
/// only write an element whole, and would undo what the programs count meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Control {
    /// Thread group id of the target, initial PID namespace.
    pub tgid: u32,
    /// 1: the programs record; 0: they return at once. The programs clear it, at an exec and when the budget stops collection.
    pub collecting: u32,
    /// Thread the perf events are bound to: the kernel takes the probes out when it exits.
    pub bound_tid: u32,
    /// What happens when the budget is exceeded ([`OverBudget`] as a number).
    pub over_budget: u32,
    /// Mean distance of two samples, bytes allocated, as the user asked for it; 0: every block is recorded, unless the budget
    /// has brought sampling on ([`sample_bytes`]).
    pub sample_bytes: u64,
    /// CPU nanoseconds that probes may cost the target in one second; 0: no budget.
    pub budget_ns: u64,
    /// What they cost here. Only looked at under a budget.
    pub prices: Prices,
    /// Birth of the target, in ticks of CLOCK_BOOTTIME ([`crate::family::born_tick`]): its id may be given to another
    /// process after its end. 0: where the kernel keeps births is not known, and the id alone must do.
    pub born_tick: u64,
}

const _: () = assert!(size_of::<Control>() == 48);

/// What a hit of a probe costs the target, CPU nanoseconds, as measured on this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Prices {
    /// One at an instruction that the kernel emulates, or at a return, with the program that it runs.
    pub hit_ns: u32,
    /// How much more one costs at an instruction that the kernel single-steps.
    pub step_ns: u32,
}

/// What the programs do when a target's probes cost it more than its budget allows.
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

/// Mean distance of two samples, bytes; 0: every block is recorded. From CONTROL, what was asked for and what is to happen
/// over the budget; from STATE, when that was exceeded: a database's sampling lies where only the programs write, or a
/// command that reads CONTROL and writes it back would end a sampling that began in between.
#[must_use]
#[inline(always)]
pub const fn sample_bytes(asked_for: u64, over_budget: u32, over_budget_at_ns: u64) -> u64 {
    if samples_by_budget(asked_for, over_budget, over_budget_at_ns) {
        OVER_BUDGET_SAMPLE_BYTES
    } else {
        asked_for
    }
}

/// Whether it is the budget that has brought sampling on.
#[must_use]
#[inline(always)]
pub const fn samples_by_budget(asked_for: u64, over_budget: u32, over_budget_at_ns: u64) -> bool {
    asked_for == 0 && over_budget == OverBudget::Sample as u32 && over_budget_at_ns != 0
}

/// Array element 0 of STATE: written by the programs, only read by the user side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct State {
    /// CLOCK_MONOTONIC nanoseconds of the target's first exec since the database was created; 0: none.
    pub exec_at_ns: u64,
    /// CLOCK_MONOTONIC nanoseconds of the last exit of one of the target's threads; 0: none.
    pub thread_exit_at_ns: u64,
    /// CLOCK_MONOTONIC nanoseconds of the exit of the thread the probes are bound to, if others went on: nothing is seen of
    /// them. 0: it lives, or it ended with its process.
    pub bound_exit_at_ns: u64,
    /// Last entry number given out.
    pub last_number: u64,
    /// Site indices given out, the unused ones of lost races included; past the capacity it only counts.
    pub sites_used: u64,
    /// Frames given out; past the capacity it only counts.
    pub frames_used: u64,
    /// CLOCK_MONOTONIC nanoseconds of the moment at which the budget was exceeded; 0: it was not, or collection was started
    /// again since it was stopped for that.
    pub over_budget_at_ns: u64,
    /// CPU nanoseconds spent in the present second, and when it began (CLOCK_MONOTONIC nanoseconds): only kept under a budget.
    pub window_spent_ns: u64,
    /// See [`State::window_spent_ns`].
    pub window_from_ns: u64,
}

const _: () = assert!(size_of::<State>() == 72);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_writes_to_control_ends_no_sampling_that_the_budget_brought_on() {
        // Read before, written after the budget was exceeded.
        let control = Control {
            collecting: 1,
            over_budget: OverBudget::Sample as u32,
            budget_ns: 50_000_000,
            ..Control::default()
        };
        let state = State {
            over_budget_at_ns: 77,
            ..State::default()
        };
        let now = |control: Control, state: State| {
            sample_bytes(control.sample_bytes, control.over_budget, state.over_budget_at_ns)
        };
        assert_eq!(now(control, State::default()), 0);
        let stopped = Control {
            collecting: 0,
            ..control
        };
        assert_eq!(now(stopped, state), OVER_BUDGET_SAMPLE_BYTES);
    }

    #[test]
    fn sampling_that_was_asked_for_is_not_the_budgets() {
        for over in [OverBudget::Ignore, OverBudget::Stop, OverBudget::Sample] {
            assert_eq!(sample_bytes(4096, over as u32, 77), 4096);
            assert!(!samples_by_budget(4096, over as u32, 77));
        }
        assert_eq!(sample_bytes(0, OverBudget::Stop as u32, 77), 0);
    }
}
