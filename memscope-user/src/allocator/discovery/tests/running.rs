//! Discovery in running programs: this one, and small ones.

use std::process::Command;

use super::*;
use crate::target::compiled::{Folder, Running};
use crate::target::identity::Pid;
use crate::target::loaded::load_images;
use crate::target::mapping::parse_maps;
use crate::target::memory::ProcessMemory;

const PROGRAM: &str = r#"
#include <stdio.h>
#include <stdlib.h>
int main(void) {
    free(malloc(1));
    puts("ready");
    fflush(stdout);
    while (getchar() != EOF) {}
    return 0;
}
"#;

fn own() -> (Vec<LoadedImage>, ProcessMemory) {
    let maps = parse_maps(&std::fs::read("/proc/self/maps").expect("own mappings"));
    let pid = Pid(std::process::id());
    (load_images(pid, &maps), ProcessMemory::open(pid).expect("own memory"))
}

#[test]
fn glibcs_allocator_is_found_in_this_process() {
    let (images, memory) = own();
    let discovery = discover(&images, &memory);
    assert_eq!(names(&discovery), [AllocatorName::Glibc], "{discovery}");
    for name in [
        "malloc",
        "free",
        "calloc",
        "realloc",
        "reallocarray",
        "posix_memalign",
        "aligned_alloc",
        "memalign",
        "valloc",
        "pvalloc",
    ] {
        let function = named(&discovery, name);
        assert!(function.size > 0, "{function:?}");
    }
    let mut addresses: Vec<_> = discovery.functions().map(|function| function.address).collect();
    addresses.dedup();
    assert_eq!(
        addresses.len(),
        discovery.functions().count(),
        "an address twice:\n{discovery}"
    );
    let indices: Vec<_> = discovery
        .functions()
        .map(|function| usize::from(function.call.index.0))
        .collect();
    assert_eq!(indices, (0..indices.len()).collect::<Vec<_>>());
    assert!(!discovery.is_empty());
    assert!(named(&discovery, "realloc").call.zero_size_frees);
}

#[test]
fn the_address_found_for_malloc_is_the_one_the_program_calls() {
    let (images, memory) = own();
    let discovery = discover(&images, &memory);
    let found = named(&discovery, "malloc");
    let content = images[found.module].content.as_ref().expect("readable");
    unsafe extern "C" {
        fn malloc(size: usize) -> *mut std::ffi::c_void;
    }
    let called = malloc as unsafe extern "C" fn(usize) -> *mut std::ffi::c_void as usize as u64;
    assert_eq!(content.bias.to_runtime(found.address).0, called);
}

#[test]
fn a_preloaded_allocator_and_the_c_librarys_are_both_probed() {
    let folder = Folder::new("preloaded");
    let program = folder.compile("program", PROGRAM, &[]);
    let library = folder.compile(
        "libown.so",
        "static char heap[65536], *next = heap;\n\
         void *malloc(unsigned long n) { char *p = next; next += (n + 15) & ~15ul; return p; }\n\
         void free(void *p) {}\n\
         void *calloc(unsigned long n, unsigned long m) { return malloc(n * m); }\n\
         void *realloc(void *p, unsigned long n) { return malloc(n); }\n",
        &["-shared", "-fPIC"],
    );
    let running = Running::start(Command::new(program).env("LD_PRELOAD", &library));
    let (images, memory) = running.look();
    let discovery = discover(&images, &memory);
    let mut found = names(&discovery);
    found.sort();
    assert_eq!(found, [AllocatorName::Glibc, AllocatorName::Other], "{discovery}");
    for allocator in &discovery.found {
        let bound = allocator.name == AllocatorName::Other;
        let says = if bound {
            "are bound to it"
        } else {
            "is bound to it; probed"
        };
        assert!(allocator.notes.iter().any(|note| note.contains(says)), "{discovery}");
    }
}

#[test]
fn an_indirect_function_is_resolved_in_the_target() {
    let folder = Folder::new("indirect");
    let declared = "void *mi_malloc(unsigned long n); void mi_free(void *p);\n".to_owned();
    let source = declared
        + &PROGRAM.replace("free(malloc(1));", "mi_free(mi_malloc(1));")
        + "static char heap[65536];
           static void *first(unsigned long n) { return heap; }
           static void *second(unsigned long n) { return heap + 64; }
           static void *choose(void) { return second; }
           void *mi_malloc(unsigned long n) __attribute__((ifunc(\"choose\")));
           void mi_free(void *p) { }";
    for options in [
        &["-Wl,-z,now"][..],
        &["-Wl,-z,lazy"],
        &["-no-pie"],
        &["-static"],
        &["-static-pie"],
    ] {
        let program = folder.compile("program", &source, options);
        let running = Running::start(&mut Command::new(&program));
        let (images, memory) = running.look();
        let discovery = discover(&images, &memory);
        let image = images
            .iter()
            .position(|image| image.path() == program.as_os_str())
            .expect("the program");
        let content = images[image].content.as_ref().expect("readable");
        let mut second = None;
        content.image.visit_functions(&mut |function| {
            if function.name == "second" {
                second = Some(function.address);
            }
        });
        let found = discovery
            .functions()
            .find(|function| function.module == image && function.name == "mi_malloc");
        let found = found.unwrap_or_else(|| panic!("{options:?}\n{discovery}"));
        assert_eq!(Some(found.address), second, "{options:?}\n{discovery}");
    }
}

#[test]
fn a_file_that_was_replaced_is_still_looked_into() {
    let folder = Folder::new("replaced");
    let program = folder.compile("program", PROGRAM, &["-static"]);
    let running = Running::start(&mut Command::new(&program));
    std::fs::remove_file(&program).expect("the program's file");
    let (images, memory) = running.look();
    let discovery = discover(&images, &memory);
    let looked = &discovery.looked_at[0];
    assert!(
        looked.deleted && looked.to_string().contains(" (deleted): "),
        "{discovery}"
    );
    // Only the privileged can follow /proc/PID/map_files.
    match &looked.outcome {
        Outcome::Allocators(names) => assert_eq!(names, &[AllocatorName::Glibc]),
        Outcome::Unreadable { reason } => assert!(reason.contains("map_files") && reason.contains("root"), "{reason}"),
        other => panic!("{other:?}"),
    }
}
