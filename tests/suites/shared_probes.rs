//! Sessions that share their probes: each live set exact, whoever comes and goes, and nothing left behind.

use memscope_tests::difference::assert_same;
use memscope_tests::memscope::{Memscope, Output};
use memscope_tests::oracle::{Allocator, pair};
use memscope_tests::program::Program;
use memscope_tests::session::Session;
use memscope_tests::target::Target;
use memscope_tests::text;
use memscope_tests::workload::Kind;

/// Probes of a session's own, and parts in shared ones, as `attach -v` tells.
fn ways(attached: &Output) -> (u64, u64) {
    let line = attached
        .stderr
        .lines()
        .find(|line| line.contains("shared with other sessions"));
    let line = line.unwrap_or_else(|| panic!("does not say how it is attached\n{attached}"));
    let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [own, shared] = numbers[..] else { panic!("{line}") };
    (own, shared)
}

/// Attaches, and gives how.
fn attached<'a>(memscope: &'a Memscope, target: &Target) -> (Session<'a>, (u64, u64)) {
    let output = memscope.ok(&["attach", "-v", &target.pid().to_string()]);
    (Session::guard(memscope, target.pid()), ways(&output))
}

/// Detaches one of several.
fn detach(memscope: &Memscope, target: &Target, context: &str) {
    memscope.ok(&["detach", &target.pid().to_string()]);
    text::assert_restored(target.pid(), &[], context);
}

fn busy(seed: u64) -> Target {
    let seed = seed.to_string();
    Target::start(
        &Program::new("ledger_mt.c").build(),
        &["--seed", &seed, "--threads", "4"],
    )
}

/// Lets each work, all at once, and compares each with its ledger.
fn exact(targets: &mut [Target], sessions: &[&Session], context: &str) {
    for target in targets.iter_mut() {
        target.send("run 20000");
    }
    for target in targets.iter_mut() {
        let answer = target.line(memscope_tests::deadline::COMMAND);
        assert!(answer.starts_with("done "), "{answer}");
    }
    for (target, session) in targets.iter_mut().zip(sessions) {
        let database = session.print();
        assert_same(&target.ledger(), &database, context);
        assert_eq!(database.lost(), 0, "{context}: losses {:?}", database.losses);
    }
}

#[test]
fn every_session_is_exact_whoever_comes_and_goes_beside_it() {
    let memscope = Memscope {
        shared_probes: Some("auto"),
        ..Memscope::default()
    };
    let mut targets: Vec<Target> = (1..=4).map(busy).collect();
    let (first, own) = attached(&memscope, &targets[0]);
    assert_eq!(own.1, 0, "a lone session has its own");
    assert!(own.0 > 10);
    assert!(memscope.dirs.trace_events().is_empty());
    let (second, shared) = attached(&memscope, &targets[1]);
    assert_eq!(shared, (0, own.0), "the next has a part in a shared one for each");
    let (third, also) = attached(&memscope, &targets[2]);
    assert_eq!(also, shared);
    assert_eq!(memscope.dirs.trace_events().len() as u64, shared.1, "one for all");
    exact(&mut targets[..3], &[&first, &second, &third], "three sessions");
    // The one with probes of its own goes; those that share stay.
    let unrouted = |session: &Session| session.print().losses.get("unrouted").copied();
    assert_eq!(
        [unrouted(&second), unrouted(&third)],
        [None, None],
        "the first one's hits are not theirs"
    );
    detach(&memscope, &targets[0], "its own probes are gone");
    exact(&mut targets[1..3], &[&second, &third], "two that share");
    let (fourth, beside) = attached(&memscope, &targets[3]);
    assert_eq!(beside, shared);
    detach(&memscope, &targets[1], "its part is gone");
    exact(&mut targets[2..4], &[&third, &fourth], "one went, another came");
    memscope.ok(&["stop", &targets[2].pid().to_string()]);
    text::assert_restored(targets[2].pid(), &[], "stopped");
    exact(&mut targets[3..4], &[&fourth], "beside one that is stopped");
    memscope.ok(&["start", &targets[2].pid().to_string()]);
    assert!(third.print().collection.state == "collecting");
    detach(&memscope, &targets[2], "the last but one");
    detach(&memscope, &targets[3], "the last");
    memscope.assert_nothing_left();
    for target in targets {
        assert_eq!(target.quit().code, Some(0));
    }
}

/// As the oracle's suite compares them; that one, and every other, can be run whole with MEMSCOPE_SHARED_PROBES=always.
#[test]
fn real_programs_on_shared_probes_are_exact() {
    for (kind, allocator) in [(Kind::Redis, Allocator::AsShipped), (Kind::Cxx, Allocator::Tcmalloc)] {
        let row = pair::run_with(&Memscope::sharing(), kind, allocator, 3);
        println!("{row}");
        assert!(row.exact(), "{row}\n{}", row.difference);
    }
}

#[test]
fn what_a_child_takes_in_its_parents_memory_is_its_parents() {
    for memscope in [Memscope::new(), Memscope::sharing()] {
        let mut target = Target::start::<&str>(&Program::new("borrowed_memory.c").build(), &[]);
        let session = memscope.attach(&target);
        target.act("vfork 100 10007");
        let database = session.print();
        assert_same(&target.ledger(), &database, "a child by vfork");
        assert_eq!(
            (database.entries.len(), database.lost()),
            (100, 0),
            "{:?}",
            database.losses
        );
        session.detach();
        assert_eq!(target.quit().code, Some(0));
    }
}

/// Whose memory it runs in, nothing tells the programs any more: what it takes is not recorded, and every report says so.
#[test]
fn what_an_orphan_takes_in_a_targets_memory_is_told_as_a_loss() {
    let memscope = Memscope::sharing();
    let mut target = Target::start::<&str>(&Program::new("borrowed_memory.c").build(), &[]);
    let session = memscope.attach(&target);
    target.act("orphan 100 10007");
    let lost = session.print().losses;
    assert_eq!(lost.get("unrouted"), Some(&100), "{lost:?}");
    memscope.ok(&["stop", &target.pid().to_string()]);
    let kept = session.print().losses;
    assert_eq!(kept, lost, "a stop keeps what was lost");
    memscope.ok(&["start", &target.pid().to_string()]);
    target.act("orphan 10 10007");
    let pid = target.pid();
    assert_eq!(target.quit().code, Some(0));
    let more = memscope.print(pid).losses;
    assert_eq!(more.get("unrouted"), Some(&110), "{more:?}");
    // Its parts go when somebody comes, who leaves nothing when he goes; what is counted is still there to be told.
    let other = Target::blocks();
    drop(memscope.attach(&other));
    assert!(memscope.dirs.trace_events().is_empty());
    assert_eq!(memscope.print(pid).losses, more, "its end keeps what was lost");
    session.detach();
    memscope.assert_nothing_left();
}

#[test]
fn a_target_that_ends_leaves_nothing_shared_behind() {
    let memscope = Memscope::sharing();
    let mut other = Target::blocks();
    let beside = memscope.attach(&other);
    let ends = Target::blocks();
    let pid = ends.pid().to_string();
    let (session, (own, shared)) = attached(&memscope, &ends);
    assert!(own == 0 && shared > 10);
    let stats = memscope.ok(&["stats", &pid]);
    assert!(stats.stdout.contains(&format!("by {shared} probes shared")), "{stats}");
    assert_eq!(ends.quit().code, Some(0));
    other.act("take 100 10007");
    assert_same(&other.ledger(), &beside.print(), "beside one that has ended");
    // It is kept to be printed; its parts only make the kernel's list longer, and go when somebody comes.
    let of_it = |path: &std::path::PathBuf| {
        let path = path.to_string_lossy();
        path.contains("/shared-1/") && path.contains(&format!("/{pid}-"))
    };
    assert_eq!(
        memscope.dirs.pinned().iter().filter(|path| of_it(path)).count() as u64,
        shared
    );
    let third = Target::blocks();
    let (passing, _) = attached(&memscope, &third);
    assert!(!memscope.dirs.pinned().iter().any(of_it), "its parts are gone");
    memscope.ok(&["print", &pid, "--age", "0"]);
    memscope.ok(&["gc", "--older-than", "0"]);
    assert_eq!(memscope.run(&["stats", &pid]).code(), 4, "it was removed");
    drop(session);
    drop(passing);
    other.act("take 100 20011");
    assert_same(&other.ledger(), &beside.print(), "after the others' parts went");
    beside.detach();
    memscope.assert_nothing_left();
}

/// A hit of a target that is being detached is nobody's, and no loss of the others, whoever removes its route.
#[test]
fn a_busy_target_that_goes_is_no_loss_to_those_that_stay() {
    let memscope = Memscope::sharing();
    let mut stays = Target::blocks();
    let session = memscope.attach(&stays);
    let mut busy = Target::start::<&str>(&Program::new("busy.c").build(), &[]);
    let pid = busy.pid().to_string();
    busy.act("go");
    for _ in 0..4 {
        memscope.ok(&["attach", &pid]);
        std::thread::scope(|scope| {
            let detach = scope.spawn(|| memscope.ok(&["detach", &pid]));
            while !detach.is_finished() {
                memscope.ok(&["gc"]);
            }
        });
        text::assert_restored(busy.pid(), &[], "after detach");
    }
    busy.kill();
    stays.act("take 10 10007");
    let database = session.print();
    assert_same(&stays.ledger(), &database, "the one that stayed");
    assert_eq!(database.lost(), 0, "{:?}", database.losses);
    session.detach();
}

#[test]
fn probes_are_not_shared_where_that_is_unwanted() {
    let memscope = Memscope {
        shared_probes: Some("never"),
        ..Memscope::default()
    };
    let mut targets = [Target::blocks(), Target::blocks()];
    let (first, _) = attached(&memscope, &targets[0]);
    let (second, (own, shared)) = attached(&memscope, &targets[1]);
    assert!(own > 10 && shared == 0);
    for target in &mut targets {
        target.act("take 10 10007");
    }
    assert_same(&targets[0].ledger(), &first.print(), "the first");
    assert_same(&targets[1].ledger(), &second.print(), "the second");
    let odd = Memscope {
        shared_probes: Some("sometimes"),
        ..Memscope::default()
    };
    let output = odd.run(&["attach", &targets[0].pid().to_string()]).expect_code(2);
    assert!(output.one_error_line().contains("auto, always or never"), "{output}");
}
