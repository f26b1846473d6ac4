//! The file of a session's marks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memscope::history::marks;
use memscope_fuzz::seeds;

const SEED: &[u8] = br#"{"schema":"memscope.marks/v1","marks":[{"name":"before","at":{"unix_s":1700000000,"monotonic_ms":5},"number":7}]}"#;

fuzz_target!(init: seeds::plant([SEED.to_vec()]), |data: &[u8]| {
    for mark in marks::parse(data) {
        let _shown = format!("{mark:?}");
    }
});
