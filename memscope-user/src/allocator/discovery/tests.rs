//! Discovery in the images of this very process.

use super::*;
use crate::target::identity::Pid;
use crate::target::loaded::load_images;
use crate::target::mapping::parse_maps;
use crate::target::memory::ProcessMemory;

fn own() -> (Vec<LoadedImage>, ProcessMemory) {
    let maps = parse_maps(&std::fs::read("/proc/self/maps").expect("own mappings"));
    let pid = Pid(std::process::id());
    (load_images(pid, &maps), ProcessMemory::open(pid).expect("own memory"))
}

#[test]
fn glibcs_allocator_is_found_in_this_process() {
    let (images, memory) = own();
    let discovery = discover(&images, &memory);
    let text = discovery.to_string();
    let glibc: Vec<_> = discovery
        .found
        .iter()
        .filter(|found| found.name == AllocatorName::Glibc)
        .collect();
    assert_eq!(glibc.len(), 1, "{text}");
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
        let named =
            |function: &&FoundFunction| function.name == name || function.aliases.iter().any(|alias| alias == name);
        assert_eq!(glibc[0].functions.iter().filter(named).count(), 1, "{name} in {text}");
    }
    let mut addresses: Vec<_> = glibc[0].functions.iter().map(|function| function.address).collect();
    addresses.dedup();
    assert_eq!(addresses.len(), glibc[0].functions.len(), "an address twice: {text}");
    let indices: Vec<_> = discovery
        .functions()
        .map(|function| usize::from(function.call.index.0))
        .collect();
    assert_eq!(indices, (0..indices.len()).collect::<Vec<_>>());
    assert!(!discovery.is_empty());
}

#[test]
fn the_address_found_for_malloc_is_the_one_the_program_calls() {
    let (images, memory) = own();
    let discovery = discover(&images, &memory);
    let found = discovery
        .functions()
        .find(|function| function.name == "malloc")
        .expect("malloc");
    let content = images[found.module].content.as_ref().expect("readable");
    unsafe extern "C" {
        fn malloc(size: usize) -> *mut std::ffi::c_void;
    }
    let called = malloc as unsafe extern "C" fn(usize) -> *mut std::ffi::c_void as usize as u64;
    assert_eq!(content.bias.to_runtime(found.address).0, called);
}
