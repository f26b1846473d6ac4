//! Naming, tried on programs compiled here and on this process: right names from the right build, and no others.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::screen::debug_information_is_tame;
use super::{FrameIdentity, ModuleMap, Places, SavedModule, Symbolizer, save_modules, site_id};
use crate::report::model::{Frame, SiteId};
use crate::target::address::{BuildId, RuntimeAddress};
use crate::target::elf::{ElfImage, FileBytes};
use crate::target::identity::Pid;
use crate::target::mapping::parse_maps;

/// Prints the address `outer` is returned to from `leaf` (through `inner`, inlined), and the address of `leaf`.
const PROGRAM: &str = "\
#include <stdio.h>
__attribute__((noinline)) void *leaf(void) { return __builtin_return_address(0); }
static inline __attribute__((always_inline)) void *inner(void) {
    return leaf(); /* line 4 */
}
__attribute__((noinline)) void *outer(void) {
    void *address = inner(); /* line 7 */
    __asm__ volatile(\"\" : \"+r\"(address));
    return address;
}
int main(void) {
    printf(\"%p %p\\n\", outer(), (void *)leaf);
    fflush(stdout);
    return getchar();
}
";

fn compile(folder: &Path, name: &str, source: &str, options: &[&str]) -> PathBuf {
    let (path, compiler, suffix) = if source.contains("namespace") {
        ("c++", "c++", "cpp")
    } else {
        ("cc", "cc", "c")
    };
    let file = folder.join(format!("{name}.{suffix}"));
    fs::write(&file, source).unwrap();
    let output = folder.join(name);
    let status = Command::new(compiler)
        .args(["-O1", "-o"])
        .arg(&output)
        .args(options)
        .arg(&file)
        .status();
    assert!(status.unwrap_or_else(|error| panic!("{path}: {error}")).success());
    output
}

/// A running program and what a session would have saved of it.
struct Target {
    child: Child,
    pid: Pid,
    return_address: RuntimeAddress,
    function: RuntimeAddress,
    modules: Vec<SavedModule>,
}

impl Target {
    fn start(program: &Path) -> Self {
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let mut words = line
            .split_whitespace()
            .map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap());
        let pid = Pid(child.id());
        Self {
            return_address: RuntimeAddress(words.next().unwrap()),
            function: RuntimeAddress(words.next().unwrap()),
            modules: save_modules(pid, &parse_maps(&fs::read(format!("/proc/{pid}/maps")).unwrap())),
            pid,
            child,
        }
    }

    fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn names(&self, live: bool, debug_root: &Path) -> Vec<Frame> {
        let places = Places {
            debug_roots: vec![debug_root.to_owned()],
            ..Places::default()
        };
        self.names_from(live, places)
    }

    /// As for a user whom nobody believes.
    fn names_of_a_stranger(&self) -> Vec<Frame> {
        let places = Places {
            debug_roots: Vec::new(),
            believed_users: Vec::new(),
        };
        self.names_from(false, places)
    }

    fn names_from(&self, live: bool, places: Places) -> Vec<Frame> {
        let mut symbolizer = Symbolizer::with_places(self.modules.clone(), live.then_some(self.pid), places);
        let frames = symbolizer.name(self.return_address, true).to_vec();
        let function = symbolizer.name(self.function, false);
        frames.iter().chain(function).map(|frame| Frame::clone(frame)).collect()
    }

    fn module(&self) -> &SavedModule {
        &self.modules[0]
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn functions(frames: &[Frame]) -> Vec<&str> {
    frames
        .iter()
        .map(|frame| frame.function.as_deref().unwrap_or("-"))
        .collect()
}

/// No names, but the place in the right module.
fn assert_only_places(frames: &[Frame], program: &Path) {
    assert_eq!(functions(frames), ["-", "-"]);
    for frame in frames {
        assert_eq!(
            Some(frame.module.as_str()),
            program.file_name().and_then(|name| name.to_str())
        );
        assert_eq!(Some(frame.offset), frame.file_offset.map(|offset| offset.0));
        assert_eq!(frame.source, None);
    }
}

fn debug_file(folder: &Path, program: &Path, id: &BuildId) -> PathBuf {
    let (first, rest) = id.as_hex().split_at(2);
    let file = folder.join(format!(".build-id/{first}/{rest}.debug"));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let status = Command::new("objcopy")
        .arg("--only-keep-debug")
        .arg(program)
        .arg(&file)
        .status()
        .unwrap();
    assert!(status.success());
    file
}

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
fn a_stripped_program_has_places_until_its_debug_file_is_installed() {
    let folder = tempfile::tempdir().unwrap();
    let full = compile(folder.path(), "full", PROGRAM, &["-g"]);
    let program = folder.path().join("prog");
    assert!(
        Command::new("strip")
            .arg("-o")
            .arg(&program)
            .arg(&full)
            .status()
            .unwrap()
            .success()
    );
    let mut target = Target::start(&program);
    target.end();
    assert_only_places(&target.names(false, folder.path()), &program);

    let id = target.module().build_id.clone().unwrap();
    let debug_file = debug_file(folder.path(), &full, &id);
    assert_eq!(
        functions(&target.names(false, folder.path())),
        ["inner", "outer", "leaf"]
    );
    // Also when the program itself is gone.
    fs::remove_file(&program).unwrap();
    let frames = target.names(false, folder.path());
    assert_eq!(functions(&frames), ["inner", "outer", "leaf"]);
    assert_eq!(frames[0].source.as_ref().unwrap().line, Some(4));

    // A debug file of another build under this build's name is not believed.
    let other = compile(folder.path(), "other", &PROGRAM.replace("leaf", "wrong"), &["-g"]);
    fs::copy(other, debug_file).unwrap();
    assert_only_places(&target.names(false, folder.path()), &program);
}

#[test]
fn a_program_replaced_by_another_build_lends_no_names() {
    let folder = tempfile::tempdir().unwrap();
    let renamed = PROGRAM.replace("leaf", "wrong").replace("outer", "false_name");
    for id in ["-Wl,--build-id=sha1", "-Wl,--build-id=none"] {
        let program = compile(folder.path(), "prog", PROGRAM, &["-g", id]);
        let other = compile(folder.path(), "other", &renamed, &["-g", id]);
        let mut target = Target::start(&program);
        assert_eq!(
            functions(&target.names(true, folder.path())),
            ["inner", "outer", "leaf"]
        );
        assert_eq!(target.module().build_id.is_none(), id.ends_with("none"));
        fs::rename(&other, &program).unwrap();
        // The mapped file can still be read, by those who may.
        let frames = target.names(true, folder.path());
        let may_read = fs::read_dir(format!("/proc/{}/map_files", target.pid)).is_ok()
            && super::open::open_regular(Path::new(&map_file(&target))).is_ok();
        if may_read {
            assert_eq!(functions(&frames), ["inner", "outer", "leaf"]);
        } else {
            assert_only_places(&frames, &program);
        }
        target.end();
        assert_only_places(&target.names(false, folder.path()), &program);
        // A PID that is another process by now lends nothing either.
        assert_only_places(&target.names(true, folder.path()), &program);
    }
}

fn map_file(target: &Target) -> String {
    let segment = target.module().segments[0];
    format!("/proc/{}/map_files/{:x}-{:x}", target.pid, segment.start, segment.end)
}

#[test]
fn without_build_id_a_changed_file_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let program = compile(folder.path(), "prog", PROGRAM, &["-g", "-Wl,--build-id=none"]);
    let mut target = Target::start(&program);
    target.end();
    assert_eq!(
        functions(&target.names(false, folder.path())),
        ["inner", "outer", "leaf"]
    );
    let file = fs::File::options().append(true).open(&program).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_only_places(&target.names(false, folder.path()), &program);
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

#[test]
fn a_strangers_file_is_read_too() {
    let folder = tempfile::tempdir().unwrap();
    let program = compile(folder.path(), "prog", PROGRAM, &["-g"]);
    let frames = Target::start(&program).names_of_a_stranger();
    assert_eq!(functions(&frames), ["inner", "outer", "leaf"]);
    assert_eq!(frames[0].source.as_ref().unwrap().line, Some(4));
    let compressed = compile(folder.path(), "compressed", PROGRAM, &["-g", "-gz=zlib"]);
    let target = Target::start(&compressed);
    assert_eq!(
        functions(&target.names(false, folder.path())),
        ["inner", "outer", "leaf"]
    );
    assert_eq!(functions(&target.names_of_a_stranger()), ["outer", "leaf"]);
}

/// Debug information for `leaf` in assembler: a unit, a function and whatever is given for its children.
fn debug_information(function_attributes: &str, entries: &str, more: &str) -> String {
    format!(
        "\
.section .debug_abbrev,\"\",@progbits
.byte 1, 0x11, 1, 0, 0                                  # unit
.byte 2, 0x2e, 1, 0x11, 0x01, 0x12, 0x06, 0, 0          # function: low_pc, high_pc
.byte 3, 0x1d, 1, 0, 0                                  # inlined function
.byte 4, 0x2e, 0, 0x55, 0x17, 0, 0                      # function: ranges
.byte 0
.section .debug_info,\"\",@progbits
.long 2f - 1f
1: .short 4
.long 0
.byte 8, 1
{function_attributes}
{entries}
.byte 0, 0
2:
{more}
.section .note.GNU-stack,\"\",@progbits
"
    )
}

fn with_debug_information(folder: &Path, name: &str, assembler: &str) -> PathBuf {
    let file = folder.join(format!("{name}.s"));
    fs::write(&file, assembler).unwrap();
    compile(folder, name, PROGRAM, &[file.to_str().unwrap()])
}

#[test]
fn a_strangers_debug_information_can_exhaust_neither_stack_nor_memory() {
    let folder = tempfile::tempdir().unwrap();
    let function = ".byte 2\n.quad leaf\n.long 64";
    for (name, levels, tame) in [("shallow", 100, true), ("deep", 2_000_000, false)] {
        let entries = format!(".rept {levels}\n.byte 3\n.endr\n.rept {levels}\n.byte 0\n.endr\n.byte 0");
        let program = with_debug_information(folder.path(), name, &debug_information(function, &entries, ""));
        let target = Target::start(&program);
        assert_eq!(tame_of(&program), tame);
        assert_eq!(functions(&target.names_of_a_stranger()), ["outer", "leaf"]);
    }
    for (name, count, tame) in [("few", 10, true), ("many", 100_000, false)] {
        let entries = format!(".rept {count}\n.byte 4\n.long 0\n.endr\n.byte 0");
        let list = ".section .debug_ranges,\"\",@progbits\n.rept 100000\n.quad 1, 2\n.endr\n.quad 0, 0";
        let program = with_debug_information(folder.path(), name, &debug_information(function, &entries, list));
        let target = Target::start(&program);
        assert_eq!(tame_of(&program), tame);
        assert_eq!(functions(&target.names_of_a_stranger()), ["outer", "leaf"]);
    }
}

fn tame_of(program: &Path) -> bool {
    let bytes = FileBytes::new(fs::File::open(program).unwrap()).unwrap();
    debug_information_is_tame(&ElfImage::parse(bytes).unwrap())
}

#[test]
fn symbols_in_a_compressed_image_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let full = compile(folder.path(), "full", PROGRAM, &[]);
    let compressed = folder.path().join("symbols.xz");
    let mut out = fs::File::create(&compressed).unwrap();
    lzma_rs::xz_compress(&mut fs::read(&full).unwrap().as_slice(), &mut out).unwrap();
    let program = folder.path().join("prog");
    let section = format!(".gnu_debugdata={}", compressed.display());
    let objcopy = ["--strip-all", "--add-section", &section];
    assert!(
        Command::new("objcopy")
            .args(objcopy)
            .arg(&full)
            .arg(&program)
            .status()
            .unwrap()
            .success()
    );
    let frames = Target::start(&program).names(true, folder.path());
    assert_eq!(functions(&frames), ["outer", "leaf"]);
    assert_eq!(frames[1].offset, 0);
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
    assert!(name.ends_with("symbol::compiled_tests::a_rust_function"), "{name}");
    assert!(frame.source.as_ref().unwrap().file.ends_with("compiled_tests.rs"));

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

#[test]
fn one_stack_has_one_site_id_in_every_run() {
    let folder = tempfile::tempdir().unwrap();
    let id_of = |program: &Path| -> (SiteId, RuntimeAddress) {
        let target = Target::start(program);
        let map = ModuleMap::new(target.modules.clone());
        let frame = map.identity(target.return_address);
        assert_ne!(frame, FrameIdentity::Nowhere);
        (site_id(map.identity(target.function), [frame]), target.return_address)
    };
    for id in ["-Wl,--build-id=sha1", "-Wl,--build-id=none"] {
        let program = compile(folder.path(), "prog", PROGRAM, &["-fPIE", "-pie", id]);
        let runs: Vec<_> = (0..4).map(|_| id_of(&program)).collect();
        assert!(runs.iter().all(|(site, _)| *site == runs[0].0), "{runs:x?}");
        assert!(
            runs.iter().any(|(_, address)| *address != runs[0].1),
            "address space layout is not random here"
        );
        fs::create_dir_all(folder.path().join("elsewhere")).unwrap();
        let moved = folder.path().join("elsewhere/prog");
        fs::copy(&program, &moved).unwrap();
        assert_eq!(id_of(&moved).0, runs[0].0);
    }
}

#[test]
fn a_damaged_file_of_the_right_build_costs_names_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let program = compile(folder.path(), "prog", PROGRAM, &["-g"]);
    let mut target = Target::start(&program);
    target.end();
    let good = fs::read(&program).unwrap();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..150 {
        let mut bad = good.clone();
        for _ in 0..1 + random() % 40 {
            // Past the build id's note, which has to stay for the file to be read at all.
            let at = 0x1000 + random() as usize % (bad.len() - 0x1000);
            bad[at] = [0, 0xff, 0x80, random() as u8][random() as usize % 4];
        }
        if random() % 4 == 0 {
            bad.truncate(0x1000 + random() as usize % (good.len() - 0x1000));
        }
        fs::remove_file(&program).unwrap();
        fs::write(&program, &bad).unwrap();
        let frames = target.names_of_a_stranger();
        assert!((2..=40).contains(&frames.len()), "{frames:?}");
    }
}
