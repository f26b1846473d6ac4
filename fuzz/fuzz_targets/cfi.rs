//! Call frame information into rows: `.eh_frame` or `.debug_frame` in an image that is otherwise good.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memscope::unwind::table_for_elf;
use memscope_fuzz::{elf, seeds, table};

fuzz_target!(init: seeds::plant(inputs()), |data: &[u8]| {
    let mut rest = data;
    let [kind] = elf::take(&mut rest);
    let distance = i32::from_le_bytes(elf::take(&mut rest));
    let address = elf::CODE.wrapping_add_signed(i64::from(distance));
    let name = if kind & 1 == 0 { ".eh_frame" } else { ".debug_frame" };
    if let Ok(made) = table_for_elf(&elf::with(&elf::calls(), &[(name, address, rest)])) {
        table::check(&made);
    }
});

fn inputs() -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    for (kind, name) in [(0, ".eh_frame"), (1, ".debug_frame")] {
        for (distance, bytes) in seeds::sections(name) {
            inputs.push([&[kind][..], &distance.to_le_bytes(), &bytes].concat());
        }
    }
    // A CIE with absolute pointers, and a function of 0x300 bytes with rules of several kinds.
    let absolute = [
        0, 0, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0x78, 16, 0x0c, 7, 8, 0x90, 1, 0, 0, 0, 0, 0, 0, //
        36, 0, 0, 0, 28, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0x41, 0x0e, 16, 0x86, 2, 0x43, 0x0d,
        6, 0x0f, 4, 0x77, 8, 0x06, 0x23, 0x0a, 0x0b, 0, 0, 0, 0, 0, 0,
    ];
    inputs.push(absolute.to_vec());
    inputs
}
