//! What an address is called: functions, lines, inlined functions, by whatever tells.

use std::fs;
use std::process::Command;

use super::super::{Symbolizer, save_modules};
use super::{PROGRAM, Target, compile, functions};
use crate::target::address::RuntimeAddress;
use crate::target::elf::{ElfImage, FileBytes};
use crate::target::identity::Pid;
use crate::target::mapping::parse_maps;

#[test]
fn debug_information_gives_functions_lines_and_inlined_functions_also_after_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let program = compile(folder.path(), "prog", PROGRAM, &["-g"]);
    let mut target = Target::start(&program);
    let live = target.names(true, folder.path());
    target.end();
    let frames = target.names(false, folder.path());
    assert_eq!(live, frames);
    assert_eq!(functions(&frames), ["inner", "outer", "leaf"]);
    assert_eq!(
        frames.iter().map(|frame| frame.inlined).collect::<Vec<_>>(),
        [true, false, false]
    );
    let lines: Vec<_> = frames
        .iter()
        .map(|frame| frame.source.as_ref().unwrap())
        .map(|at| at.line.unwrap())
        .collect();
    assert_eq!(lines, [4, 7, 2]);
    assert!(
        frames
            .iter()
            .all(|frame| frame.source.as_ref().unwrap().file.ends_with("prog.c")),
        "{frames:?}"
    );
    // The return address itself is shown, not the byte before it.
    assert_eq!(frames[0].address, target.return_address);
    assert!(frames[1].offset > 1 && frames[0].offset == frames[1].offset);
    assert_eq!(frames[2].offset, 0);
    assert!(frames[0].build_id.is_some());
    assert_eq!(frames[0].build_id, target.module().build_id);
}

#[test]
fn a_symbol_table_gives_functions() {
    let folder = tempfile::tempdir().unwrap();
    for position in ["-pie", "-no-pie"] {
        let program = compile(folder.path(), "prog", PROGRAM, &[position]);
        let frames = Target::start(&program).names(true, folder.path());
        assert_eq!(functions(&frames), ["outer", "leaf"]);
        assert!(frames.iter().all(|frame| frame.source.is_none()));
        assert_eq!(frames[1].offset, 0);
    }
}

#[test]
fn no_symbol_reaches_out_of_its_section() {
    let folder = tempfile::tempdir().unwrap();
    let program = compile(folder.path(), "prog", PROGRAM, &[]);
    let target = Target::start(&program);
    let image = ElfImage::parse(FileBytes::new(fs::File::open(&program).unwrap()).unwrap()).unwrap();
    let mut symbolizer = Symbolizer::new(target.modules.clone(), Some(target.pid));
    let segment = target.module().segments[0];
    let runtime = |address: u64| RuntimeAddress(address - segment.elf_address.unwrap().0 + segment.start.0);
    let section = |name| image.section(name).unwrap();
    for (name, function) in [(".init", Some("_init")), (".plt", None)] {
        let code = section(name).address.0..section(name).address.0 + section(name).size;
        for address in code {
            assert_eq!(
                symbolizer.name(runtime(address), false)[0].function.as_deref(),
                function,
                "{name}"
            );
        }
    }
}

#[test]
fn cpp_names_are_demangled() {
    let source = PROGRAM
        .replace(
            "__attribute__((noinline)) void *leaf(void)",
            "namespace space { template <class T> struct Pool { static \
                  void *take(T); }; template <class T> __attribute__((noinline)) void *Pool<T>::take(T)",
        )
        .replacen(
            "return __builtin_return_address(0); }",
            "return __builtin_return_address(0); } }\n",
            1,
        )
        .replace("return leaf();", "return space::Pool<int>::take(1);")
        .replace("(void *)leaf", "(void *)&space::Pool<int>::take");
    let folder = tempfile::tempdir().unwrap();
    let program = compile(folder.path(), "prog", &source, &["-g"]);
    let frames = Target::start(&program).names(true, folder.path());
    assert_eq!(
        functions(&frames),
        // GCC gives a function that is only ever inlined no linkage name to demangle.
        ["inner", "outer()", "space::Pool<int>::take(int)"]
    );
}

#[test]
fn a_function_in_two_pieces_keeps_its_offset_its_lines_and_what_is_inlined() {
    let source = PROGRAM.replace(
        "void *address = inner(); /* line 7 */",
        "extern int never; if (__builtin_expect(never, 0)) { never = 2; leaf(); __builtin_abort(); }\n\
         void *address = inner();",
    ) + "int never;\n";
    let folder = tempfile::tempdir().unwrap();
    let program = compile(
        folder.path(),
        "prog",
        &source,
        &["-g", "-O2", "-freorder-blocks-and-partition"],
    );
    let symbols = Command::new("nm").arg(&program).output().unwrap();
    let symbols = String::from_utf8(symbols.stdout).unwrap();
    assert!(
        symbols.contains(" outer.cold"),
        "the compiler made one piece of it:\n{symbols}"
    );
    let frames = Target::start(&program).names(true, folder.path());
    assert_eq!(functions(&frames), ["inner", "outer", "leaf"]);
    let lines: Vec<_> = frames.iter().map(|frame| frame.source.as_ref().unwrap().line).collect();
    assert_eq!(lines, [Some(4), Some(8), Some(2)]);
    assert!((1..0x100).contains(&frames[1].offset), "{frames:?}");
}

#[inline(never)]
fn a_rust_function() -> u64 {
    std::hint::black_box(1)
}

#[test]
fn this_process_names_its_own_rust_code_its_vdso_and_what_is_nowhere() {
    let maps = parse_maps(&fs::read("/proc/self/maps").unwrap());
    let pid = Pid(std::process::id());
    let mut symbolizer = Symbolizer::new(save_modules(pid, &maps), Some(pid));
    let address = RuntimeAddress(a_rust_function as *const () as u64);
    assert_eq!(a_rust_function(), 1);
    let frame = symbolizer.name(address, false)[0].clone();
    let name = frame.function.as_deref().unwrap();
    assert!(name.ends_with("symbol::tests::names::a_rust_function"), "{name}");
    assert!(frame.source.as_ref().unwrap().file.ends_with("names.rs"));

    let vdso = maps.iter().find(|mapping| mapping.path == "[vdso]").unwrap();
    let mut names = Vec::new();
    for address in (vdso.start.0..vdso.end.0).step_by(16) {
        let frame = &symbolizer.name(RuntimeAddress(address), false)[0];
        assert_eq!(frame.module, "[vdso]");
        names.extend(frame.function.clone());
    }
    assert!(names.iter().any(|name| name.contains("clock_gettime")), "{names:?}");

    let nowhere = symbolizer.name(RuntimeAddress(0x10), true);
    assert_eq!(
        (nowhere.len(), nowhere[0].function.as_ref(), nowhere[0].offset),
        (1, None, 0x10)
    );
    assert_eq!(nowhere[0].module, "");
    assert_eq!(symbolizer.name(RuntimeAddress(0), true).len(), 1);
}
