//! A mapped file: everything that is asked of an ELF image, and what discovery and the choice of sites make of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memscope::allocator::discovery::discover;
use memscope::probe::exits;
use memscope::probe::plan::plan;
use memscope::suppress::builtin::default_suppressions;
use memscope::target::elf::ElfImage;
use memscope::target::loaded::{LoadError, LoadedImage};
use memscope::target::mapping::parse_maps;
use memscope::target::memory::NoMemory;
use memscope_fuzz::seeds;

fuzz_target!(init: seeds::plant(seeds::images()), |data: &[u8]| {
    let Ok(image) = ElfImage::parse(data.to_vec()) else { return };
    let mut found = Vec::new();
    let _problems = image.visit_functions(&mut |function| found.push((function.address, function.size)));
    for (address, size) in found.into_iter().take(100) {
        let _code = image.code(address, size.min(64));
        if let Some(offset) = image.segments().to_offset(address) {
            assert!(image.segments().to_address(offset).is_some());
        }
    }
    let _unreadable = image.visit_slots(&mut |_| {});
    for section in image.sections().iter().take(100) {
        let _bytes = image.section_bytes(section);
    }
    let _facts = (image.build_id(), image.soname(), image.problems(), image.has_full_symbols());
    let _rules = default_suppressions(&image);
    let mapping = parse_maps(b"7f0000000000-7f0000010000 r-xp 00001000 08:01 42 /lib/hostile.so\n").remove(0);
    let images = [LoadedImage::new(mapping, Ok::<_, LoadError>(image))];
    let discovery = discover(&images, &NoMemory);
    let _text = discovery.not_found_text("process 1");
    let returns = exits::find(&discovery, &images, &NoMemory);
    for call in plan(&discovery, &images, &returns) {
        assert!(call.spec().is_some());
    }
});
