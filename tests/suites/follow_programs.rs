//! `attach --follow` of real programs: git's helpers, nginx's workers, redis-server's background save.

use std::process::Command;

use memscope_tests::deadline::{EXIT, REPLY, until};
use memscope_tests::follower::Follower;
use memscope_tests::memscope::Memscope;
use memscope_tests::process;
use memscope_tests::report::number;
use memscope_tests::target::Target;
use memscope_tests::workload::{Folder, Kind, Running, nginx, redis};

fn detach_all(memscope: &Memscope) {
    memscope.ok(&["detach", "--all"]);
    memscope.assert_nothing_left();
}

#[test]
fn gits_helpers_are_followed() {
    let memscope = Memscope::new();
    // A shell whose children are git, and theirs.
    let folder = Folder::new();
    let mut shell = Command::new("/bin/sh");
    shell.current_dir(folder.path()).env("HOME", folder.path());
    let mut target = Target::spawn(shell);
    assert_eq!(target.ask("echo ready"), "ready");
    let follower = Follower::start(&memscope, target.pid(), &[]);
    target.send("git init -q . && echo one > a && git add a && git -c user.name=n -c user.email=e commit -q -m one");
    target.send("echo \"$?\"");
    assert_eq!(target.line(REPLY), "0", "git works under it");
    target.send("git -c gc.autoDetach=false gc -q; echo \"$?\"");
    assert_eq!(target.line(REPLY), "0", "git works under it");
    target.send("exit 0");
    let told = follower.ending();
    let closing = told
        .iter()
        .find(|line| line.contains("children were attached"))
        .unwrap_or_else(|| panic!("no closing message: {told:#?}"));
    assert!(
        told.iter()
            .any(|line| line.starts_with("process") && line.contains("(git)"))
            || closing.contains("git ("),
        "git and its helpers are told of: {told:#?}"
    );
    detach_all(&memscope);
}

#[test]
fn nginxs_workers_are_followed_over_a_reload_and_its_answers_are_its_own() {
    let memscope = Memscope::new();
    let folder = Folder::new();
    let mut untraced = Target::spawn(nginx::with_workers(folder.path(), 2));
    nginx::wait(folder.path());
    let expected: Vec<Vec<String>> = (0..4).map(|round| nginx::round(folder.path(), round)).collect();
    process::signal(untraced.pid(), libc::SIGQUIT);
    untraced.wait();

    let folder = Folder::new();
    let master = Target::spawn(nginx::with_workers(folder.path(), 2));
    nginx::wait(folder.path());
    let old = until(EXIT, "two workers", || two_children(master.pid()));
    let follower = Follower::start(&memscope, master.pid(), &[]);
    for worker in &old {
        follower.watches(*worker, 1);
    }
    let mut said: Vec<Vec<String>> = (0..2).map(|round| nginx::round(folder.path(), round)).collect();
    process::signal(master.pid(), libc::SIGHUP);
    let new = until(EXIT, "two new workers", || {
        two_children(master.pid()).filter(|new| new.iter().all(|worker| !old.contains(worker)))
    });
    for worker in &new {
        follower.watches(*worker, 1);
    }
    said.extend((2..4).map(|round| nginx::round(folder.path(), round)));
    assert_eq!(said, expected, "nginx answers as it does untraced");
    let mut allocated = 0;
    for worker in old.iter().chain(&new) {
        let pid = worker.to_string();
        let database = memscope.print(*worker);
        assert_eq!(database.lost(), 0, "{database:#?}");
        let state = if new.contains(worker) { "collecting" } else { "exited" };
        assert_eq!(database.collection.state, state, "{database:#?}");
        allocated += number(&memscope.ok(&["stats", &pid, "--format", "json"]).stdout, "allocated");
    }
    // One worker may serve all requests of a round.
    assert!(
        allocated > 100,
        "the workers took {allocated} blocks while they were watched"
    );
    follower.interrupt();
    detach_all(&memscope);
    process::signal(master.pid(), libc::SIGQUIT);
    assert_eq!(master.ending().code, Some(0));
}

/// The children of a process, if there are two.
fn two_children(pid: u32) -> Option<Vec<u32>> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let children: Vec<u32> = list.split_whitespace().filter_map(|child| child.parse().ok()).collect();
    (children.len() == 2).then_some(children)
}

#[test]
fn redis_servers_background_save_is_followed_and_its_own_set_loses_nothing() {
    let memscope = Memscope::new();
    let folder = Folder::new();
    let mut running = Running::start(Kind::Redis, &folder, &[]);
    let follower = Follower::start(&memscope, running.pid(), &[]);
    let mut said = running.work(0..1);
    assert_eq!(redis::save_in_background(folder.path()), "+Background saving started");
    said.extend(running.work(1..3));
    let saved = folder.path().join("dump.rdb");
    until(EXIT, "the database to be saved", || saved.exists().then_some(()));
    let database = memscope.print(running.pid());
    assert_eq!(database.lost(), 0, "{:?}", database.losses);
    assert!(
        database.entries.len() > 1_000,
        "redis-server's own allocator is watched"
    );
    let told = follower.interrupt().join("\n");
    assert!(
        told.contains("1 children were attached") || told.contains("1 ended before they could be"),
        "the child that saves is accounted for: {told}"
    );
    detach_all(&memscope);
    running.end();
    let again = Folder::new();
    let mut untraced = Running::start(Kind::Redis, &again, &[]);
    assert_eq!(said, untraced.work(0..3), "redis-server answers as it does untraced");
    untraced.end();
}
