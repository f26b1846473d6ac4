//! The kernel's table, instruction by instruction.

use super::super::{Emulation, SiteClass, classify};
use super::hex;

fn class(text: &str) -> SiteClass {
    classify(&hex(text))
}

#[test]
fn pushes_of_whole_registers_are_emulated() {
    for bytes in ["50", "54", "57", "4150", "4157"] {
        assert_eq!(class(bytes), SiteClass::Emulated(Emulation::Push), "{bytes}");
    }
}

#[test]
fn pushes_in_other_encodings_are_single_stepped() {
    // 16-bit push, needless REX, push of memory, push of an immediate.
    for bytes in ["6650", "4850", "4055", "ff30", "6a01"] {
        assert_eq!(class(bytes), SiteClass::SingleStepped, "{bytes}");
    }
}

#[test]
fn relative_branches_are_emulated() {
    use Emulation::{Call, ConditionalJump, Jump};
    for (bytes, emulation) in [
        ("eb00", Jump),
        ("e900000000", Jump),
        ("f2e900000000", Jump),
        ("e800000000", Call),
    ] {
        assert_eq!(class(bytes), SiteClass::Emulated(emulation), "{bytes}");
    }
    for condition in 0..16 {
        assert_eq!(classify(&[0x70 | condition, 0]), SiteClass::Emulated(ConditionalJump));
        let near = [0x0f, 0x80 | condition, 0, 0, 0, 0];
        assert_eq!(classify(&near), SiteClass::Emulated(ConditionalJump));
    }
}

#[test]
fn other_transfers_of_control_are_single_stepped() {
    // ret, jmp *%rax, call *%rax, jrcxz, loop.
    for bytes in ["c3", "ffe0", "ffd0", "e300", "e200"] {
        assert_eq!(class(bytes), SiteClass::SingleStepped, "{bytes}");
    }
}

#[test]
fn common_first_instructions_are_single_stepped() {
    // endbr64, test, mov, sub $8,%rsp, cmpb $0,x(%rip), pop, lea, vpxor xmm, pause.
    for bytes in [
        "f30f1efa",
        "4885ff",
        "4889f8",
        "4883ec08",
        "803d0000000000",
        "5b",
        "488d4701",
        "c5f177c0",
        "f390",
    ] {
        assert_eq!(class(bytes), SiteClass::SingleStepped, "{bytes}");
    }
}

#[test]
fn nops_are_emulated_in_the_kernels_own_forms_only() {
    assert_eq!(class("90"), SiteClass::Emulated(Emulation::Nop));
    for bytes in ["0f1f00", "0f1f440000", "660f1f440000", "660f1f840000000000"] {
        assert_eq!(class(bytes), SiteClass::Emulated(Emulation::LongNop), "{bytes}");
    }
    // nopl (%rcx) is none of the kernel's; 66 90 was refused once; a cs: prefix always is.
    assert_eq!(class("0f1f01"), SiteClass::SingleStepped);
    assert_eq!(class("6690"), SiteClass::Refused);
    assert_eq!(class("662e0f1f840000000000"), SiteClass::Refused);
}

#[test]
fn what_the_kernel_refuses_is_refused() {
    // int3, int, hlt, in, out, cli, iret, lock inc, notrack jmp, branch hint, 16-bit branches, syscall, ud2, fence, EVEX,
    // mov ss, XOP, vmovdqu (its opcode is looked up among the one-byte ones, where 6f is outs).
    for bytes in [
        "cc",
        "cd80",
        "f4",
        "ec",
        "ee",
        "fa",
        "cf",
        "f0ff00",
        "3effe0",
        "2e7400",
        "66e80000",
        "667400",
        "0f05",
        "0f0b",
        "0faee8",
        "62f17c48efc0",
        "8ed0",
        "8fe97812c0",
        "c5fe6f07",
        "",
        "66",
        "41",
    ] {
        assert_eq!(class(bytes), SiteClass::Refused, "{bytes}");
    }
}
