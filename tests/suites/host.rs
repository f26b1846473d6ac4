//! Hosts of every make: targets in other namespaces, no BPF file system, folders that cannot be written.

use std::path::Path;
use std::process::{Command, Stdio};

use memscope_tests::deadline::{EXIT, until};
use memscope_tests::difference::assert_same;
use memscope_tests::memscope::{Memscope, complete};
use memscope_tests::program::Program;
use memscope_tests::session::Session;
use memscope_tests::target::Target;
use memscope_tests::workload::Folder;

/// Takes and gives blocks in a target that is `pid` to us, and compares.
fn exact(target: &mut Target, pid: u32, context: &str) {
    let memscope = Memscope::new();
    let session = Session::attach(&memscope, pid);
    target.act("take 30 10007");
    target.act("give 10 10007");
    let database = session.print();
    assert_same(&target.ledger(), &database, context);
    let functions = database.functions(&database.entries[0]);
    assert!(functions.contains(&"layer_one"), "{context}: {functions:?}");
    session.detach();
}

#[test]
fn a_target_in_another_mount_namespace_and_root_is_exact() {
    let folder = Folder::new();
    let script = r#"set -e
mount -t tmpfs none "$0"
mkdir -p "$0/lib64" "$0/lib/x86_64-linux-gnu"
cp -L "$1" "$0/program"
cp -L /lib64/ld-linux-x86-64.so.2 "$0/lib64/"
cp -L /lib/x86_64-linux-gnu/libc.so.6 "$0/lib/x86_64-linux-gnu/"
exec chroot "$0" /program"#;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", script])
        .arg(folder.path())
        .arg(Program::new("blocks.c").build());
    let mut target = Target::start_command(command);
    assert!(
        !folder.path().join("program").exists(),
        "the target's files are not in our namespace"
    );
    let pid = target.pid();
    exact(&mut target, pid, "another mount namespace and root");
    assert_eq!(target.quit().code, Some(0));
}

#[test]
fn a_target_in_another_pid_namespace_is_exact() {
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--mount-proc"])
        .arg(Program::new("blocks.c").build());
    let mut target = Target::start_command(command);
    let outer = target.pid();
    let children = format!("/proc/{outer}/task/{outer}/children");
    let pid = until(EXIT, "unshare's child", || {
        std::fs::read_to_string(&children).ok()?.trim().parse().ok()
    });
    exact(&mut target, pid, "another PID namespace");
    assert_eq!(target.quit().code, Some(0));
}

#[test]
fn a_target_in_another_user_namespace_is_exact() {
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user"])
        .arg(Program::new("blocks.c").build());
    let mut target = Target::start_command(command);
    let pid = target.pid();
    exact(&mut target, pid, "another user namespace");
    assert_eq!(target.quit().code, Some(0));
}

#[test]
fn a_bpf_file_system_that_is_not_mounted_is_mounted() {
    let memscope = Memscope::new();
    let target = Target::blocks();
    let plain = memscope.command(&["doctor"]);
    let mut command = Command::new("unshare");
    let script = r#"umount -l /sys/fs/bpf && "$0" attach "$1" && "$0" print "$1" --age 0 && "$0" detach "$1" && mount"#;
    command
        .args(["--mount", "sh", "-c", script])
        .arg(plain.get_program())
        .arg(target.pid().to_string());
    command
        .env_clear()
        .envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = complete(command).expect_code(0);
    output.expect_line("MemScope printed 0 entries");
    assert!(
        output.stdout.lines().any(|line| line.contains("/sys/fs/bpf type bpf")),
        "{output}"
    );
    assert_eq!(target.quit().code, Some(0));
}

#[test]
fn a_run_folder_that_cannot_be_made_is_said_and_nothing_is_half_done() {
    let memscope = Memscope::new();
    let target = Target::blocks();
    for folder in ["/proc/memscope", "/dev/null/memscope"] {
        let mut command = memscope.command(&["attach", &target.pid().to_string()]);
        command.env("MEMSCOPE_RUN_DIR", folder);
        let output = complete(command).expect_code(3);
        assert!(output.one_error_line().contains(folder), "{output}");
        assert!(memscope.dirs.pinned().is_empty(), "{:?}", memscope.dirs.pinned());
    }
    assert!(!Path::new("/proc/memscope").exists());
}

#[test]
fn state_folders_are_for_root_only() {
    use std::os::unix::fs::PermissionsExt;
    let memscope = Memscope::new();
    let target = Target::blocks();
    let session = memscope.attach(&target);
    for root in [memscope.dirs.run(), memscope.dirs.bpf()] {
        for entry in std::fs::read_dir(root).expect("a state folder").flatten() {
            if entry.file_type().expect("a type").is_dir() {
                let mode = entry.metadata().expect("metadata").permissions().mode() & 0o777;
                assert_eq!(mode, 0o700, "{}", entry.path().display());
            }
        }
    }
    session.detach();
}
