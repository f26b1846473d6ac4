//! Each obligation, kept and broken, on a few instructions. The assembly in the comments is what the bytes are.

use super::super::{
    ArgumentSet, Emulation, Module, Obstacle, ProbeSite, SiteClass, SiteNeed, choose_site, choose_site_in_module,
};
use super::{JCC, JUMP, PUSH, argument, hex, spec, summary};
use crate::target::address::ElfAddress;

const ENTRY: ElfAddress = ElfAddress(0x1000);

/// A return probe that reads the first argument.
fn returning() -> SiteNeed {
    SiteNeed::of(&spec("malloc"))
}

fn freeing() -> SiteNeed {
    SiteNeed::of(&spec("free"))
}

fn choose(need: SiteNeed, bytes: &str) -> ProbeSite {
    let site = choose_site(&hex(bytes), ENTRY, need);
    assert!(need.null_may_bypass.is_some() || !site.null_bypasses);
    assert_eq!(site.obstacle.is_none(), site.is_emulated());
    site
}

/// Asserts that the site is the entry, single-stepped, for this reason.
fn assert_falls_back(need: SiteNeed, bytes: &str, obstacle: Obstacle) {
    let site = choose(need, bytes);
    let seen = (site.offset, site.class, site.obstacle);
    assert_eq!(seen, (0, SiteClass::SingleStepped, Some(obstacle)), "{bytes}");
}

#[test]
fn an_emulated_entry_is_the_site() {
    // push %rbx; pop %rbx; ret
    assert_eq!(summary(&choose(returning(), "535bc3")), (0, "push %rbx", PUSH));
}

#[test]
fn endbr64_is_passed_over() {
    // endbr64; push %rbx; pop %rbx; ret
    assert_eq!(summary(&choose(returning(), "f30f1efa535bc3")), (4, "push %rbx", PUSH));
    // endbr64; jmp 1f; 1: ret
    assert_eq!(summary(&choose(returning(), "f30f1efaeb00c3")), (4, "jmp 0x1006", JUMP));
}

#[test]
fn a_branch_that_every_call_reaches_is_a_site() {
    // cmp $0x1000,%rdi; ja 1f; mov %rdi,%rax; 1: ret
    let site = choose(returning(), "4881ff0010000077034889f8c3");
    assert_eq!(summary(&site), (7, "ja 0x100c", JCC));
}

#[test]
fn free_is_probed_past_its_null_test() {
    // test %rdi,%rdi; je 9f; push %rbp; mov %rdi,%rbp; pop %rbp; 9: ret
    let site = choose(freeing(), "4885ff7405554889fd5dc3");
    assert_eq!(summary(&site), (5, "push %rbp", PUSH));
    assert!(site.null_bypasses);
    // cmp $0,%rdi; je 9f; push %rbp; pop %rbp; 9: ret
    assert_eq!(choose(freeing(), "4883ff007402555dc3").offset, 6);
    // test %rdi,%rdi; mov %rsi,%rax; je 9f; push %rbp; …
    assert_eq!(choose(freeing(), "4885ff4889f07402555dc3").offset, 8);
    // push %rbp; mov %rsp,%rbp; test %rdi,%rdi; je 9f; push %rbx; …
    assert_eq!(choose(freeing(), "554889e54885ff7402535b5dc3").offset, 9);
    // The test of a copy: mov %rdi,%rdx; test %rdx,%rdx; je 9f; push %rbp; …
    assert_eq!(choose(freeing(), "4889fa4885d27402555dc3").offset, 8);
}

#[test]
fn a_null_test_is_no_bypass_where_null_matters() {
    // realloc(NULL, n) allocates: test %rdi,%rdi; je 9f; push %rbp; …
    let site = choose(SiteNeed::of(&spec("realloc")), "4885ff7405554889fd5dc3");
    assert_eq!(summary(&site), (3, "je 0x100a", JCC));
}

#[test]
fn what_is_not_the_null_test_bypasses_nothing() {
    for (bytes, offset) in [
        // jne 1f; push %rbp; pop %rbp; 1: ret: the way on is the NULL way.
        ("4885ff7502555dc3", 3),
        // jbe 9f, on the same flags.
        ("4885ff7602555dc3", 3),
        // test %edi,%edi: half the pointer.
        ("85ff7402555dc3", 2),
        // The flags are another instruction's: test %rdi,%rdi; add $1,%rax; je.
        ("4885ff4883c0017402555dc3", 7),
        // test %rsi,%rsi; je.
        ("4885f67402555dc3", 3),
        // test %rdi,%rsi; je.
        ("4885fe7402555dc3", 3),
    ] {
        let site = choose(freeing(), bytes);
        assert_eq!(
            (site.offset, site.class, site.null_bypasses),
            (offset, JCC, false),
            "{bytes}"
        );
    }
}

#[test]
fn a_written_argument_ends_the_walk() {
    let lost = |offset| Obstacle::Argument { offset, position: 0 };
    for (bytes, obstacle) in [
        ("89ff535bc3", lost(0)),         // mov %edi,%edi clears the upper half
        ("31ff535bc3", lost(0)),         // xor %edi,%edi
        ("40b701535bc3", lost(0)),       // mov $1,%dil
        ("480f42fe535bc3", lost(0)),     // cmovb %rsi,%rdi
        ("f3480f1ec831ff53c3", lost(5)), // rdsspq %rax; xor %edi,%edi
        ("89fe31ff535bc3", lost(2)),     // mov %edi,%esi is no whole copy; xor %edi,%edi
        ("4889fe31f631ff53c3", lost(5)), // the copy is lost too
    ] {
        assert_falls_back(returning(), bytes, obstacle);
    }
    // The count of calloc goes with cpuid and mul, which name no register.
    let both = SiteNeed {
        arguments: [argument(0), argument(2)].into_iter().collect(),
        ..returning()
    };
    assert_falls_back(both, "0fa253c3", Obstacle::Argument { offset: 0, position: 2 });
    assert_falls_back(both, "48f7e653c3", Obstacle::Argument { offset: 0, position: 2 });
    // Nothing that is read is lost.
    assert_eq!(choose(returning(), "0fa253c3").offset, 2);
}

#[test]
fn an_argument_that_moved_is_read_where_it_went() {
    // mov %rdi,%rsi; xor %edi,%edi; push %rbx; …
    let site = choose(returning(), "4889fe31ff535bc3");
    assert_eq!(summary(&site), (5, "push %rbx", PUSH));
    assert_eq!(site.spec_at_site(spec("malloc")).size, Some(argument(1)));
    // An argument that stayed is read where it was.
    let site = choose(returning(), "4889fe535bc3");
    assert_eq!(site.spec_at_site(spec("malloc")), spec("malloc"));
}

#[test]
fn an_argument_only_in_a_register_that_no_row_names_ends_in_the_entry() {
    // mov %rdi,%rax; xor %edi,%edi; push %rbx; pop %rbx; ret
    assert_falls_back(returning(), "4889f831ff535bc3", Obstacle::ReturnAddress { offset: 5 });
}

#[test]
fn exchanged_arguments_are_lost() {
    // xchg %rdi,%rsi; push %rbx; …
    assert_falls_back(
        returning(),
        "4887fe535bc3",
        Obstacle::Argument { offset: 0, position: 0 },
    );
}

#[test]
fn a_return_probe_stays_before_the_first_change_of_the_stack() {
    for bytes in [
        "4883ec08535b4883c408c3", // sub $8,%rsp
        "48890424535bc3",         // mov %rax,(%rsp)
        "48894424fc535bc3",       // mov %rax,-4(%rsp) reaches into the return address
        "4c8d542408535bc3",       // lea 8(%rsp),%r10
        "4989e2535bc3",           // mov %rsp,%r10
    ] {
        assert_falls_back(returning(), bytes, Obstacle::ReturnAddress { offset: 0 });
    }
    // Below rsp is the function's own.
    assert_eq!(choose(returning(), "48894424f8535bc3").offset, 5);
    assert_eq!(choose(returning(), "894424fc535bc3").offset, 4);
    // An entry probe may follow the stack.
    assert_eq!(choose(freeing(), "4883ec08535b4883c408c3").offset, 4);
}

#[test]
fn nothing_has_happened_before_the_site() {
    // mov %rax,(%rdi); incl 0x1000(%rip)
    for bytes in ["488907535bc3", "ff0500100000535bc3"] {
        assert_falls_back(freeing(), bytes, Obstacle::Store { offset: 0 });
    }
}

#[test]
fn only_straight_lines_are_followed() {
    for (bytes, offset) in [
        ("4889f8c353c3", 3),       // mov %rdi,%rax; ret; push %rbx
        ("4889f8ffd053c3", 3),     // call *%rax
        ("b8090000000f0553c3", 5), // syscall
        ("c7f80000000053c3", 0),   // xbegin
        ("e30153c3", 0),           // jrcxz
    ] {
        assert_falls_back(freeing(), bytes, Obstacle::Branch { offset });
    }
}

#[test]
fn a_branch_that_lands_before_or_on_the_site_forbids_it() {
    // mov %rdi,%rax; 1: push %rbx; pop %rbx; dec %rax; jne 1b; ret
    assert_falls_back(
        returning(),
        "4889f8535b48ffc875f9c3",
        Obstacle::BranchLands { at: ElfAddress(0x1003) },
    );
    // Into the middle of the crossed instruction.
    assert_falls_back(
        returning(),
        "4889f8535b48ffc875f8c3",
        Obstacle::BranchLands { at: ElfAddress(0x1002) },
    );
    // Past the site, and to the entry, it may.
    assert_eq!(choose(returning(), "4889f8535b48ffc875fac3").offset, 3);
    let site = choose(returning(), "4889f8535b48ffc875f6c3");
    assert!(site.re_entered && site.offset == 3);
    assert!(!choose(returning(), "4889f8535b48ffc875fac3").re_entered);
}

#[test]
fn a_possible_switch_allows_a_push_and_nothing_else() {
    // cmp $1,%rdi; jbe 2f; jmp *%rax; 2: ret
    assert_falls_back(returning(), "4883ff017602ffe0c3", Obstacle::TableJump);
    // mov %rdi,%rax; push %rbx; pop %rbx; jmp *(%rdx,%rax,8)
    assert_eq!(choose(returning(), "4889f8535bff24c2").offset, 3);
    // Through one fixed word: cmp $1,%rdi; jbe 2f; jmp *0x1000(%rip); 2: ret
    assert_eq!(choose(returning(), "4883ff017606ff2500100000c3").offset, 4);
}

#[test]
fn another_symbol_forbids_what_lies_past_it() {
    // mov %rdi,%rax; push %rbx; pop %rbx; ret
    let code = hex("4889f8535bc3");
    let at = |address| {
        let entries = [ElfAddress(0x10), ENTRY, ElfAddress(address)];
        let module = Module {
            other_entries: &entries,
            ..Module::UNKNOWN
        };
        choose_site_in_module(&code, ENTRY, returning(), module)
    };
    assert_eq!(
        at(0x1003).obstacle,
        Some(Obstacle::OtherEntry { at: ElfAddress(0x1003) })
    );
    assert_eq!(at(0x1001).offset, 0);
    assert_eq!(at(0x1004).offset, 3);
}

#[test]
fn a_jump_from_elsewhere_in_the_module_forbids_what_lies_past_its_target() {
    // Our function (mov %rdi,%rax; push %rbx; pop %rbx; ret), then at 0x1006 a cold part: jmp to 0x1003.
    let text = hex("4889f8535bc3 e9f8ffffff");
    let choose = |text: &[u8]| {
        let module = Module {
            text,
            text_address: ENTRY,
            other_entries: &[],
        };
        choose_site_in_module(&text[..6], ENTRY, returning(), module)
    };
    let site = choose(&text);
    assert_eq!(site.obstacle, Some(Obstacle::BranchLands { at: ElfAddress(0x1003) }));
    assert_eq!(site.offset, 0);
    assert_eq!(choose(&hex("4889f8535bc3 e9f9ffffff")).offset, 3);
}

#[test]
fn a_call_is_a_site_only_without_a_shadow_stack() {
    // sub $8,%rsp; call 1f; 1: ret
    let bytes = "4883ec08e800000000c3";
    assert_falls_back(freeing(), bytes, Obstacle::Branch { offset: 4 });
    let need = SiteNeed {
        shadow_stack: false,
        ..freeing()
    };
    let site = choose(need, bytes);
    assert_eq!(summary(&site), (4, "call 0x1009", SiteClass::Emulated(Emulation::Call)));
}

#[test]
fn a_long_nop_is_a_site_where_nothing_better_is() {
    let long_nop = SiteClass::Emulated(Emulation::LongNop);
    // nopl 0(%rax,%rax); mov %rdi,%rax; ret
    let site = choose(returning(), "0f1f4400004889f8c3");
    assert_eq!((site.offset, site.class), (0, long_nop));
    // nopl 0(%rax,%rax); push %rbx; ret
    assert_eq!(choose(returning(), "0f1f44000053c3").offset, 5);
    // Its replacement by a call would overwrite what was stored: mov %rax,-8(%rsp); nopl 0(%rax,%rax); ret
    assert_falls_back(returning(), "48894424f80f1f440000c3", Obstacle::Branch { offset: 10 });
}

#[test]
fn an_entry_that_the_kernel_refuses_is_left_for_one_it_takes() {
    // lock incl (%rax) is refused and is a store: nothing is left.
    let site = choose(returning(), "f0ff0053c3");
    assert_eq!((site.offset, site.class), (0, SiteClass::Refused));
    // vmovdqu (%rdi),%ymm0; mov %rdi,%rax; ret
    let site = choose(returning(), "c5fe6f074889f8c3");
    assert_eq!((site.offset, site.class), (4, SiteClass::SingleStepped));
}

#[test]
fn hostile_bytes_end_in_an_answer() {
    for length in 0..40 {
        for byte in 0..=255_u8 {
            let code = vec![byte; length];
            for entry in [0, u64::MAX, u64::MAX - 20] {
                let site = choose_site(&code, ElfAddress(entry), freeing());
                assert!(usize::try_from(site.offset).unwrap() <= length);
            }
        }
    }
    assert_eq!(choose(returning(), "").obstacle, Some(Obstacle::EndOfCode));
    assert_eq!(
        choose(returning(), "06").obstacle,
        Some(Obstacle::Undecodable { offset: 0 })
    );
}

#[test]
fn every_truncation_of_a_function_ends_in_an_answer() {
    let code = hex("4885ff7405554889fd5dc3");
    for length in 0..code.len() {
        let site = choose_site(&code[..length], ENTRY, freeing());
        assert_eq!(site.is_emulated(), length >= 5, "{length}");
    }
}

#[test]
fn a_need_follows_from_the_row() {
    let all = |positions: &[u8]| {
        positions
            .iter()
            .map(|position| argument(*position))
            .collect::<ArgumentSet>()
    };
    let need = SiteNeed::of(&spec("posix_memalign"));
    assert_eq!(
        (need.arguments, need.return_address, need.null_may_bypass),
        (all(&[0, 2]), true, None)
    );
    let need = SiteNeed::of(&spec("realloc"));
    assert_eq!(
        (need.arguments, need.return_address, need.null_may_bypass),
        (all(&[0, 1]), true, None)
    );
    let need = SiteNeed::of(&spec("free"));
    assert_eq!(
        (need.arguments, need.return_address, need.null_may_bypass),
        (all(&[0]), false, Some(argument(0)))
    );
}
