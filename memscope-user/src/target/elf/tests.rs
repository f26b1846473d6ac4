//! Images of this very machine, and images made to do harm.

use super::*;
use crate::target::identity::Pid;
use crate::target::loaded::load_images;
use crate::target::mapping::parse_maps;

#[test]
fn the_hosts_libc_is_read() {
    let maps = parse_maps(&std::fs::read("/proc/self/maps").expect("own mappings"));
    let images = load_images(Pid(std::process::id()), &maps);
    let libc = images
        .iter()
        .filter_map(|image| image.content.as_ref().ok())
        .find(|content| content.image.soname() == Some("libc.so.6"))
        .expect("this test runs with glibc");
    assert!(libc.image.build_id().is_some());
    let mut malloc = None;
    let problems = libc.image.visit_functions(&mut |function| {
        if function.name == "malloc" && function.table == SymbolTable::Dynamic {
            malloc = Some((function.address, function.size));
        }
    });
    assert_eq!(problems, []);
    let (address, size) = malloc.expect("malloc is exported");
    let offset = libc.image.segments().to_offset(address).expect("code is in the file");
    assert_eq!(libc.image.segments().to_address(offset), Some(address));
    assert_eq!(libc.image.code(address, size).expect("code").len() as u64, size);
}
