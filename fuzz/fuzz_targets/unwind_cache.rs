//! A file of the unwind cache whose checksum is right, and the session's tables that come of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memscope::unwind::{stored, table_for_elf};
use memscope_fuzz::{seeds, table};

fuzz_target!(init: seeds::plant(seeds::images().iter().filter_map(|image| {
    let made = table_for_elf(image).ok()?;
    Some(stored::encode(&made, |_| 0))
})), |data: &[u8]| {
    let sum = data.last_chunk::<8>().map_or(0, |sum| u64::from_le_bytes(*sum));
    let Some(kept) = stored::decode(data, |_| sum) else { return };
    assert_eq!(stored::encode(&kept, |_| sum), data);
    table::walk(kept, &[0x55; 64]);
});
