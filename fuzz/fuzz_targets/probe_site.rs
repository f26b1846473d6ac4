//! The choice of a probe's site in any code, in a module of any code.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memscope::probe::site::{ArgumentSet, Module, SiteNeed, choose_site_in_module};
use memscope::target::address::ElfAddress;
use memscope_ebpf::call::Argument;
use memscope_fuzz::{elf, seeds};

fuzz_target!(init: seeds::plant(functions()), |data: &[u8]| {
    let mut rest = data;
    let [arguments, flags, length, place] = elf::take(&mut rest);
    let need = SiteNeed {
        arguments: (0..6).filter(|position| arguments >> position & 1 == 1).filter_map(Argument::new).collect::<ArgumentSet>(),
        return_address: flags & 1 == 1,
        null_may_bypass: Argument::new(flags >> 1 & 7),
        shadow_stack: flags & 16 != 0,
    };
    // Also where addresses come to their end.
    let base = [0, 0x1000, 0x7fff_ffff_f000, u64::MAX - 100][usize::from(place % 4)];
    let at = usize::from(place >> 2).min(rest.len());
    let function = ElfAddress(base.saturating_add(at as u64));
    let code = &rest[at..rest.len().min(at + usize::from(length))];
    let others = [ElfAddress(base.saturating_add(7)), ElfAddress(u64::MAX)];
    let module = Module { text: rest, text_address: ElfAddress(base), other_entries: &others };
    let site = choose_site_in_module(code, function, need, module);
    assert!(site.offset == 0 || (site.offset as usize) < code.len());
    assert_eq!(site.obstacle.is_none(), site.is_emulated());
    let _shown = format!("{site:?}");
});

/// Pieces of real code.
fn functions() -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    for code in seeds::code() {
        for (number, piece) in code.chunks(200).take(20).enumerate() {
            let head = [
                1 << (number % 6),
                number as u8,
                200,
                if number % 2 == 0 { 1 } else { 0x41 },
            ];
            inputs.push([&head, piece].concat());
        }
    }
    inputs
}
