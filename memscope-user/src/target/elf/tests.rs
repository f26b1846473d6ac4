//! Images of this very machine, compiled ones, and images made to do harm.

mod compressed;
mod hostile;
mod symbols;

use super::*;
use crate::target::compiled::{Folder, image};
use crate::target::identity::Pid;
use crate::target::loaded::load_images;
use crate::target::mapping::parse_maps;

const LIBRARY: &str = "static int hidden(int a) { return a * 3; }\n\
    int shown(int a) { return hidden(a) + 1; }\nint again(int a) __attribute__((alias(\"shown\")));\n";

/// Every function's name with the table that names it.
fn functions(image: &ElfImage) -> Vec<(String, SymbolTable)> {
    let mut names = Vec::new();
    let problems = image.visit_functions(&mut |function| names.push((function.name.to_owned(), function.table)));
    assert_eq!(problems, []);
    names
}

fn has(image: &ElfImage, name: &str, table: SymbolTable) -> bool {
    functions(image).contains(&(name.to_owned(), table))
}

#[test]
fn the_hosts_libc_is_read() {
    let maps = parse_maps(&std::fs::read("/proc/self/maps").expect("own mappings"));
    let images = load_images(Pid(std::process::id()), &maps);
    let libc = images
        .iter()
        .filter_map(|image| image.content.as_ref().ok())
        .find(|content| content.image.soname() == Some("libc.so.6"))
        .expect("this test runs with glibc");
    let image = &libc.image;
    assert!(image.build_id().is_some());
    assert_eq!(image.kind(), ImageKind::PositionIndependent);
    let mut malloc = None;
    let problems = image.visit_functions(&mut |function| {
        if function.name == "malloc" && function.table == SymbolTable::Dynamic {
            malloc = Some((function.address, function.size));
        }
    });
    assert_eq!(problems, []);
    let (address, size) = malloc.expect("malloc is exported");
    let offset = image.segments().to_offset(address).expect("code is in the file");
    assert_eq!(image.segments().to_address(offset), Some(address));
    assert_eq!(image.code(address, size).expect("code").len() as u64, size);
    let frames = image.section(".eh_frame").expect("unwinding information");
    assert_eq!(
        image.section_bytes(frames).expect("its bytes").len() as u64,
        frames.size
    );
}

#[test]
fn a_program_knows_its_kind_and_its_loader() {
    let folder = Folder::new("kinds");
    let source = "int main(void) { return 0; }\n";
    for (options, kind, interpreter) in [
        ("-pie", ImageKind::PositionIndependent, true),
        ("-no-pie", ImageKind::FixedAddress, true),
        ("-static", ImageKind::FixedAddress, false),
        ("-static-pie", ImageKind::PositionIndependent, false),
    ] {
        let image = image(&folder.compile("program", source, &[options]));
        assert_eq!(
            (image.kind(), image.has_interpreter()),
            (kind, interpreter),
            "{options}"
        );
        assert!(has(&image, "main", SymbolTable::Full));
        assert_eq!(image.problems(), []);
    }
}

#[test]
fn other_files_are_refused_in_words() {
    let refused = |bytes: &[u8]| match ElfImage::parse(bytes.to_vec()) {
        Ok(_) => panic!("taken for an image"),
        Err(error) => error,
    };
    assert_eq!(refused(b""), ElfError::NotElf);
    assert_eq!(refused(b"#!/bin/sh\n"), ElfError::NotElf);
    let folder = Folder::new("others");
    let good = std::fs::read(folder.compile("lib.so", LIBRARY, &["-shared", "-fPIC"])).expect("the library");
    let changed = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        refused(&bytes)
    };
    assert_eq!(changed(4, 1), ElfError::Not64Bit);
    assert_eq!(changed(5, 2), ElfError::NotLittleEndian);
    assert_eq!(changed(18, 183), ElfError::OtherMachine(183));
    assert_eq!(changed(16, 1), ElfError::NotLoadable(1));
    assert!(changed(4, 1).to_string().contains("32-bit"));
    assert!(matches!(
        refused(&good[..40]),
        ElfError::Truncated { size: 64, file: 40, .. }
    ));
}

#[test]
fn conversions_keep_to_the_segments() {
    let folder = Folder::new("segments");
    let image = image(&folder.compile("lib.so", LIBRARY, &["-shared", "-fPIC"]));
    let text = image
        .segments()
        .as_slice()
        .iter()
        .find(|segment| segment.executable)
        .expect("code");
    let last = ElfAddress(text.address.0 + text.file_size - 1);
    assert!(image.segments().to_offset(last).is_some());
    assert_eq!(image.segments().to_offset(ElfAddress(u64::MAX)), None);
    assert_eq!(image.segments().to_address(FileOffset(u64::MAX)), None);
    assert_eq!(image.code(last, 100).expect("the last byte").len(), 1);
    assert_eq!(image.code(ElfAddress(u64::MAX), 1), Err(ElfError::NotMapped(u64::MAX)));
}
