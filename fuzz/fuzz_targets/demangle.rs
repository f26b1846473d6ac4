//! Mangled names: of the target's choice, shown readable within a limit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memscope::symbol::demangle;
use memscope_fuzz::seeds;

const SEEDS: &str = "_ZN4Pool4takeEm\n_ZN4core9panicking9panic_fmt17h5f1a6fd39197ad62E\n_RNvC6_123foo3bar\n_Znwm\n_Z\n\
    _ZNSt6vectorISt4pairIiNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEEESaIS7_EE12emplace_backIJS7_EEERS7_DpOT_\n\
    _ZZN3foo3barEvENKUlvE_clEv\n_RNvXs_NtCs1234_7mycrate3fooNtB4_3BarINtNtNtCs9_4core3fmt5Debug3fmt\n\
    _RINvNtC3std3mem8align_ofjKj1_EE\n_Z1fIJilEEvDpT_\n_ZTv0_n24_N1A1fEv";

fuzz_target!(init: seeds::plant(seeds::lines(SEEDS)), |data: &[u8]| {
    let Ok(name) = std::str::from_utf8(data) else { return };
    let shown = demangle(name);
    assert!(shown == name || shown.len() <= 64 << 10);
});
