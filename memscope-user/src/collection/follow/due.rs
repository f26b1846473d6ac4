//! When a member of a followed family is due to be attached.

use std::time::{Duration, Instant};

use memscope_ebpf::family::Member;

use crate::database::clock::monotonic_ns;
use crate::target::loader::Loading;

/// A child that forked this short ago may be about to exec, which would make an attach to it vain.
const SETTLE: Duration = Duration::from_millis(2);
/// For so long a program's loader is waited for; one that is not done by then may be stopped.
const LOADER_PATIENCE: Duration = Duration::from_secs(5);
/// A child whose program keeps nothing for debuggers is given this time to load.
const UNTOLD_PATIENCE: Duration = Duration::from_millis(100);
/// An attach that came to nothing is tried again after twice the time, up to a second.
const MOST_DOUBLINGS: u32 = 9;

/// What is known of a member.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// When it, or the program it runs now, was first seen.
    pub since: Instant,
    /// `exec_at_ns` of the program it runs.
    pub program: u64,
    /// What has been done.
    pub watch: Watch,
    /// It was no longer among the living at the last look.
    pub gone: bool,
    /// Attaches that came to nothing because it was ending, or changing its program.
    vain: u32,
    /// Not to be tried again before.
    not_before: Instant,
}

/// What has been done with a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// To be attached.
    Due,
    /// Attached.
    On,
    /// It cannot be; not tried again before its next exec.
    Refused,
}

impl Seen {
    /// One seen for the first time, or for the first time with this program.
    pub fn new(program: u64, watch: Watch) -> Self {
        let now = Instant::now();
        Self {
            since: now,
            program,
            watch,
            gone: false,
            vain: 0,
            not_before: now,
        }
    }

    /// The same after an attach.
    pub fn after(self, watch: Watch) -> Self {
        if watch != Watch::Due {
            return Self { watch, ..self };
        }
        Self {
            vain: self.vain.saturating_add(1),
            not_before: Instant::now() + SETTLE * (1 << self.vain.min(MOST_DOUBLINGS)),
            ..self
        }
    }
}

/// What is to be done with a member now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Attach it.
    Attach,
    /// Look again after this time.
    Later(Duration),
    /// Nothing before something happens to it.
    Nothing,
}

/// What is to be done; `loading` looks how far its loader is.
pub fn next(seen: &Seen, member: &Member, loading: impl FnOnce() -> Option<Loading>) -> Next {
    next_after(seen, member, seen.since.elapsed(), loading)
}

fn next_after(seen: &Seen, member: &Member, waited: Duration, loading: impl FnOnce() -> Option<Loading>) -> Next {
    // A child in its parent's memory is watched as its parent is; what it execs will be its own.
    if seen.watch != Watch::Due || member.shares_memory != 0 {
        return Next::Nothing;
    }
    let rest = seen.not_before.saturating_duration_since(Instant::now());
    if !rest.is_zero() {
        return Next::Later(rest);
    }
    if member.exec_at_ns == 0 && member.parent != 0 && waited < SETTLE {
        return Next::Later(SETTLE - waited);
    }
    // The longer it lasts the less it matters.
    let pace = (waited / 8).clamp(Duration::from_micros(500), Duration::from_millis(50));
    match loading() {
        Some(Loading::Underway) if waited < LOADER_PATIENCE => Next::Later(pace),
        Some(Loading::Untold) if waited < UNTOLD_PATIENCE => Next::Later(pace),
        _ => Next::Attach,
    }
}

/// For how long a member, or the program it runs, has been there.
pub fn age(member: &Member) -> Duration {
    let since = |now: u64, then: u64| Duration::from_nanos(now.saturating_sub(then));
    if member.exec_at_ns != 0 {
        return since(monotonic_ns(), member.exec_at_ns);
    }
    let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let now = u64::try_from(boot.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(boot.tv_nsec).unwrap_or(0);
    since(now, member.born_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORKED: Member = Member {
        born_ns: 1,
        exec_at_ns: 0,
        parent: 7,
        shares_memory: 0,
        comm: [0; 16],
    };
    const EXECED: Member = Member {
        exec_at_ns: 9,
        ..FORKED
    };

    fn after(milliseconds: u64, member: &Member, loading: Loading) -> Next {
        let seen = Seen::new(member.exec_at_ns, Watch::Due);
        next_after(&seen, member, Duration::from_millis(milliseconds), || Some(loading))
    }

    #[test]
    fn a_forked_child_is_given_a_moment_in_which_it_may_exec() {
        assert!(matches!(after(0, &FORKED, Loading::Done), Next::Later(_)));
        assert_eq!(after(2, &FORKED, Loading::Done), Next::Attach);
        let old = Member { parent: 0, ..FORKED };
        assert_eq!(after(0, &old, Loading::Done), Next::Attach);
    }

    #[test]
    fn a_new_program_is_attached_when_its_loader_is_done_and_not_waited_for_without_end() {
        assert!(matches!(after(0, &EXECED, Loading::Underway), Next::Later(_)));
        assert_eq!(after(0, &EXECED, Loading::Done), Next::Attach);
        assert_eq!(after(0, &EXECED, Loading::Static), Next::Attach);
        assert!(matches!(after(50, &EXECED, Loading::Untold), Next::Later(_)));
        assert_eq!(after(200, &EXECED, Loading::Untold), Next::Attach);
        assert_eq!(after(6000, &EXECED, Loading::Underway), Next::Attach);
    }

    #[test]
    fn a_vfork_child_is_left_alone_until_it_execs() {
        let vforked = Member {
            shares_memory: 1,
            ..FORKED
        };
        assert_eq!(after(9000, &vforked, Loading::Done), Next::Nothing);
    }

    #[test]
    fn what_came_to_nothing_is_tried_again_later_and_later() {
        let mut seen = Seen::new(0, Watch::Due);
        let mut last = Duration::ZERO;
        for _ in 0..5 {
            seen = seen.after(Watch::Due);
            let Next::Later(rest) = next_after(&seen, &FORKED, Duration::from_secs(1), || Some(Loading::Done)) else {
                panic!("it is tried at once");
            };
            assert!(rest > last, "{rest:?} after {last:?}");
            last = rest;
        }
        assert_eq!(seen.after(Watch::On).watch, Watch::On);
    }
}
