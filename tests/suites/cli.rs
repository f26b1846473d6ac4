//! Refusals and exit codes: who may, what is there, and what is said when not.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use memscope_tests::memscope::{Memscope, Output, binary, complete};
use memscope_tests::program::Program;
use memscope_tests::target::Target;

const NO_TARGET: &str = "4194304";

/// Runs memscope as `setpriv` arranges, from a place everybody can reach.
fn under_setpriv(memscope: &Memscope, setpriv: &[&str], arguments: &[&str]) -> Output {
    let folder = memscope.dirs.run().with_extension("bin");
    std::fs::create_dir_all(&folder).expect("a folder for the binary");
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).expect("a folder for everybody");
    let copy = folder.join("memscope");
    std::fs::copy(binary(), &copy).expect("a copy of the binary");
    let plain = memscope.command(arguments);
    let mut command = Command::new("setpriv");
    command.args(setpriv).arg(&copy).args(arguments).env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = complete(command);
    std::fs::remove_dir_all(&folder).expect("the binary's folder goes");
    output
}

#[test]
fn attaching_to_no_process_is_exit_4_in_one_line() {
    let memscope = Memscope::new();
    for command in ["attach", "create"] {
        let output = memscope.run(&[command, NO_TARGET]).expect_code(4);
        assert!(
            output.one_error_line().contains(NO_TARGET),
            "the line names the process\n{output}"
        );
    }
    memscope.assert_nothing_left();
}

#[test]
fn commands_without_a_database_are_exit_4() {
    let memscope = Memscope::new();
    let target = Target::blocks();
    let pid = target.pid().to_string();
    for command in ["start", "stop", "destroy", "detach", "stats"] {
        let output = memscope.run(&[command, &pid]).expect_code(4);
        assert!(
            !output.stderr.is_empty() || !output.stdout.is_empty(),
            "{command} says why\n{output}"
        );
    }
}

#[test]
fn wrong_usage_is_exit_2() {
    let memscope = Memscope::new();
    for arguments in [
        &[][..],
        &["no-such-command"],
        &["print", "--format", "xml", "--age", "0"],
        &["attach", "not-a-pid"],
        &["attach"],
    ] {
        let output = memscope.run(arguments).expect_code(2);
        assert!(!output.stderr.is_empty(), "{output}");
    }
}

#[test]
fn help_and_version_are_exit_0() {
    let memscope = Memscope::new();
    for arguments in [&["--help"][..], &["--version"], &["attach", "--help"]] {
        assert!(!memscope.ok(arguments).stdout.is_empty());
    }
}

#[test]
fn an_unprivileged_user_gets_one_line_and_exit_3() {
    let memscope = Memscope::new();
    let target = Target::blocks();
    let pid = target.pid().to_string();
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    for arguments in [&["attach", &pid][..], &["create", &pid]] {
        let output = under_setpriv(&memscope, &nobody, arguments).expect_code(3);
        output.one_error_line();
    }
    assert!(memscope.dirs.pinned().is_empty());
}

#[test]
fn a_missing_capability_is_named() {
    let memscope = Memscope::new();
    let target = Target::blocks();
    let pid = target.pid().to_string();
    for (dropped, name) in [("-bpf,-sys_admin", "CAP_BPF"), ("-perfmon,-sys_admin", "CAP_PERFMON")] {
        let output = under_setpriv(&memscope, &["--bounding-set", dropped], &["attach", &pid]).expect_code(3);
        let line = output.one_error_line();
        assert!(line.contains(name), "{name} in\n{output}");
    }
    memscope.assert_nothing_left();
}

#[test]
fn a_process_without_an_allocator_is_exit_5() {
    let memscope = Memscope::new();
    let program = Program::new("no_allocator.c")
        .flags(&["-static", "-nostdlib", "-ffreestanding"])
        .build();
    let target = Target::start::<&str>(&program, &[]);
    let output = memscope.run(&["attach", &target.pid().to_string()]).expect_code(5);
    assert!(
        output.stderr.contains("no known allocator found") && output.stderr.contains("no_allocator"),
        "{output}"
    );
    memscope.assert_nothing_left();
}

#[test]
fn a_32_bit_process_is_refused_in_words() {
    let memscope = Memscope::new();
    let program = Program::new("no_allocator.c")
        .flags(&["-m32", "-static", "-nostdlib", "-ffreestanding"])
        .build();
    let target = Target::start::<&str>(&program, &[]);
    let output = memscope.run(&["attach", &target.pid().to_string()]);
    assert!([3, 5].contains(&output.code()), "{output}");
    assert!(
        output.one_error_line().contains("32"),
        "the line says what is wrong\n{output}"
    );
    memscope.assert_nothing_left();
}

#[test]
fn a_kernel_thread_is_refused_in_words() {
    let memscope = Memscope::new();
    assert!(!Path::new("/proc/2/exe").exists(), "pid 2 is kthreadd");
    let output = memscope.run(&["attach", "2"]);
    assert!([3, 4, 5].contains(&output.code()), "{output}");
    output.one_error_line();
    memscope.assert_nothing_left();
}

#[test]
fn doctor_says_item_by_item_what_there_is() {
    let memscope = Memscope::new();
    let target = Target::blocks();
    assert!(memscope.ok(&["doctor"]).stdout.lines().count() > 3);
    assert!(
        memscope
            .ok(&["doctor", &target.pid().to_string()])
            .stdout
            .lines()
            .count()
            > 3
    );
}
