//! Files made to harm their reader cost names and nothing else.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::screen::debug_information_is_tame;
use super::{PROGRAM, Places, Symbolizer, Target, compile, functions};
use crate::symbol::NameRoom;
use crate::target::address::RuntimeAddress;
use crate::target::elf::{ElfImage, FileBytes};

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

/// `leaf` in assembler, with debug information: a unit with lines, then whatever is given for the unit's children.
fn leaf_with(entries: &str, more: &str) -> String {
    format!(
        "\
.text
.globl leaf
.type leaf, @function
.file 1 \"leaf.s\"
leaf:
.loc 1 2
mov (%rsp), %rax
ret
.size leaf, . - leaf
.section .debug_abbrev,\"\",@progbits
.byte 1, 0x11, 1, 0x11, 0x01, 0x12, 0x06, 0x10, 0x17, 0, 0  # unit: low_pc, high_pc, stmt_list
.byte 2, 0x2e, 1, 0x11, 0x01, 0x12, 0x06, 0, 0              # function: low_pc, high_pc
.byte 3, 0x1d, 1, 0, 0                                      # inlined function
.byte 4, 0x2e, 0, 0x55, 0x17, 0, 0                          # function: ranges
.byte 0
.section .debug_line,\"\",@progbits
lines:
.section .debug_info,\"\",@progbits
.long 2f - 1f
1: .short 4
.long 0
.byte 8
.byte 1
.quad leaf
.long 5
.long lines
{entries}
.byte 0
2:
{more}
.section .note.GNU-stack,\"\",@progbits
"
    )
}

fn compile_with(folder: &Path, name: &str, assembler: &str) -> PathBuf {
    let file = folder.join(format!("{name}.s"));
    fs::write(&file, assembler).unwrap();
    let definition = PROGRAM.lines().find(|line| line.contains("*leaf(void) {")).unwrap();
    let source = PROGRAM.replace(definition, "void *leaf(void);");
    compile(folder, name, &source, &[file.to_str().unwrap()])
}

/// What the names look like to whom the program's maker is a stranger, with the debug information or without.
fn names_of(program: &Path, tame: bool) -> Vec<Option<u32>> {
    let bytes = FileBytes::new(fs::File::open(program).unwrap()).unwrap();
    assert_eq!(
        debug_information_is_tame(&ElfImage::parse(bytes).unwrap()),
        tame,
        "{program:?}"
    );
    let frames = Target::start(program).names_of_a_stranger();
    assert_eq!(functions(&frames), ["outer", "leaf"]);
    frames
        .iter()
        .map(|frame| frame.source.as_ref().and_then(|source| source.line))
        .collect()
}

#[test]
fn a_strangers_debug_information_can_exhaust_neither_stack_nor_memory() {
    let folder = tempfile::tempdir().unwrap();
    for (levels, lines) in [(100, [None, Some(2)]), (300_000, [None, None])] {
        let inlined = format!(".rept {levels}\n.byte 3\n.endr\n.rept {levels}\n.byte 0\n.endr");
        let entries = format!(".byte 2\n.quad leaf\n.long 5\n{inlined}\n.byte 0");
        let program = compile_with(folder.path(), "nested", &leaf_with(&entries, ""));
        assert_eq!(names_of(&program, lines[1].is_some()), lines);
    }
    for (count, lines) in [(10, [None, Some(2)]), (100_000, [None, None])] {
        let entries = format!(".rept {count}\n.byte 4\n.long 0\n.endr");
        let list = ".section .debug_ranges,\"\",@progbits\n.rept 100000\n.quad 1, 2\n.endr\n.quad 0, 0";
        let program = compile_with(folder.path(), "shared", &leaf_with(&entries, list));
        assert_eq!(names_of(&program, lines[1].is_some()), lines);
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

#[test]
fn long_names_of_many_addresses_are_bounded_together_and_what_they_cost_others_is_told() {
    const ADDRESSES: usize = 100_000;
    const ROOM: usize = 16 << 20;
    let folder = tempfile::tempdir().unwrap();
    let long = format!("f{}", "x".repeat(60_000));
    let assembler = format!(
        "\
.text
.globl leaf
.globl {long}
.type leaf, @function
.type {long}, @function
.balign 64
leaf:
mov (%rsp), %rax
ret
.size leaf, . - leaf
.balign 64
{long}:
.skip {ADDRESSES}, 0x90
.size {long}, . - {long}
.section .note.GNU-stack,\"\",@progbits
"
    );
    let program = compile_with(folder.path(), "long", &assembler);
    let target = Target::start(&program);
    let room = NameRoom::of(ROOM);
    let symbolizer = Symbolizer::with_places(target.modules.clone(), Some(target.pid), Places::default());
    let mut symbolizer = symbolizer.sharing(&room);
    let (mut bytes, mut named) = (0, 0);
    for at in 0..ADDRESSES as u64 {
        let [frame] = symbolizer.name(RuntimeAddress(target.function.0 + 64 + at), false) else {
            panic!("one frame at {at}")
        };
        assert_eq!(frame.module, "long");
        let name = frame.function.as_deref().unwrap_or_default();
        assert!(name.is_empty() || name.starts_with("fxxx"), "{name}");
        bytes += name.len();
        named += u64::from(!name.is_empty());
    }
    assert!(bytes <= ROOM, "{bytes}");
    assert!(bytes > ROOM / 2, "long names were asked for: {bytes}");
    assert_eq!(named + room.refused(), ADDRESSES as u64);
}
