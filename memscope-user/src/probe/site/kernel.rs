//! What the x86-64 kernel does with the instruction under a uprobe: emulate it, single-step a copy of it, or refuse it.
//!
//! Source: `arch/x86/kernel/uprobes.c` from 6.1 on (`branch_setup_xol_ops`, `push_setup_xol_ops`, `is_prefix_bad`,
//! `good_insns_64`, `good_2byte_insns`). Where kernels differ, the answer here is the least favourable one:
//! - `0f 1f` nops are emulated since 6.16 (commit 610f6e14c29d, exact match with the kernel's own nops) and
//!   single-stepped before. 6.18 turns the 5-byte one into a call to a trampoline page; that `call` writes below rsp.
//! - `66 90` was refused before 6.2, `f3 90` (pause) is no nop to the newest kernels: neither counts as emulated here.
//! - An emulated `call` pushes to the user's shadow stack only in the newest kernels.
//! - `0f xx`: the kernel's first table lets every one through; the second, meant to be asked, is asked here.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An instruction that the kernel emulates: the probe costs one trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Emulation {
    /// `push r64`: 50–57, 41 50–57.
    Push,
    /// `jmp rel8`, `jmp rel32`.
    Jump,
    /// `jcc rel8`, `jcc rel32`.
    ConditionalJump,
    /// `call rel32`; wrong under a shadow stack on most kernels.
    Call,
    /// `nop`: 90.
    Nop,
    /// A nop of 3 to 9 bytes; single-stepped before Linux 6.16.
    LongNop,
}

/// What a probe on an instruction makes the kernel do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SiteClass {
    /// Emulated after the trap: the cheap class.
    Emulated(Emulation),
    /// A copy is executed under single-step: a second trap, several times the cost.
    SingleStepped,
    /// The kernel may refuse to put a probe here.
    Refused,
}

impl fmt::Display for SiteClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Emulated(Emulation::LongNop) => "emulated since Linux 6.16",
            Self::Emulated(_) => "emulated",
            Self::SingleStepped => "single-stepped",
            Self::Refused => "refused",
        })
    }
}

/// The kernel's own nops that carry no prefix it refuses (`x86_nops`, arch/x86/include/asm/nops.h).
const LONG_NOPS: [&[u8]; 7] = [
    &[0x0f, 0x1f, 0x00],
    &[0x0f, 0x1f, 0x40, 0x00],
    &[0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
    &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
    &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
    &[0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
];

/// The class of the one instruction that `bytes` are.
#[must_use]
pub fn classify(bytes: &[u8]) -> SiteClass {
    use Emulation::{Call, ConditionalJump, Jump, LongNop, Nop, Push};
    if LONG_NOPS.contains(&bytes) {
        return SiteClass::Emulated(LongNop);
    }
    match bytes {
        [0x90] => return SiteClass::Emulated(Nop),
        [0x50..=0x57] | [0x41, 0x50..=0x57] => return SiteClass::Emulated(Push),
        _ => {}
    }
    let Some(Opcode { operand_size, map }) = Opcode::parse(bytes) else {
        return SiteClass::Refused;
    };
    let branch = match map {
        Map::OneByte(0xe9 | 0xeb, _) => Some(Jump),
        Map::OneByte(0xe8, _) => Some(Call),
        Map::OneByte(0x70..=0x7f, _) | Map::TwoByte(0x80..=0x8f) => Some(ConditionalJump),
        _ => None,
    };
    match (branch, map) {
        (Some(_), _) if operand_size => SiteClass::Refused,
        (Some(branch), _) => SiteClass::Emulated(branch),
        (None, Map::OneByte(0x90, _)) if operand_size => SiteClass::Refused,
        (None, map) if map.is_steppable() => SiteClass::SingleStepped,
        (None, _) => SiteClass::Refused,
    }
}

struct Opcode {
    /// A 66 prefix is there.
    operand_size: bool,
    map: Map,
}

#[derive(Clone, Copy)]
enum Map {
    /// The opcode and the byte after it (ModRM, if it has one).
    OneByte(u8, u8),
    /// The byte after 0f.
    TwoByte(u8),
    /// VEX: the kernel looks its opcode up in the table of one-byte opcodes.
    Vex(u8),
}

impl Opcode {
    /// `None` for a prefix that makes the kernel refuse, and for encodings that it may not know.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut operand_size = false;
        let mut rest = bytes;
        loop {
            let (first, tail) = rest.split_first()?;
            match first {
                // is_prefix_bad: es, cs, ss, ds (also branch hints and notrack), lock.
                0x26 | 0x2e | 0x36 | 0x3e | 0xf0 => return None,
                0x66 => operand_size = true,
                0x64 | 0x65 | 0x67 | 0xf2 | 0xf3 => {}
                _ => break,
            }
            rest = tail;
        }
        if let [0x40..=0x4f, tail @ ..] = rest {
            rest = tail;
        }
        let map = match rest {
            [0x0f, second, ..] => Map::TwoByte(*second),
            [0xc5, _, opcode, ..] | [0xc4, _, _, opcode, ..] => Map::Vex(*opcode),
            // XOP shares its first byte with `pop r/m64`, which is reg 0 only.
            [0x8f, modrm, ..] if modrm >> 3 & 7 != 0 => return None,
            [first, second, ..] => Map::OneByte(*first, *second),
            [first] => Map::OneByte(*first, 0),
            [] => return None,
        };
        Some(Self { operand_size, map })
    }
}

impl Map {
    fn is_steppable(self) -> bool {
        match self {
            // insn_masking_exception: mov ss.
            Self::OneByte(0x8e, modrm) if modrm >> 3 & 7 == 2 => false,
            Self::OneByte(opcode, _) | Self::Vex(opcode) => is_good_one_byte(opcode),
            Self::TwoByte(second) => is_good_two_byte(second),
        }
    }
}

/// `good_insns_64`. Not among them: opcodes that 64-bit mode dropped, in/out, int3, int, iret, hlt, cli, sti, EVEX.
fn is_good_one_byte(opcode: u8) -> bool {
    !matches!(
        opcode,
        0x06 | 0x07
            | 0x0e
            | 0x16
            | 0x17
            | 0x1e
            | 0x1f
            | 0x27
            | 0x2f
            | 0x37
            | 0x3f
            | 0x60..=0x62
            | 0x6c..=0x6f
            | 0x82
            | 0x9a
            | 0xcc..=0xcf
            | 0xd4..=0xd6
            | 0xe4..=0xe7
            | 0xea
            | 0xec..=0xef
            | 0xf1
            | 0xf4
            | 0xfa
            | 0xfb
    )
}

/// `good_2byte_insns`. Not among them: system instructions, syscall, ud2, the fences' group.
fn is_good_two_byte(second: u8) -> bool {
    !matches!(
        second,
        0x00 | 0x01 | 0x05..=0x09 | 0x0b | 0x30 | 0x34 | 0x35 | 0x37 | 0x78 | 0x79 | 0xae
    )
}
