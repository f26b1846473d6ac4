//! Branches from anywhere in a text, and what looking for them costs.

use super::super::{branches_into, first_branch_into};
use crate::target::address::ElfAddress;

const TEXT: u64 = 0x40_0000;

/// A text of nops with these bytes at an offset.
fn text_with(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut text = vec![0x90; 0x1000];
    text[offset..offset + bytes.len()].copy_from_slice(bytes);
    text
}

fn displaced(opcode: &[u8], from: usize, to: usize) -> Vec<u8> {
    let end = from + opcode.len() + 4;
    let displacement = i32::try_from(to as i64 - end as i64).expect("in reach");
    [opcode, &displacement.to_le_bytes()].concat()
}

#[test]
fn every_form_with_a_long_displacement_is_seen_from_afar() {
    let forms: [&[u8]; 6] = [
        &[0xe8],
        &[0xe9],
        &[0x0f, 0x84],
        &[0x0f, 0x8f],
        &[0xc7, 0xf8],
        &[0x48, 0x8d, 0x05],
    ];
    for opcode in forms {
        for from in [0, 0x123, 0xf00] {
            let text = text_with(from, &displaced(opcode, from, 0x805));
            let into = |start, end| {
                branches_into(
                    &text,
                    ElfAddress(TEXT),
                    ElfAddress(TEXT + start)..ElfAddress(TEXT + end),
                )
            };
            assert!(into(0x800, 0x806), "{opcode:x?} at {from:#x}");
            assert!(!into(0x800, 0x805), "{opcode:x?} at {from:#x}");
            assert!(!into(0x806, 0x810), "{opcode:x?} at {from:#x}");
        }
    }
}

#[test]
fn a_short_branch_is_seen_from_both_sides() {
    for (from, displacement) in [
        (0x800 - 2 - 0x7f, 0x7f_u8),
        (0x800 + 0x7e, 0x80),
        (0x7fe, 0),
        (0x700 + 0x80, 0x7e),
    ] {
        for opcode in [0x74, 0xeb, 0xe2, 0xe3] {
            let text = text_with(from, &[opcode, displacement]);
            let first = first_branch_into(
                &text,
                ElfAddress(TEXT),
                ElfAddress(TEXT + 0x800)..ElfAddress(TEXT + 0x801),
            );
            assert_eq!(first, Some(ElfAddress(TEXT + 0x800)), "{opcode:#x} at {from:#x}");
        }
    }
}

#[test]
fn the_lowest_landing_is_told() {
    let mut text = text_with(0x100, &displaced(&[0xe9], 0x100, 0x809));
    let other = displaced(&[0xe8], 0x200, 0x803);
    text[0x200..0x200 + other.len()].copy_from_slice(&other);
    let first = first_branch_into(
        &text,
        ElfAddress(TEXT),
        ElfAddress(TEXT + 0x801)..ElfAddress(TEXT + 0x810),
    );
    assert_eq!(first, Some(ElfAddress(TEXT + 0x803)));
}

#[test]
fn ranges_outside_the_text_and_empty_ones_are_never_entered() {
    let text = text_with(0x100, &displaced(&[0xe9], 0x100, 0x809));
    for (start, end) in [
        (0, 0),
        (0, 10),
        (TEXT + 0x809, TEXT + 0x809),
        (u64::MAX - 3, u64::MAX),
        (9, 3),
    ] {
        assert!(
            !branches_into(&text, ElfAddress(TEXT), ElfAddress(start)..ElfAddress(end)),
            "{start:#x}"
        );
    }
    assert!(!branches_into(
        &[],
        ElfAddress(u64::MAX),
        ElfAddress(0)..ElfAddress(u64::MAX)
    ));
    assert!(!branches_into(
        &[0xe9, 0, 0],
        ElfAddress(u64::MAX),
        ElfAddress(0)..ElfAddress(9)
    ));
}
