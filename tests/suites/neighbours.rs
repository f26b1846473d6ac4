//! Commands that read several databases: one that is being made, cannot be read, or is not there at all keeps none of the
//! others from being read, and is never passed over in silence.

use std::path::PathBuf;

use memscope_tests::memscope::{Memscope, Output};
use memscope_tests::process::Lock;
use memscope_tests::target::Target;

/// Every command that reads all databases when no target is named.
const READERS: [&[&str]; 6] = [
    &["print", "--age", "0"],
    &["print", "--age", "0", "--format", "json"],
    &["report"],
    &["report", "--format", "json"],
    &["check", "--format", "json"],
    &["stats"],
];

/// The folder of a session that comes first in every list.
fn first_folder(memscope: &Memscope) -> PathBuf {
    let folder = memscope.dirs.run().join("1-1");
    std::fs::create_dir(&folder).expect("a session's folder");
    folder
}

fn mentions(output: &Output, pid: u32) -> bool {
    output.stdout.contains(&pid.to_string())
}

#[test]
fn a_database_that_is_being_made_is_not_there_yet_and_the_others_are_read() {
    let memscope = Memscope::new();
    let mut target = Target::blocks();
    let session = memscope.attach(&target);
    target.act("take 3 10007");
    // As `attach` leaves it for as long as it takes.
    let folder = first_folder(&memscope);
    let lock = Lock::hold(&folder);
    for reader in READERS {
        let output = memscope.run(reader);
        let code = if reader[0] == "check" { 6 } else { 0 };
        assert_eq!(output.code(), code, "{output}");
        assert!(!output.stderr.contains("unfinished"), "nobody may destroy it\n{output}");
        assert!(
            mentions(&output, target.pid()) || output.stdout.contains("MemScope printed 3 entries"),
            "{output}"
        );
    }
    let checked = memscope.run(&["check"]);
    let of_target = format!("process {} ", target.pid());
    assert!(
        checked.stdout.lines().all(|line| line.starts_with(&of_target)),
        "{checked}"
    );
    let list = memscope.ok(&["list"]);
    assert!(!list.stdout.contains("unreadable") && list.stderr.is_empty(), "{list}");
    // With only that one, there is none.
    session.detach();
    for reader in READERS {
        memscope.run(reader).expect_code(4);
    }
    drop(lock);
    std::fs::remove_dir(folder).expect("an empty folder");
}

#[test]
fn a_database_that_cannot_be_read_is_told_of_and_the_others_are_read() {
    let memscope = Memscope::new();
    let mut target = Target::blocks();
    let session = memscope.attach(&target);
    target.act("take 3 10007");
    let folder = first_folder(&memscope);
    // Left unfinished by a command that was killed; then one of an earlier version.
    let other = r#"{"schema":"memscope.session/v1","version":"0.0.1"}"#;
    for (file, code, told) in [(None, 4, "destroy 1"), (Some(other), 3, "0.0.1")] {
        if let Some(text) = file {
            std::fs::write(folder.join("session.json"), text).expect("a session file");
        }
        for reader in READERS {
            let output = memscope.run(reader);
            let code = if reader[0] == "check" { 6 } else { code };
            assert_eq!(output.code(), code, "{output}");
            let complaints = output.stderr.lines().filter(|line| line.contains(told)).count();
            assert_eq!(complaints, 1, "{output}");
            assert!(mentions(&output, target.pid()), "{output}");
        }
        let checked = memscope.run(&["check", "--format", "json"]).expect_code(6);
        let document: serde_json::Value = serde_json::from_str(&checked.stdout).expect("JSON");
        assert_eq!(document["unreadable"], 1, "{checked}");
        // A block is found: that outweighs what could not be looked at. None is: it does not prove that there is none.
        memscope.run(&["print", "--age", "0", "--exit-code"]).expect_code(1);
        memscope.run(&["print", "--age", "1d", "--exit-code"]).expect_code(6);
        // Whoever names it gets its error alone.
        let named = memscope.run(&["check", "1"]).expect_code(code);
        assert!(named.one_error_line().contains(told), "{named}");
    }
    std::fs::remove_dir_all(folder).expect("the folder goes");
    session.detach();
}

#[test]
fn a_namesake_without_a_database_is_named() {
    let memscope = Memscope::new();
    let mut targets = [Target::blocks(), Target::blocks()];
    let name = format!("nb{}", targets[0].pid());
    for target in &mut targets {
        target.act(&format!("name {name}"));
    }
    let [traced, refused] = targets.each_ref().map(Target::pid);
    let session = memscope.attach(&targets[0]);
    for reader in READERS {
        let output = memscope.run(&[reader, &["--comm", &name]].concat());
        let said = format!("memscope: process {refused} {name} has no database and is not looked at");
        assert!(output.stderr.contains(&said), "{output}");
        assert!(
            !output.stderr.contains(&format!("process {traced} {name} has no")),
            "{output}"
        );
    }
    let checked = memscope
        .run(&["check", "--format", "json", "--comm", &name])
        .expect_code(6);
    let document: serde_json::Value = serde_json::from_str(&checked.stdout).expect("JSON");
    assert_eq!(document["untraced"], serde_json::json!([refused]), "{checked}");
    memscope
        .run(&["print", "--age", "0", "--exit-code", "--comm", &name])
        .expect_code(6);
    session.detach();
}
