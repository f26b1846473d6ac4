//! `attach --follow`: children, their children and what they exec, each exact in a database of its own.

use memscope_tests::deadline::{EXIT, until};
use memscope_tests::difference::assert_same;
use memscope_tests::family::{self, child, ledger};
use memscope_tests::follower::Follower;
use memscope_tests::memscope::Memscope;
use memscope_tests::process;
use memscope_tests::report::number;

fn detach_all(memscope: &Memscope) {
    memscope.ok(&["detach", "--all"]);
    memscope.assert_nothing_left();
}

#[test]
fn each_forked_child_has_an_exact_database_of_its_own_and_the_parents_stays_exact() {
    let memscope = Memscope::new();
    let mut target = family::start();
    let follower = Follower::start(&memscope, target.pid(), &[]);
    target.act("fill");
    let mut pids = Vec::new();
    for _ in 0..3 {
        pids.push(child(&mut target, "", "fork worker"));
    }
    for (number, pid) in pids.iter().enumerate() {
        follower.watches(*pid, 1);
        target.act(&format!("tell {number} take {} {}", 10 + number, 10_007 + number));
        target.act(&format!("tell {number} give_inherited"));
    }
    target.act("take 5 20011");
    for (number, pid) in pids.iter().enumerate() {
        let truth = ledger(&mut target, &format!("tell {number} "));
        assert_eq!(truth.len(), 10 + number);
        let database = memscope.print(*pid);
        assert_eq!(database.target.comm, "worker", "the name it has given itself");
        assert_same(&truth, &database, "a forked child");
    }
    assert_same(&target.ledger(), &memscope.print(target.pid()), "the parent");
    let told = follower.interrupt();
    assert!(
        told.iter().any(|line| line.contains("3 children were attached")),
        "{told:#?}"
    );
    // Collection goes on without the follower.
    target.act("tell 1 take 1 30011");
    assert_eq!(memscope.print(pids[1]).of_size(30_011).len(), 1);
    detach_all(&memscope);
    assert_eq!(target.quit().code, Some(0));
}

#[test]
fn children_from_before_and_grandchildren_are_followed_and_threads_are_no_children() {
    let memscope = Memscope::new();
    let mut target = family::start();
    let before = child(&mut target, "", "fork");
    let follower = Follower::start(&memscope, target.pid(), &[]);
    follower.watches(before, 1);
    let grandchild = child(&mut target, "tell 0 ", "fork");
    let great_grandchild = child(&mut target, "tell 0 tell 0 ", "fork");
    follower.watches(grandchild, 1);
    follower.watches(great_grandchild, 1);
    target.act("thread");
    target.act("tell 0 take 3 10007");
    target.act("tell 0 tell 0 take 4 10007");
    target.act("tell 0 tell 0 tell 0 take 5 10007");
    for (pid, whom) in [
        (before, "tell 0 "),
        (grandchild, "tell 0 tell 0 "),
        (great_grandchild, "tell 0 tell 0 tell 0 "),
    ] {
        assert_same(&ledger(&mut target, whom), &memscope.print(pid), whom);
    }
    assert_same(
        &target.ledger(),
        &memscope.print(target.pid()).without_the_linkers_own(),
        "the parent, with a block of a thread",
    );
    let told = follower.interrupt();
    let watched = told.iter().filter(|line| line.contains("watched since")).count();
    assert_eq!(watched, 3, "no thread is taken for a child: {told:#?}");
    detach_all(&memscope);
}

#[test]
fn what_a_child_execs_is_attached_anew_however_it_was_born() {
    let memscope = Memscope::new();
    let mut target = family::start();
    let follower = Follower::start(&memscope, target.pid(), &[]);
    let (forked, spawned) = (child(&mut target, "", "fork"), child(&mut target, "", "spawn"));
    follower.watches(forked, 1);
    follower.watches(spawned, 1);
    target.act("tell 0 take 3 10007");
    target.act("tell 1 take 4 20011");
    assert_same(
        &ledger(&mut target, "tell 1 "),
        &memscope.print(spawned),
        "a spawned child",
    );
    target.act("tell 0 exec");
    target.act("tell 1 exec");
    follower.watches(forked, 2);
    follower.watches(spawned, 2);
    target.act("tell 0 take 5 30011");
    target.act("tell 1 take 6 30011");
    for (number, pid) in [forked, spawned].into_iter().enumerate() {
        let database = memscope.print(pid);
        assert_eq!(database.collection.state, "collecting", "{database:#?}");
        let whom = format!("tell {number} ");
        let truth = ledger(&mut target, &whom);
        assert_eq!(truth.len(), 5 + number);
        assert_same(&truth, &database, "what a child has exec'd");
    }
    follower.interrupt();
    detach_all(&memscope);
    assert_eq!(target.quit().code, Some(0));
}

#[test]
fn the_target_itself_is_attached_anew_when_it_execs() {
    let memscope = Memscope::new();
    let mut target = family::start();
    let follower = Follower::start(&memscope, target.pid(), &[]);
    target.act("take 2 10007");
    assert_eq!(target.ask("exec"), "ready");
    follower.watches(target.pid(), 1);
    target.act("take 3 20011");
    assert_same(&target.ledger(), &memscope.print(target.pid()), "the new program");
    let heir = child(&mut target, "", "fork");
    follower.watches(heir, 1);
    follower.interrupt();
    detach_all(&memscope);
}

#[test]
fn children_that_end_too_soon_are_counted_and_named() {
    let memscope = Memscope::new();
    let mut target = family::start();
    let follower = Follower::start(&memscope, target.pid(), &[]);
    target.act("take 5 10007");
    target.act("brief 50");
    let database = memscope.print(target.pid());
    assert_same(&target.ledger(), &database, "the parent of short lives");
    assert_eq!(database.lost(), 0, "{database:#?}");
    let told = follower.interrupt();
    let closing = told
        .iter()
        .find(|line| line.contains("children were attached"))
        .unwrap_or_else(|| panic!("no closing message: {told:#?}"));
    let attached: usize = number_before(closing, " children were attached");
    let missed: usize = number_before(closing, " ended before they could be");
    assert_eq!(attached + missed, 50, "every one is accounted for: {closing}");
    assert!(
        closing.contains("mayfly (") || closing.contains("family ("),
        "{closing}"
    );
    detach_all(&memscope);
}

fn number_before(line: &str, text: &str) -> usize {
    let before = line.split(text).next().filter(|before| before.len() < line.len());
    before
        .and_then(|before| before.rsplit(' ').next())
        .and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no number before {text:?} in {line:?}"))
}

#[test]
fn a_killed_follower_loses_nothing_and_the_next_takes_up_what_was_noted() {
    let memscope = Memscope::new();
    let mut target = family::start();
    let follower = Follower::start(&memscope, target.pid(), &[]);
    let first = child(&mut target, "", "fork");
    follower.watches(first, 1);
    target.act("tell 0 take 3 10007");
    follower.kill();
    target.act("tell 0 take 4 20011");
    // Born while nobody follows; the parent of the second has ended by the time somebody does.
    let second = child(&mut target, "", "fork");
    let orphan = child(&mut target, "tell 1 ", "fork");
    target.act("tell 1 tell 0 stay");
    process::signal(second, libc::SIGKILL);
    until(EXIT, "a child to be killed", || {
        (process::state(second) == Some('Z')).then_some(())
    });
    assert_same(
        &ledger(&mut target, "tell 0 "),
        &memscope.print(first),
        "a child whose follower was killed",
    );
    let follower = Follower::start(&memscope, target.pid(), &[]);
    follower.watches(orphan, 1);
    let told = follower.interrupt();
    let closing = told.join("\n");
    assert!(closing.contains("1 children were attached"), "{closing}");
    assert!(
        closing.contains("1 ended before they could be: family (1)"),
        "{closing}"
    );
    assert_eq!(memscope.print(first).entries.len(), 7);
    process::signal(orphan, libc::SIGKILL);
    detach_all(&memscope);
}

#[test]
fn children_have_their_parents_settings() {
    let memscope = Memscope::new();
    let mut target = family::start();
    let settings = ["--max-blocks", "64", "--regions", "--sample-bytes", "1"];
    let follower = Follower::start(&memscope, target.pid(), &settings);
    let forked = child(&mut target, "", "fork");
    follower.watches(forked, 1);
    target.act("tell 0 exec");
    follower.watches(forked, 2);
    target.act("tell 0 take 100 10007");
    let stats = memscope.ok(&["stats", &forked.to_string(), "--format", "json"]).stdout;
    assert!(
        number(&stats, "live_full") > 0,
        "the child's database is as small: {stats}"
    );
    let file = memscope
        .dirs
        .session_files()
        .into_iter()
        .find(|path| path.ends_with("session.json") && path.to_string_lossy().contains(&format!("/{forked}-")))
        .expect("the child's session");
    let file = std::fs::read_to_string(file).expect("it is read");
    for setting in ["\"live\":64", "\"sample_bytes\":1", "\"unwatched_ms\":"] {
        assert!(file.contains(setting), "{setting} in {file}");
    }
    assert!(!file.contains("\"regions\":0"), "{file}");
    follower.interrupt();
    detach_all(&memscope);
}

#[test]
fn more_children_than_allowed_are_refused_in_words() {
    let memscope = Memscope::new();
    let mut target = family::start();
    let follower = Follower::start(&memscope, target.pid(), &["--max-children", "2"]);
    let pids: Vec<u32> = (0..3).map(|_| child(&mut target, "", "fork")).collect();
    follower.watches(pids[0], 1);
    follower.watches(pids[1], 1);
    let refusal = follower.wait_for(&[&format!("process {} (", pids[2]), "not watched"]);
    assert!(refusal.contains("--max-children"), "{refusal}");
    // A database that is removed makes room.
    memscope.ok(&["detach", &pids[0].to_string()]);
    let fourth = child(&mut target, "", "fork");
    follower.watches(fourth, 1);
    let told = follower.interrupt();
    assert!(told.iter().any(|line| line.contains("1 could not be")), "{told:#?}");
    detach_all(&memscope);
}

#[test]
fn more_descendants_than_can_be_noted_are_counted_and_told_at_once() {
    // FAMILY_CAPACITY of memscope-ebpf/src/limits.rs, less the target itself.
    const NOTED: usize = 4095;
    const OVER: usize = 70;
    let memscope = Memscope::new();
    let mut target = family::start();
    let follower = Follower::start(&memscope, target.pid(), &[]);
    target.act(&format!("crowd {}", NOTED + OVER));
    let told = follower.wait_for(&["descendants could not be noted"]);
    assert!(told.contains("4096 lived at once"), "{told}");
    target.act("disperse");
    // Nothing stays taken by those who have gone.
    let forked = child(&mut target, "", "fork");
    follower.watches(forked, 1);
    target.act("take 3 10007");
    target.act("tell 0 take 2 20011");
    assert_same(&target.ledger(), &memscope.print(target.pid()), "the parent of a crowd");
    assert_same(
        &ledger(&mut target, "tell 0 "),
        &memscope.print(forked),
        "a child after it",
    );
    let told = follower.interrupt();
    let closing = told.iter().find(|line| line.contains("children were attached"));
    let closing = closing.unwrap_or_else(|| panic!("no closing message: {told:#?}"));
    assert_eq!(number_before(closing, " children were attached"), 1);
    assert_eq!(number_before(closing, " were not even noted"), OVER, "{closing}");
    detach_all(&memscope);
    assert_eq!(target.quit().code, Some(0));
}

#[test]
fn following_ends_with_the_family_or_when_its_target_is_detached() {
    let memscope = Memscope::new();
    let mut target = family::start();
    let follower = Follower::start(&memscope, target.pid(), &[]);
    let forked = child(&mut target, "", "fork");
    follower.watches(forked, 1);
    let pid = target.pid().to_string();
    let second = memscope.run(&["attach", "--follow", &pid]);
    assert_eq!(second.code(), 2, "{second}");
    assert!(second.one_error_line().contains("followed by another"), "{second}");
    target.act("tell 0 take 2 10007");
    target.act("end 0");
    target.quit();
    let told = follower.ending();
    assert!(told.iter().any(|line| line.contains("have ended")), "{told:#?}");
    assert_eq!(memscope.print(forked).of_size(10_007).len(), 2, "its database stays");
    detach_all(&memscope);

    let target = family::start();
    let follower = Follower::start(&memscope, target.pid(), &[]);
    memscope.ok(&["detach", &target.pid().to_string()]);
    let told = follower.ending();
    assert!(told.iter().any(|line| line.contains("no longer followed")), "{told:#?}");
    memscope.assert_nothing_left();
}

#[test]
fn descendants_of_a_target_that_has_ended_are_followed_on_and_taken_up_again() {
    let memscope = Memscope::new();
    let mut target = family::start();
    let pid = target.pid();
    let follower = Follower::start(&memscope, pid, &["--max-blocks", "4096"]);
    let parent = child(&mut target, "", "fork");
    follower.watches(parent, 1);
    target.act("tell 0 stay_and_fork");
    target.kill();
    follower.kill();
    // Its child is born when the target has ended and nobody follows.
    process::signal(parent, libc::SIGUSR1);
    until(EXIT, "a child to be born", || {
        let list = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
        list.contains(' ').then_some(())
    });
    let follower = Follower::take_up(&memscope, pid);
    follower.wait_for(&[&format!("child of {parent}"), "watched since"]);
    process::signal(parent, libc::SIGKILL);
    let told = follower.interrupt();
    assert!(
        told.iter().any(|line| line.contains("following its descendants")),
        "{told:#?}"
    );
    for line in told.iter().filter(|line| line.contains(&format!("child of {parent}"))) {
        let orphan: u32 = line.split(' ').nth(1).and_then(|pid| pid.parse().ok()).expect("a pid");
        let stats = memscope.ok(&["stats", &orphan.to_string()]).stdout;
        assert!(stats.contains("4096 blocks at most"), "{stats}");
        process::signal(orphan, libc::SIGKILL);
    }
    detach_all(&memscope);
}
