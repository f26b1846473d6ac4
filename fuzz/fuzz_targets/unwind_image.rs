//! A whole ELF file into an unwind table, and the table through the form in which it is kept.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memscope::unwind::{stored, table_for_elf};
use memscope_fuzz::{seeds, table};

fuzz_target!(init: seeds::plant(seeds::images()), |data: &[u8]| {
    let Ok(made) = table_for_elf(data) else { return };
    table::check(&made);
    let bytes = stored::encode(&made, |_| 7);
    assert!(bytes.len() as u64 <= stored::MAX_STORED);
    assert_eq!(stored::decode(&bytes, |_| 7), Some(made));
});
