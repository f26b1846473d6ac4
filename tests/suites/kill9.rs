//! kill -9 at every step: whatever the command was about to do, collection goes on or the remains can be removed.

use std::collections::BTreeSet;

use memscope_tests::deadline::{COMMAND, until};
use memscope_tests::difference::assert_same;
use memscope_tests::family::{self, child, ledger};
use memscope_tests::follower::Follower;
use memscope_tests::memscope::Memscope;
use memscope_tests::process;
use memscope_tests::report::{Database, Report};
use memscope_tests::session::Session;
use memscope_tests::stepper::{self, Steps};
use memscope_tests::target::Target;
use memscope_tests::text;
use memscope_tests::told::Told;

/// The steps to be killed at: each in a full run; otherwise those at which one kind of call follows another for the first
/// time, every fifteenth, and the last.
fn chosen(steps: &Steps) -> Vec<usize> {
    let all = std::env::var_os("MEMSCOPE_TEST_ALL").is_some();
    let calls = &steps.calls;
    let mut seen = BTreeSet::new();
    let mut first = |index: usize| seen.insert((index.checked_sub(1).map(|before| &calls[before]), &calls[index]));
    let chosen = |&index: &usize| first(index) || all || index % 15 == 0 || index + 1 == calls.len();
    (0..calls.len()).filter(chosen).map(|index| index + 1).collect()
}

fn whole_run(memscope: &Memscope, arguments: &[&str]) -> Steps {
    let steps = stepper::run(memscope.command(arguments), None);
    assert_eq!(
        steps.code,
        Some(0),
        "{arguments:?} under the stepper: {:?}",
        steps.calls
    );
    assert!(!steps.calls.is_empty(), "{arguments:?} makes no call worth a kill");
    steps
}

/// Kills `arguments` at step `step`; the run may be shorter than the one that was counted.
fn kill_at(memscope: &Memscope, arguments: &[&str], step: usize) -> String {
    let steps = stepper::run(memscope.command(arguments), Some(step));
    killed_text(arguments, &steps, step)
}

fn killed_text(arguments: &[&str], steps: &Steps, step: usize) -> String {
    let call = steps
        .calls
        .get(step - 1)
        .cloned()
        .unwrap_or_else(|| "the end".to_owned());
    format!("{arguments:?} killed at step {step}, before {call}")
}

/// Detaches what may be there, and demands that nothing is left, neither pinned nor in the target's text.
fn remove(memscope: &Memscope, target: &Target, context: &str) {
    let output = memscope.run(&["detach", &target.pid().to_string()]);
    assert!([0, 4].contains(&output.code()), "{context}\n{output}");
    let pinned = memscope.dirs.pinned();
    assert!(
        pinned.is_empty(),
        "{context}: still pinned after detach (exit {}): {pinned:#?}",
        output.code()
    );
    memscope.assert_nothing_left();
    text::assert_restored(target.pid(), &[], context);
}

#[test]
fn attach_killed_at_any_step_can_be_undone_or_repeated() {
    attach_killed(&Memscope::new(), 1);
}

#[test]
fn attach_of_a_session_that_shares_probes_killed_at_any_step_can_be_undone_or_repeated() {
    // A sample: most of its steps are the same.
    attach_killed(&Memscope::sharing(), 3);
}

/// Kills at every so many of the chosen steps.
fn attach_killed(memscope: &Memscope, every: usize) {
    let all = std::env::var_os("MEMSCOPE_TEST_ALL").is_some();
    let mut target = Target::blocks();
    let pid = target.pid().to_string();
    let steps = whole_run(memscope, &["attach", &pid]);
    remove(memscope, &target, "a whole run");
    let chosen: Vec<usize> = chosen(&steps)
        .into_iter()
        .step_by(if all { 1 } else { every })
        .collect();
    println!(
        "attach makes {} calls that change something; killed at {}",
        steps.calls.len(),
        chosen.len()
    );
    for (turn, &step) in chosen.iter().enumerate() {
        if all || turn % 2 == 0 {
            let context = kill_at(memscope, &["attach", &pid], step);
            target.act("take 3 10007");
            target.act("give 3 10007");
            remove(memscope, &target, &context);
        }
        if all || turn % 2 == 1 {
            let context = kill_at(memscope, &["attach", &pid], step);
            let session = memscope.attach(&target);
            target.act("take 5 10007");
            target.act("give 2 10007");
            assert_same(&target.ledger(), &session.print(), &context);
            session.detach();
            target.act("give 3 10007");
        }
    }
    assert_eq!(target.quit().code, Some(0));
}

#[test]
fn attach_killed_at_any_step_before_its_target_ends_is_removed_by_gc() {
    let memscope = Memscope::new();
    let first = Target::blocks();
    let pid = first.pid().to_string();
    let steps = whole_run(&memscope, &["attach", &pid]);
    remove(&memscope, &first, "a whole run");
    // A target for each step: a sample is enough beside the two tests above.
    let chosen = chosen(&steps);
    for &step in chosen.iter().step_by(4) {
        let target = Target::blocks();
        let pid = target.pid().to_string();
        let context = kill_at(&memscope, &["attach", &pid], step);
        target.quit();
        memscope.ok(&["gc", "--older-than", "0"]);
        let pinned = memscope.dirs.pinned();
        assert!(pinned.is_empty(), "{context}: still pinned after gc: {pinned:#?}");
        memscope.assert_nothing_left();
    }
}

#[test]
fn detach_killed_at_any_step_can_be_repeated() {
    detach_killed(&Memscope::new(), 1);
}

#[test]
fn detach_of_a_session_that_shares_probes_killed_at_any_step_can_be_repeated() {
    detach_killed(&Memscope::sharing(), 3);
}

fn detach_killed(memscope: &Memscope, every: usize) {
    let all = std::env::var_os("MEMSCOPE_TEST_ALL").is_some();
    let mut target = Target::blocks();
    let pid = target.pid().to_string();
    drop(Session::attach(memscope, target.pid()));
    memscope.ok(&["attach", &pid]);
    let steps = whole_run(memscope, &["detach", &pid]);
    memscope.assert_nothing_left();
    for step in chosen(&steps).into_iter().step_by(if all { 1 } else { every }) {
        memscope.ok(&["attach", &pid]);
        let context = kill_at(memscope, &["detach", &pid], step);
        target.act("take 1 10007");
        remove(memscope, &target, &context);
    }
    assert_eq!(target.quit().code, Some(0));
}

#[test]
fn print_and_stats_killed_at_any_step_disturb_no_collection() {
    let memscope = Memscope::new();
    let mut target = Target::blocks();
    let pid = target.pid().to_string();
    let session = memscope.attach(&target);
    target.act("take 50 10007");
    for arguments in [&["print", &pid, "--age", "0"][..], &["stats", &pid]] {
        let steps = whole_run(&memscope, arguments);
        for step in chosen(&steps) {
            let context = kill_at(&memscope, arguments, step);
            target.act("take 1 20011");
            assert_same(&target.ledger(), &session.print(), &context);
        }
    }
    session.detach();
}

#[test]
fn collection_goes_on_when_no_process_of_ours_is_left() {
    let memscope = Memscope::new();
    let mut target = Target::blocks();
    // Every command has exited by the time the target goes on: nothing of ours runs between attach and print.
    let session = memscope.attach(&target);
    target.act("take 1000 10007");
    target.act("give 500 10007");
    assert_same(&target.ledger(), &session.print(), "collected without a process");
    session.detach();
}

/// A family of two, and what a follower goes through with it: a child that was there before, its exec, the end of all.
struct Family {
    target: Target,
    child: u32,
    ended: bool,
}

impl Family {
    fn new() -> Self {
        let mut target = family::start();
        let child = child(&mut target, "", "fork");
        Self {
            target,
            child,
            ended: false,
        }
    }

    fn pid(&self) -> String {
        self.target.pid().to_string()
    }

    /// As far as the follower lives to see it.
    fn live(&mut self, told: &Told) {
        if !told.watches(self.child, 1) {
            return;
        }
        self.target.act("tell 0 exec");
        if !told.watches(self.child, 2) {
            return;
        }
        self.target.act("end 0");
        self.target.send("quit");
        self.ended = true;
    }

    /// Steps a follower through all of it, and kills it at `step`.
    fn followed(&mut self, memscope: &Memscope, step: Option<usize>) -> Steps {
        let command = memscope.command(&["attach", "--follow", &self.pid()]);
        stepper::run_while(command, step, |told| self.live(told))
    }

    /// Demands that both live and work, and that what is collected of them is exact.
    fn assert_unharmed(&mut self, memscope: &Memscope, context: &str) {
        self.target.act("take 3 10007");
        self.target.act("tell 0 take 2 20011");
        let truths = [self.target.ledger(), ledger(&mut self.target, "tell 0 ")];
        for (pid, truth) in [self.target.pid(), self.child].into_iter().zip(truths) {
            if let Some(database) = printed(memscope, pid, context)
                && database.collection.state == "collecting"
            {
                assert_same(&truth, &database, context);
            }
        }
    }

    fn end(mut self) {
        process::signal(self.child, libc::SIGKILL);
        self.target.kill();
    }
}

/// The database of a process, if there is one that is whole.
fn printed(memscope: &Memscope, pid: u32, context: &str) -> Option<Database> {
    let output = memscope.run(&["print", &pid.to_string(), "--age", "0", "--format", "json"]);
    assert!([0, 4].contains(&output.code()), "{context}\n{output}");
    (output.code() == 0).then(|| Report::parse(&output.stdout).only())
}

fn assert_nothing_pinned(memscope: &Memscope, context: &str) {
    let pinned = memscope.dirs.pinned();
    assert!(pinned.is_empty(), "{context}: still pinned: {pinned:#?}");
    memscope.assert_nothing_left();
}

#[test]
fn a_follower_killed_at_any_step_harms_no_member_and_leaves_nothing_that_cannot_be_removed() {
    let all = std::env::var_os("MEMSCOPE_TEST_ALL").is_some();
    let memscope = Memscope::new();
    let mut whole = Family::new();
    let arguments = ["attach", "--follow", &whole.pid()];
    let steps = whole.followed(&memscope, None);
    assert_eq!(
        steps.code,
        Some(0),
        "{arguments:?} under the stepper: {:?}",
        steps.calls
    );
    assert!(whole.ended, "it follows to the end");
    assert!(
        memscope
            .dirs
            .pinned()
            .iter()
            .all(|path| !path.to_string_lossy().contains("family-")),
        "a family that has ended is no longer noted: {:#?}",
        memscope.dirs.pinned()
    );
    memscope.ok(&["gc", "--older-than", "0"]);
    assert_nothing_pinned(&memscope, "a whole run");
    a_family_without_a_database_is_removed_by_detach(&memscope, &steps);
    let chosen = chosen(&steps);
    // Of steps like those that `attach` was killed at above, a sample; its last ones are the family's own.
    let every = if all { 1 } else { (chosen.len() / 8).max(1) };
    let chosen: Vec<usize> = chosen.into_iter().rev().step_by(every).collect();
    println!(
        "attach --follow makes {} calls that change something; killed at {}: {chosen:?}",
        steps.calls.len(),
        chosen.len()
    );
    for (turn, &step) in chosen.iter().enumerate() {
        let mut family = Family::new();
        let steps = family.followed(&memscope, Some(step));
        let context = killed_text(&arguments, &steps, step);
        if family.ended {
            memscope.ok(&["gc", "--older-than", "0"]);
            assert_nothing_pinned(&memscope, &context);
            continue;
        }
        family.assert_unharmed(&memscope, &context);
        match turn % 4 {
            0 => drop(memscope.ok(&["detach", "--all"])),
            1 => {
                for pid in [family.target.pid(), family.child] {
                    let output = memscope.run(&["detach", &pid.to_string()]);
                    assert!([0, 4].contains(&output.code()), "{context}\n{output}");
                }
            }
            2 => taken_up(&memscope, &mut family, &context),
            _ => {
                family.end();
                memscope.ok(&["gc", "--older-than", "0"]);
                assert_nothing_pinned(&memscope, &context);
                continue;
            }
        }
        assert_nothing_pinned(&memscope, &context);
        for pid in [family.target.pid(), family.child] {
            text::assert_restored(pid, &[], &context);
        }
        family.assert_unharmed(&memscope, &context);
        family.end();
    }
}

/// Killed when the family's programs, the first of all, are attached and pinned.
fn a_family_without_a_database_is_removed_by_detach(memscope: &Memscope, whole: &Steps) {
    let mut calls = whole.calls.iter();
    for _ in 0..3 {
        calls.by_ref().find(|call| *call == "BPF_RAW_TRACEPOINT_OPEN");
    }
    let attached = whole.calls.len() - calls.len();
    let mut family = Family::new();
    family.followed(memscope, Some(attached + 2));
    let of_family = |path: &std::path::PathBuf| path.to_string_lossy().contains("/family-");
    let pinned = memscope.dirs.pinned();
    assert!(!pinned.is_empty() && pinned.iter().all(of_family), "{pinned:#?}");
    let output = memscope.ok(&["detach", &family.pid()]);
    output.expect_told("Its children are no longer followed; it has no Memory Scope database");
    assert_nothing_pinned(memscope, "a family without a database");
    family.end();
}

/// The next follower finds what the killed one left, and all are watched.
fn taken_up(memscope: &Memscope, family: &mut Family, context: &str) {
    let follower = Follower::start(memscope, family.target.pid(), &[]);
    for pid in [family.target.pid(), family.child] {
        until(COMMAND, &format!("{context}: {pid} to be watched"), || {
            printed(memscope, pid, context).filter(|database| database.collection.state == "collecting")
        });
    }
    family.target.act("take 4 30011");
    family.target.act("tell 0 take 5 30011");
    for (pid, count) in [(family.target.pid(), 4), (family.child, 5)] {
        assert_eq!(memscope.print(pid).of_size(30_011).len(), count, "{context}: {pid}");
    }
    follower.interrupt();
    memscope.ok(&["detach", "--all"]);
}
