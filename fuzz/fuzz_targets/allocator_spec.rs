//! One specification of a custom allocator; an error points into the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memscope::allocator::spec::{CustomSpec, SpecKind};
use memscope_fuzz::seeds;

const SEEDS: &str = "azOsMem_Alloc(size=1) -> ret\nalibpool.so:pool_get(count=1,size=2) -> *3\nfzOsMem_Free(ptr=0)\n\
    rzOsMem_Realloc(ptr=0,size=1) -> ret\nagateway+0x4f210(size=0) -> ret\nalibstdc++.so.6+0x10(size=0)->ret\na\u{fc}(";

fuzz_target!(init: seeds::plant(seeds::lines(SEEDS)), |data: &[u8]| {
    let Some((kind, text)) = data.split_first() else { return };
    let kind = match kind {
        b'f' => SpecKind::Free,
        b'r' => SpecKind::Realloc,
        _ => SpecKind::Alloc,
    };
    let Ok(text) = std::str::from_utf8(text) else { return };
    match CustomSpec::parse(kind, text) {
        Ok(spec) => assert_eq!(CustomSpec::parse(kind, &spec.text), Ok(spec)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
