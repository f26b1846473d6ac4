//! A TOML file of specifications (`--allocators FILE`).
#![no_main]

use libfuzzer_sys::fuzz_target;
use memscope::allocator::spec::parse_file;
use memscope_fuzz::seeds;

const SEED: &[u8] = b"# ours\nalloc = [\"a(size=1) -> ret\", 'lib.so:b(count=0,size=1)->*3']\nfree = ['c(ptr=0)']\n\
    realloc = [\"\"\"d(ptr=0,size=1) -> ret\"\"\"]\n";

fuzz_target!(init: seeds::plant([SEED.to_vec(), b"alloc = [\"\\u00fc(\"]".to_vec()]), |data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(error) = parse_file(text) {
        assert!(!error.to_string().is_empty());
    }
});
