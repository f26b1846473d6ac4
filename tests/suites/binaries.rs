//! Binaries of every make: stripped, static, at strange paths, deleted, with other allocators.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use memscope_tests::difference::assert_same;
use memscope_tests::memscope::Memscope;
use memscope_tests::program::Program;
use memscope_tests::target::Target;
use memscope_tests::text;
use memscope_tests::traced::Traced;
use memscope_tests::workload::Folder;

fn built_with(flags: &[&str]) -> Traced {
    Traced::new(&Program::new("malloc_family.c").flags(flags).build())
}

fn copied_to(path: &Path) -> PathBuf {
    std::fs::copy(Program::new("blocks.c").build(), path).expect("a copy of the program");
    path.to_path_buf()
}

#[test]
fn a_stripped_binary_is_exact_and_its_frames_show_the_module() {
    let program = Program::new("blocks.c").flags(&["-s"]).build();
    let memscope = Memscope::new();
    let mut target = Target::start::<&str>(&program, &[]);
    let session = memscope.attach(&target);
    target.act("take 3 10007");
    assert_same(&target.ledger(), &session.print(), "stripped");
    let output = memscope.ok(&["print", &target.pid().to_string(), "--age", "0"]);
    let frame = output
        .stdout
        .lines()
        .find(|line| line.starts_with("0x") && line.contains(": [blocks] + 0x"));
    assert!(frame.is_some(), "a frame without a symbol shows its module\n{output}");
    session.detach();
}

#[test]
fn a_binary_without_frame_pointers_is_exact() {
    built_with(&["-O2", "-fomit-frame-pointer"]).run(&["malloc", "calloc", "free", "reuse"]);
}

#[test]
fn a_binary_that_is_not_position_independent_is_exact() {
    built_with(&["-no-pie", "-fno-pie"]).run(&["malloc", "calloc", "free", "reuse"]);
}

#[test]
fn a_binary_built_for_cet_is_exact() {
    built_with(&["-fcf-protection=full"]).run(&["malloc", "calloc", "free", "reuse"]);
}

#[test]
fn a_binary_without_a_plt_is_exact() {
    built_with(&["-fno-plt"]).run(&["malloc", "calloc", "free", "pointer"]);
}

#[test]
fn a_path_with_a_space_is_attached_by_name_and_shown() {
    let folder = Folder::new();
    let program = copied_to(&folder.path().join("a program: with spaces"));
    let mut target = Target::start::<&str>(&program, &[]);
    let memscope = Memscope::new();
    let path = program.to_str().expect("a path of text");
    memscope.ok(&["attach", "--exe", path]);
    target.act("take 3 10007");
    let database = memscope.print(target.pid());
    assert_eq!(database.target.exe, path);
    assert_same(&target.ledger(), &database, "a path with spaces");
    memscope.ok(&["detach", "--all"]);
    memscope.assert_nothing_left();
}

#[test]
fn a_deleted_binary_is_traced() {
    let folder = Folder::new();
    let program = copied_to(&folder.path().join("deleted"));
    let mut target = Target::start::<&str>(&program, &[]);
    std::fs::remove_file(&program).expect("the program is there");
    let memscope = Memscope::new();
    let session = memscope.attach(&target);
    target.act("take 3 10007");
    let database = session.print();
    assert_same(&target.ledger(), &database, "a deleted binary");
    let functions = database.functions(&database.entries[0]);
    assert!(
        functions.contains(&"layer_one"),
        "names come from the mapped file itself: {functions:?}"
    );
    session.detach();
}

#[test]
fn a_binary_replaced_on_disk_keeps_the_names_of_the_one_that_runs() {
    let folder = Folder::new();
    let program = copied_to(&folder.path().join("replaced"));
    let mut target = Target::start::<&str>(&program, &[]);
    std::fs::remove_file(&program).expect("the program is there");
    std::fs::copy(Program::new("malloc_family.c").build(), &program).expect("another program at its path");
    let memscope = Memscope::new();
    let session = memscope.attach(&target);
    target.act("take 3 10007");
    let database = session.print();
    assert_same(&target.ledger(), &database, "a replaced binary");
    let functions = database.functions(&database.entries[0]);
    assert!(functions.contains(&"layer_one"), "{functions:?}");
    session.detach();
}

#[test]
fn a_path_that_is_no_text_is_traced_and_printed() {
    let folder = Folder::new();
    let program = copied_to(&folder.path().join(OsStr::from_bytes(b"not \xff\xfe text \x1b[31m\n")));
    let mut target = Target::start::<&str>(&program, &[]);
    let memscope = Memscope::new();
    let session = memscope.attach(&target);
    target.act("take 3 10007");
    assert_same(&target.ledger(), &session.print(), "a path that is no text");
    let output = memscope.ok(&["print", &target.pid().to_string(), "--age", "0"]);
    assert!(
        !output.stdout.contains('\x1b'),
        "control characters of a path do not reach the terminal\n{output}"
    );
    session.detach();
}

#[test]
fn a_process_of_thousands_of_mappings_is_traced() {
    let memscope = Memscope::new();
    let mut target = Target::start::<&str>(&Program::new("many_mappings.c").build(), &[]);
    let session = memscope.attach(&target);
    target.act("take");
    let database = session.print();
    assert_same(&target.ledger(), &database, "thousands of mappings");
    // libc, where every stack ends, is mapped above all of them.
    for block in database.of_size(10_007) {
        let stack = database.stack(block);
        assert!(stack.complete, "{stack:#?}");
    }
    let left_out = "executable mappings were left out, 0 of them with unwind tables: the unwinder's table holds 1024";
    for command in [&["print", "--age", "0"][..], &["stats"]] {
        let pid = target.pid().to_string();
        let output = memscope.ok(&[command, &[pid.as_str()]].concat());
        assert!(
            output.stdout.contains(left_out) || output.stderr.contains(left_out),
            "{output}"
        );
    }
    session.detach();
}

mod every_allocator {
    use super::*;

    fn ledger_of_threads(program: &Path, preload: Option<&str>, pvalloc: bool) {
        let mut traced =
            Traced::new(program).arguments(&["--seed", "31", "--pvalloc", if pvalloc { "1" } else { "0" }]);
        if let Some(library) = preload {
            traced = traced.variable("LD_PRELOAD", library);
        }
        let seen = traced.set_aside_the_linkers_own().run(&["run 200000"]);
        assert!(seen.ledger.len() > 1_000);
        assert_eq!(seen.database.lost(), 0, "losses {:?}", seen.database.losses);
    }

    fn ledger_mt(flags: &[&str]) -> PathBuf {
        Program::new("ledger_mt.c").flags(flags).build()
    }

    #[test]
    fn a_static_glibc_binary_is_exact() {
        ledger_of_threads(&ledger_mt(&["-static"]), None, true);
    }

    #[test]
    fn a_static_stripped_binary_is_exit_5_and_says_how_to_name_the_functions() {
        let memscope = Memscope::new();
        let target = Target::start::<&str>(&Program::new("blocks.c").flags(&["-static", "-s"]).build(), &[]);
        let output = memscope.run(&["attach", &target.pid().to_string()]).expect_code(5);
        assert!(output.stderr.contains("--alloc"), "{output}");
        memscope.assert_nothing_left();
    }

    #[test]
    fn preloaded_jemalloc_is_exact() {
        ledger_of_threads(&ledger_mt(&[]), Some("libjemalloc.so.2"), false);
    }

    #[test]
    fn preloaded_tcmalloc_is_exact() {
        ledger_of_threads(&ledger_mt(&[]), Some("libtcmalloc_minimal.so.4"), true);
    }

    #[test]
    fn preloaded_mimalloc_is_exact() {
        ledger_of_threads(&ledger_mt(&[]), Some("libmimalloc.so.2"), true);
    }

    #[test]
    fn cxx_operators_of_preloaded_allocators_are_exact() {
        let program = Program::new("cxx_new.cpp").build();
        for library in ["libjemalloc.so.2", "libtcmalloc_minimal.so.4", "libmimalloc.so.2"] {
            for command in ["new", "aligned", "delete", "exception"] {
                Traced::new(&program).variable("LD_PRELOAD", library).run(&[command]);
            }
        }
    }

    /// A return probe replaces the return address, through which no exception can be unwound: on an operator that
    /// throws, it would end the target. mimalloc is left out: it ends the program by itself where others throw.
    #[test]
    fn an_operator_new_of_the_allocator_that_throws_harms_nobody() {
        let program = Program::new("cxx_new.cpp").build();
        for library in ["libjemalloc.so.2", "libtcmalloc_minimal.so.4"] {
            let seen = Traced::new(&program)
                .variable("LD_PRELOAD", library)
                .run(&["bad_alloc"]);
            assert_eq!(seen.database.lost(), 0, "losses {:?}", seen.database.losses);
        }
    }

    fn threads_that_throw(library: &str, arguments: &[&str]) {
        let seen = Traced::new(&Program::new("cxx_throwing.cpp").flags(&["-O2"]).build())
            .arguments(arguments)
            .variable("LD_PRELOAD", library)
            .set_aside_the_linkers_own()
            .run(&["throw 1000"]);
        assert!(seen.ledger.len() > 8_000, "{library}: {}", seen.ledger.len());
        assert_eq!(seen.database.lost(), 0, "{library}: losses {:?}", seen.database.losses);
    }

    #[test]
    fn threads_that_catch_thousands_of_bad_allocs_are_exact() {
        for library in ["libjemalloc.so.2", "libtcmalloc_minimal.so.4"] {
            threads_that_throw(library, &[]);
        }
    }

    /// The exception passes frames of the allocator's own; jemalloc catches it there and throws another. (mimalloc as Debian
    /// builds it asks no handler and throws nothing.)
    #[test]
    fn a_new_handler_that_throws_is_exact() {
        for library in ["libjemalloc.so.2", "libtcmalloc_minimal.so.4"] {
            threads_that_throw(library, &["handler"]);
        }
    }

    #[test]
    fn a_program_is_attached_and_detached_while_it_throws() {
        let program = Program::new("cxx_throwing.cpp").flags(&["-O2"]).build();
        for library in ["libjemalloc.so.2", "libtcmalloc_minimal.so.4"] {
            let mut target = Traced::new(&program)
                .arguments(&["handler"])
                .variable("LD_PRELOAD", library)
                .start();
            target.act("thrower");
            for _ in 0..3 {
                let memscope = Memscope::new();
                let session = memscope.attach(&target);
                // Blocks that began to be used before attach apart, the thread keeps nothing: what is in its hands may live.
                let database = session.print();
                assert!(
                    database.entries.len() <= 4,
                    "{library}: {} blocks",
                    database.entries.len()
                );
                assert_eq!(database.lost(), 0, "{library}: losses {:?}", database.losses);
                session.detach();
                text::assert_restored(target.pid(), &[], library);
            }
            target.act("rest");
            target.act("throw 10");
            assert_eq!(target.quit().code, Some(0), "{library}");
        }
    }

    /// The cheap way of old, chosen by hand: nothing throws here, so nothing happens.
    #[test]
    fn return_probes_on_throwing_operators_can_be_chosen() {
        let program = Program::new("cxx_new.cpp").build();
        Traced::new(&program)
            .variable("LD_PRELOAD", "libjemalloc.so.2")
            .attach_with(&["--accept", "exceptions"])
            .run(&["new"]);
    }

    #[test]
    fn static_and_dynamic_musl_are_exact() {
        let musl = |flags: &[&str]| Program::new("ledger_mt.c").compiler("musl-gcc").flags(flags).build();
        ledger_of_threads(&musl(&["-static"]), None, false);
        ledger_of_threads(&musl(&[]), None, false);
    }
}
