//! The screen that a stranger's debug information passes before it is read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memscope::symbol::debug_information_is_tame;
use memscope::target::elf::ElfImage;
use memscope_fuzz::{elf, seeds};

const NAMES: [&str; 4] = [".debug_info", ".debug_abbrev", ".debug_rnglists", ".debug_ranges"];

fuzz_target!(init: seeds::plant([seed()]), |data: &[u8]| {
    let mut rest = data;
    let lengths: [[u8; 2]; 3] = std::array::from_fn(|_| elf::take(&mut rest));
    let mut parts = Vec::new();
    for (name, length) in NAMES.iter().zip(lengths.iter().map(|length| usize::from(u16::from_le_bytes(*length)))) {
        let (part, tail) = rest.split_at(length.min(rest.len()));
        parts.push((*name, 0, part));
        rest = tail;
    }
    parts.push((NAMES[3], 0, rest));
    let image = ElfImage::parse(elf::with(&[0xc3], &parts)).expect("its headers are good");
    let _verdict = debug_information_is_tame(&image);
});

/// What the C compiler wrote for the library that is compiled here; empty without one.
fn seed() -> Vec<u8> {
    let of = |name| {
        seeds::sections(name)
            .into_iter()
            .next()
            .map_or_else(Vec::new, |(_, bytes)| bytes)
    };
    let parts = NAMES.map(of);
    let mut seed: Vec<u8> = parts[..3]
        .iter()
        .flat_map(|part| (part.len() as u16).to_le_bytes())
        .collect();
    seed.extend(parts.concat());
    seed
}
