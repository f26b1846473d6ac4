//! Symbols wherever they may be: dynamic, full, compressed, in a separate file, without sections.

use super::*;
use crate::target::debug_file;

#[test]
fn stripping_leaves_what_is_exported() {
    let folder = Folder::new("stripped");
    let path = folder.compile("lib.so", LIBRARY, &["-shared", "-fPIC", "-O0"]);
    let whole = image(&path);
    assert!(whole.has_full_symbols() && has(&whole, "hidden", SymbolTable::Full));
    folder.tool("strip", &["lib.so"]);
    let stripped = image(&path);
    assert!(!stripped.has_full_symbols() && !has(&stripped, "hidden", SymbolTable::Full));
    assert!(has(&stripped, "shown", SymbolTable::Dynamic) && has(&stripped, "again", SymbolTable::Dynamic));
    assert_eq!(whole.build_id(), stripped.build_id());
}

#[test]
fn a_library_without_section_headers_is_read_by_its_dynamic_section() {
    let folder = Folder::new("sectionless");
    for hash in ["-Wl,--hash-style=gnu", "-Wl,--hash-style=sysv"] {
        let path = folder.compile(
            "lib.so",
            LIBRARY,
            &["-shared", "-fPIC", "-Wl,-soname,libown.so.1", hash],
        );
        let mut bytes = std::fs::read(&path).expect("the library");
        let expected = functions(&image(&path));
        bytes[40..48].fill(0);
        bytes[58..64].fill(0);
        let bare = ElfImage::parse(bytes).expect("an image all the same");
        assert_eq!(bare.sections(), []);
        assert_eq!(bare.soname(), Some("libown.so.1"));
        assert_eq!(bare.build_id(), image(&path).build_id());
        let exported: Vec<_> = expected
            .into_iter()
            .filter(|(_, table)| *table == SymbolTable::Dynamic)
            .collect();
        assert!(exported.len() >= 2);
        assert_eq!(functions(&bare), exported, "{hash}");
    }
}

#[test]
fn a_separate_debug_file_counts_only_with_the_same_build_id() {
    let folder = Folder::new("debugfile");
    let path = folder.compile("lib.so", LIBRARY, &["-shared", "-fPIC", "-O0", "-g"]);
    folder.tool("objcopy", &["--only-keep-debug", "lib.so", "lib.debug"]);
    folder.tool("strip", &["lib.so"]);
    let other = folder.compile("other.so", &LIBRARY.replace("* 3", "* 5"), &["-shared", "-fPIC", "-O0"]);
    let mut stripped = image(&path);
    assert!(stripped.add_debug_file(image(&other)).is_err());
    assert!(!stripped.has_full_symbols());
    assert!(stripped.add_debug_file(image(&folder.path("lib.debug"))).is_ok());
    assert!(stripped.has_full_symbols() && has(&stripped, "hidden", SymbolTable::DebugFile));

    let mut nameless = image(&folder.compile("bare.so", LIBRARY, &["-shared", "-fPIC", "-Wl,--build-id=none"]));
    assert_eq!(nameless.build_id(), None);
    let twin = image(&folder.path("bare.so"));
    assert!(nameless.add_debug_file(twin).is_err(), "no build id is no agreement");
}

#[test]
fn a_stripped_image_without_a_debug_file_stays_as_it_is() {
    let folder = Folder::new("nodebug");
    let path = folder.compile("lib.so", LIBRARY, &["-shared", "-fPIC", "-s"]);
    let mut stripped = image(&path);
    assert_eq!(debug_file::add_symbols(&mut stripped, Pid(std::process::id())), None);
}

/// Puts `content` into the library's `.gnu_debugdata` and reads it back.
fn with_mini_debug(folder: &Folder, content: &[u8]) -> ElfImage {
    folder.compile("lib.so", LIBRARY, &["-shared", "-fPIC", "-O0"]);
    std::fs::write(folder.path("mini.xz"), content).expect("the section's content");
    folder.tool("strip", &["lib.so"]);
    folder.tool("objcopy", &["--add-section", ".gnu_debugdata=mini.xz", "lib.so"]);
    image(&folder.path("lib.so"))
}

#[test]
fn compressed_symbols_are_read() {
    let folder = Folder::new("minidebug");
    folder.compile("lib.so", LIBRARY, &["-shared", "-fPIC", "-O0"]);
    folder.tool("objcopy", &["--only-keep-debug", "lib.so", "mini"]);
    let mini = std::fs::read(folder.path("mini")).expect("the image");
    let mut compressed = Vec::new();
    lzma_rs::xz_compress(&mut mini.as_slice(), &mut compressed).expect("memory");
    let image = with_mini_debug(&folder, &compressed);
    assert!(has(&image, "hidden", SymbolTable::MiniDebug));
    assert!(has(&image, "shown", SymbolTable::Dynamic));
}

#[test]
fn a_broken_compressed_image_is_a_problem_and_no_more() {
    let folder = Folder::new("brokenmini");
    let image = with_mini_debug(&folder, b"\xfd7zXZ\0\0\x04garbage");
    let mut shown = false;
    let problems = image.visit_functions(&mut |function| shown |= function.name == "shown");
    assert!(shown);
    assert_eq!(problems.len(), 1, "{problems:?}");
}
