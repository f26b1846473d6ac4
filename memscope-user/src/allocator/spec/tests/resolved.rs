//! Specifications against compiled images.

use super::*;
use crate::allocator::catalogue::AllocatorName;
use crate::allocator::discovery::{Discovery, Outcome, discover_with};
use crate::target::compiled::{Folder, loaded};
use crate::target::loaded::LoadedImage;
use crate::target::memory::NoMemory;

const POOL: &str = "long pool_get(long a, long b, long c, long *d) { *d = a + b + c; return 0; }\n\
    void pool_put(long *a) { *a = 1; }\nint version;\n";
const LAYER: &str = "void *zOsMem_Alloc(int pool, long n) { return (void *)(n + pool); }\n\
    void zOsMem_Free(long *p) { *p = 2; }\nstatic long inner(long n) { return n * n; }\n\
    long pool_put(long n) { return inner(n); }\n\
    void *malloc(unsigned long n) { return (void *)n; }\nvoid free(char *p) { *p = 3; }\n";

fn images(folder: &Folder) -> [LoadedImage; 2] {
    let options = ["-shared", "-fPIC", "-Wl,-soname,libpool.so.1"];
    let pool = folder.compile("libpool.so.1.2", POOL, &options);
    let layer = folder.compile("gateway", LAYER, &["-shared", "-fPIC"]);
    [loaded(&pool), loaded(&layer)]
}

fn specs(texts: &[(SpecKind, &str)]) -> Vec<CustomSpec> {
    texts.iter().map(|(kind, text)| parsed(*kind, text)).collect()
}

fn custom(discovery: &Discovery) -> Vec<(String, usize)> {
    let found = discovery
        .found
        .iter()
        .filter(|found| found.name == AllocatorName::Custom);
    found
        .flat_map(|found| &found.functions)
        .map(|function| (function.name.clone(), function.module))
        .collect()
}

#[test]
fn names_are_found_in_every_module_or_in_the_one_given() {
    let folder = Folder::new("byname");
    let images = images(&folder);
    let specs = specs(&[
        (SpecKind::Alloc, "zOsMem_Alloc(size=1) -> ret"),
        (SpecKind::Free, "zOsMem_Free(ptr=0)"),
        (SpecKind::Alloc, "libpool.so:pool_get(count=1,size=2) -> *3"),
        (SpecKind::Free, "pool_put(ptr=0)"),
    ]);
    let discovery = discover_with(&images, &NoMemory, &specs).expect("all are there");
    let mut found = custom(&discovery);
    found.sort();
    let expected = [
        ("pool_get", 0),
        ("pool_put", 0),
        ("pool_put", 1),
        ("zOsMem_Alloc", 1),
        ("zOsMem_Free", 1),
    ];
    assert_eq!(found, expected.map(|(name, module)| (name.to_owned(), module)));
    assert_eq!(
        discovery.looked_at[0].outcome,
        Outcome::Allocators(vec![AllocatorName::Custom])
    );
    let indices: Vec<_> = discovery
        .functions()
        .map(|function| usize::from(function.call.index.0))
        .collect();
    assert_eq!(indices, (0..indices.len()).collect::<Vec<_>>());
    assert!(discovery.functions().any(|function| function.name == "malloc"));
}

#[test]
fn a_module_goes_by_path_file_name_or_soname() {
    let folder = Folder::new("bymodule");
    let images = images(&folder);
    let path = folder.path("libpool.so.1.2").display().to_string();
    for module in ["libpool.so", "libpool.so.1", "libpool.so.1.2", &path] {
        let specs = specs(&[(SpecKind::Free, &format!("{module}:pool_put(ptr=0)"))]);
        let discovery = discover_with(&images, &NoMemory, &specs).expect("it is there");
        assert_eq!(custom(&discovery), [("pool_put".to_owned(), 0)], "{module}");
    }
}

#[test]
fn what_is_said_by_hand_holds_against_the_catalogue() {
    let folder = Folder::new("byhand");
    let images = images(&folder);
    let specs = specs(&[(SpecKind::Alloc, "gateway:malloc() -> ret")]);
    let discovery = discover_with(&images, &NoMemory, &specs).expect("it is there");
    let malloc: Vec<_> = discovery
        .functions()
        .filter(|function| function.name == "malloc")
        .collect();
    assert_eq!(malloc.len(), 1, "{discovery}");
    assert_eq!(malloc[0].call.size, None);
    assert!(
        discovery
            .to_string()
            .contains("malloc not probed: as said of it by hand"),
        "{discovery}"
    );
}

#[test]
fn a_place_in_the_file_is_found_again() {
    let folder = Folder::new("byoffset");
    let images = images(&folder);
    let by_name = specs(&[(SpecKind::Free, "zOsMem_Free(ptr=0)")]);
    let by_name = discover_with(&images, &NoMemory, &by_name).expect("it is there");
    let function = by_name
        .functions()
        .find(|function| function.name == "zOsMem_Free")
        .expect("found");
    let by_offset = specs(&[(SpecKind::Free, &format!("gateway+{:#x}(ptr=0)", function.offset))]);
    let by_offset = discover_with(&images, &NoMemory, &by_offset).expect("it is code");
    let again = by_offset
        .functions()
        .find(|found| found.name.starts_with("gateway+0x"))
        .expect("found");
    assert_eq!((again.address, again.offset), (function.address, function.offset));

    let nowhere = specs(&[(SpecKind::Free, "gateway+0x0(ptr=0)")]);
    let error = discover_with(&images, &NoMemory, &nowhere).expect_err("the ELF header is no code");
    assert!(
        error
            .to_string()
            .contains("file offset 0x0 is in no executable part of"),
        "{error}"
    );
}

#[test]
fn a_name_that_is_not_there_is_answered_with_its_neighbours() {
    let folder = Folder::new("near");
    let images = images(&folder);
    let refused = |text: &str| {
        let specs = specs(&[(SpecKind::Alloc, text)]);
        discover_with(&images, &NoMemory, &specs)
            .expect_err("not there")
            .to_string()
    };
    assert_eq!(
        refused("zOsMem_Aloc(size=1) -> ret"),
        "`zOsMem_Aloc(size=1) -> ret`: no function named zOsMem_Aloc in the target's 2 modules; \
         did you mean zOsMem_Alloc (in gateway)?"
    );
    let text = refused("libpool.so:zOsMem_Alloc(size=1) -> ret");
    assert!(text.ends_with("no function named zOsMem_Alloc in libpool.so"), "{text}");
    // A variable is no function.
    assert!(refused("version() -> ret").contains("no function named version"));
    let text = refused("libpol.so:pool_get() -> *0");
    assert!(
        text.ends_with("no module named libpol.so; it has libpool.so.1.2, gateway"),
        "{text}"
    );
}

#[test]
fn two_that_contradict_each_other_are_refused() {
    let folder = Folder::new("conflict");
    let images = images(&folder);
    let agreeing = specs(&[
        (SpecKind::Free, "pool_put(ptr=0)"),
        (SpecKind::Free, "libpool.so:pool_put( ptr = 0 )"),
    ]);
    discover_with(&images, &NoMemory, &agreeing).expect("the same twice");
    let specs = specs(&[
        (SpecKind::Free, "pool_put(ptr=0)"),
        (SpecKind::Free, "libpool.so:pool_put(ptr=1)"),
    ]);
    let error = discover_with(&images, &NoMemory, &specs).expect_err("two places for one pointer");
    assert!(matches!(error, ResolveError::Conflict { .. }), "{error}");
}
