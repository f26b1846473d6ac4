//! Real allocators: prologues written down, one file a library, and the whole libc of this host.

use std::fs;
use std::path::Path;

use super::super::{Module, ProbeSite, SiteClass, SiteNeed, choose_site, choose_site_in_module};
use super::compiled::branch_targets;
use super::elf::ElfFile;
use super::{hex, spec};
use crate::target::address::ElfAddress;
use crate::target::mapping::parse_maps;

/// The sites of a file of prologues, one line each.
fn sites(prologues: &str) -> Vec<String> {
    let lines = prologues.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut words = line.split_whitespace();
            let mut word = || words.next().expect("four words");
            let (function, address, _size, bytes) = (word(), word(), word(), word());
            let address = u64::from_str_radix(address.trim_start_matches("0x"), 16).expect("an address");
            let site = choose_site(&hex(bytes), ElfAddress(address), SiteNeed::of(&spec(function)));
            told(function, &site)
        })
        .collect()
}

fn told(function: &str, site: &ProbeSite) -> String {
    let there = site.spec_at_site(spec(function));
    let mut text = format!("{function}+{:#x} {} {}", site.offset, site.instruction, site.class);
    if site.null_bypasses {
        text.push_str(", past NULL");
    }
    if there != spec(function) {
        text.push_str(", arguments moved");
    }
    if let Some(obstacle) = site.obstacle {
        text = format!("{text}: {obstacle}");
    }
    text
}

#[test]
fn glibc_without_cet() {
    let expected = [
        "malloc+0x0 push %r12 emulated",
        "free+0x9 push %rbp emulated, past NULL",
        "calloc+0x0 push %r13 emulated",
        "realloc+0x0 push %r15 emulated",
        "reallocarray+0x0 mov %rsi,%rax single-stepped: argument 3 is overwritten at +0x3",
        "posix_memalign+0x7 push %r12 emulated",
        "aligned_alloc+0x7 je 0x99620 emulated",
        "memalign+0x7 je 0x99620 emulated",
        "valloc+0x7 push %rbx emulated",
        "pvalloc+0x7 push %rbx emulated",
    ];
    assert_eq!(sites(include_str!("prologues/glibc-2.36.txt")), expected);
}

#[test]
fn jemalloc() {
    let expected = [
        "malloc+0x7 ja 0x239b0 emulated",
        "free+0x30 jne 0x27d20 emulated",
        "calloc+0x0 push %r15 emulated",
        "realloc+0x0 push %r15 emulated",
        "posix_memalign+0x0 push %r15 emulated",
        "aligned_alloc+0x0 push %r15 emulated",
        "memalign+0x0 push %r15 emulated",
        "valloc+0x0 push %r15 emulated",
    ];
    assert_eq!(sites(include_str!("prologues/jemalloc-5.3.0.txt")), expected);
}

#[test]
fn tcmalloc() {
    let expected = [
        "malloc+0xa jne 0x1edc1 emulated",
        "free+0xa jne 0x1d1a0 emulated",
        "calloc+0x0 push %r13 emulated",
        "realloc+0x0 push %r15 emulated",
        "posix_memalign+0xb jne 0x1efe8 emulated",
        "aligned_alloc+0xa ja 0x1ef38 emulated",
        "memalign+0xa ja 0x1ef38 emulated",
        "valloc+0x0 push %rbp emulated",
        "pvalloc+0x0 push %rbx emulated",
    ];
    assert_eq!(sites(include_str!("prologues/tcmalloc-2.10.txt")), expected);
}

/// Its functions put the heap where the argument was before the first branch: the argument is read where it went.
#[test]
fn mimalloc() {
    let expected = [
        "malloc+0x15 ja 0x10bb0 emulated, arguments moved",
        "free+0x4c jne 0x10f60 emulated, past NULL, arguments moved",
        "calloc+0x0 mov 0xadc9(%rip),%rdx single-stepped: the path may leave at +0x12",
        "realloc+0x14 jmp 0x6580 emulated, arguments moved",
        "reallocarray+0x0 jmp 0x6530 emulated",
        "posix_memalign+0x0 jmp 0x6510 emulated",
        "aligned_alloc+0x0 jmp 0x62a0 emulated",
        "memalign+0x0 jmp 0x63f0 emulated",
        "valloc+0x0 jmp 0x6100 emulated",
        "pvalloc+0x0 jmp 0x6470 emulated",
    ];
    assert_eq!(sites(include_str!("prologues/mimalloc-2.0.9.txt")), expected);
}

#[test]
fn musl() {
    let expected = [
        "malloc+0x0 jmp 0x29290 emulated",
        "free+0x0 jmp 0x282d0 emulated",
        "calloc+0x0 push %r12 emulated",
        "realloc+0x0 jmp 0x29ae0 emulated",
        "reallocarray+0x6 je 0x2a000 emulated",
        "posix_memalign+0x0 push %rbx emulated",
        "aligned_alloc+0x0 push %rbp emulated",
        "memalign+0x0 jmp 0x15050 emulated",
        "valloc+0x8 jmp 0x15040 emulated, arguments moved",
    ];
    assert_eq!(sites(include_str!("prologues/musl-1.2.3.txt")), expected);
}

/// The libc that this test runs on, whatever it is: the functions that matter are cheap, and nothing that objdump reads as
/// a branch comes between entry and site.
#[test]
fn the_libc_of_this_host() {
    let maps = parse_maps(&fs::read("/proc/self/maps").expect("read this process's mappings"));
    let libc = maps
        .iter()
        .find(|mapping| mapping.executable && mapping.module_name().starts_with("libc"))
        .expect("this process maps a libc");
    let libc = Path::new(&libc.path);
    let elf = ElfFile::read(libc);
    let entries: Vec<_> = elf.functions.iter().map(|function| function.address).collect();
    let branch_targets = branch_targets(libc);
    for name in [
        "malloc",
        "free",
        "calloc",
        "realloc",
        "posix_memalign",
        "aligned_alloc",
        "memalign",
        "valloc",
    ] {
        let function = elf
            .function(name)
            .unwrap_or_else(|| panic!("{} has {name}", libc.display()));
        let module = Module {
            text: elf.text(),
            text_address: elf.text_address(),
            other_entries: &entries,
        };
        let need = SiteNeed::of(&spec(name));
        let site = choose_site_in_module(elf.code(function), function.address, need, module);
        let told = told(name, &site);
        assert_ne!(site.class, SiteClass::Refused, "{told}");
        let is_hot = ["malloc", "free", "calloc", "realloc"].contains(&name);
        assert!(site.is_emulated() || !is_hot, "{told}");
        let between = function.address.0 + 1..=site.address().0;
        assert!(!branch_targets.iter().any(|target| between.contains(target)), "{told}");
    }
}
