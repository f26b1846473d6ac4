//! Broken and hostile images: bounded work, an error or a table that keeps its promises, never a panic.

use std::time::{Duration, Instant};

use memscope_ebpf::unwind::row::{PAGE_BYTES, RowKind};

use super::table::{MAX_ROWS, UnwindTable, table_for_elf};
use super::{UnwindError, image::ImageError};

const CODE: u64 = 0x1000;

/// An ELF file with one executable segment and an `.eh_frame` that only `PT_GNU_EH_FRAME` leads to.
fn elf(code: &[u8], eh_frame: &[u8]) -> Vec<u8> {
    const HEADERS: usize = 64 + 3 * 56;
    const HDR: usize = 12;
    let frame_at = HEADERS + HDR;
    let code_at = (frame_at + eh_frame.len()).next_multiple_of(0x1000);
    // Data is linked where it lies in the file; code at CODE and above, past the data.
    let code_address = CODE.max(code_at as u64);
    let mut out = Vec::new();
    out.extend_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for half in [3u16, 62] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    out.extend_from_slice(&1u32.to_le_bytes());
    for word in [0u64, 64, 0] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&0u32.to_le_bytes());
    for half in [64u16, 56, 3, 0, 0, 0] {
        out.extend_from_slice(&half.to_le_bytes());
    }
    let mut program_header = |kind: u32, flags: u32, at: u64, address: u64, size: u64| {
        out.extend_from_slice(&kind.to_le_bytes());
        out.extend_from_slice(&flags.to_le_bytes());
        for word in [at, address, address, size, size, 0x1000] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    };
    program_header(1, 4, 0, 0, (frame_at + eh_frame.len()) as u64);
    program_header(1, 5, code_at as u64, code_address, code.len() as u64);
    program_header(0x6474_e550, 4, HEADERS as u64, HEADERS as u64, HDR as u64);
    // .eh_frame_hdr: version 1, eh_frame pointer pc-relative, no table.
    out.extend_from_slice(&[1, 0x1b, 0xff, 0xff]);
    out.extend_from_slice(&8i32.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(eh_frame);
    out.resize(code_at, 0);
    out.extend_from_slice(code);
    out
}

/// A record of `.eh_frame` with its length.
fn record(body: &[u8]) -> Vec<u8> {
    let mut padded = body.to_vec();
    padded.resize(body.len().next_multiple_of(8) + 4, 0);
    [&(padded.len() as u32).to_le_bytes()[..], &padded].concat()
}

/// A CIE with absolute pointers: CFA = rsp + 8, return address at CFA - 8.
fn cie() -> Vec<u8> {
    record(&[0, 0, 0, 0, 1, 0, 1, 0x78, 16, 0x0c, 7, 8, 0x90, 1])
}

/// An FDE of the CIE at the section's start.
fn fde(at: usize, start: u64, size: u64, instructions: &[u8]) -> Vec<u8> {
    let mut body = ((at + 4) as u32).to_le_bytes().to_vec();
    body.extend_from_slice(&start.to_le_bytes());
    body.extend_from_slice(&size.to_le_bytes());
    body.extend_from_slice(instructions);
    record(&body)
}

fn frames(fdes: &[(u64, u64, Vec<u8>)]) -> Vec<u8> {
    let mut section = cie();
    for (start, size, instructions) in fdes {
        let next = fde(section.len(), *start, *size, instructions);
        section.extend_from_slice(&next);
    }
    section.extend_from_slice(&[0; 4]);
    section
}

/// 4 KiB of calls.
fn calls() -> Vec<u8> {
    [0xe8, 0, 0, 0, 0].repeat(820)
}

fn code_address(eh_frame: &[u8]) -> u64 {
    CODE.max((64 + 3 * 56 + 12 + eh_frame.len()).next_multiple_of(0x1000) as u64)
}

/// What every table promises to the walk.
fn check(table: &UnwindTable) {
    let mut next = 0;
    for page in &table.pages {
        assert_eq!(page.first_row, next);
        assert!(u64::from(page.rows) <= PAGE_BYTES);
        next += page.rows;
        let rows = &table.rows[page.first_row as usize..next as usize];
        assert!(rows.iter().all(|row| row.first() <= row.last()));
        assert!(rows.windows(2).all(|pair| pair[0].last() < pair[1].first()));
    }
    assert_eq!(next as usize, table.rows.len());
    assert!(table.rows.len() <= MAX_ROWS);
    let coverage = table.coverage;
    assert!(
        coverage.usable + coverage.unsupported <= coverage.sites + 64,
        "{coverage:?}"
    );
}

#[test]
fn an_image_without_section_headers_is_read_by_its_segments() {
    let section = frames(&[(CODE, 0x800, vec![0x0e, 16])]);
    let table = table_for_elf(&elf(&calls(), &section)).unwrap();
    check(&table);
    assert_eq!(table.base.0, CODE);
    assert_eq!(table.rows.len(), 2);
    assert_eq!(table.rows[0].kind(), Some(RowKind::CfaFromRsp));
    assert_eq!(table.rows[0].offset_bytes(), 16);
    assert_eq!(table.rows[1].last(), 1023);
}

#[test]
fn no_cfi_and_no_elf_are_told_apart() {
    assert!(matches!(
        table_for_elf(&elf(&calls(), &[0; 4])),
        Err(UnwindError::NoCfi)
    ));
    for bytes in [&b"#!/bin/sh"[..], &[], &elf(&calls(), &[])[..40]] {
        assert!(matches!(
            table_for_elf(bytes),
            Err(UnwindError::Image(ImageError::Elf(_)))
        ));
    }
    let mut arm = elf(&calls(), &[0; 4]);
    arm[18] = 183;
    assert!(matches!(
        table_for_elf(&arm),
        Err(UnwindError::Image(ImageError::Machine(183)))
    ));
}

#[test]
fn overlapping_entries_become_disjoint_rows() {
    let entries: Vec<_> = (0..200u64)
        .map(|i| (0, 0x1000 + i, vec![0x0e, (i % 20 * 8) as u8 + 8]))
        .collect();
    let sized = frames(&entries);
    let at = code_address(&sized);
    let placed: Vec<_> = entries
        .into_iter()
        .enumerate()
        .map(|(i, (_, size, instructions))| (at + i as u64 * 7, size, instructions))
        .collect();
    let table = table_for_elf(&elf(&calls(), &frames(&placed))).unwrap();
    check(&table);
    assert!(table.rows.len() > 100);
}

#[test]
fn a_hundred_thousand_entries_over_all_of_the_code_take_bounded_time() {
    let code = [0xe8, 0, 0, 0, 0].repeat(1 << 20);
    let entries: Vec<_> = (0..100_000u64)
        .map(|i| (i, u64::MAX / 2, vec![0x41, 0x0e, 16]))
        .collect();
    let at = code_address(&frames(&entries));
    let placed: Vec<_> = entries
        .into_iter()
        .map(|(i, size, rest)| (at + i, size, rest))
        .collect();
    let image = elf(&code, &frames(&placed));
    let began = Instant::now();
    check(&table_for_elf(&image).unwrap());
    // Quadratic work would be 10¹¹ steps.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn an_entry_that_breaks_off_leaves_the_rest_of_its_code_unknown_not_guessed() {
    // advance 1 KiB, then an instruction that does not exist
    let section = frames(&[(CODE, 0x1000, vec![0x0e, 16, 0x03, 0, 4, 0x3f])]);
    let table = table_for_elf(&elf(&calls(), &section)).unwrap();
    check(&table);
    assert_eq!(table.coverage.broken_entries, 1);
    assert_eq!(table.rows[0].kind(), Some(RowKind::CfaFromRsp));
    assert_eq!(table.rows[1].kind(), Some(RowKind::Unsupported));
}

#[test]
fn mutated_images_never_panic() {
    let section = frames(&[
        (CODE, 0x300, vec![0x41, 0x0e, 16, 0x86, 2, 0x43, 0x0d, 6]),
        (CODE + 0x300, 0x500, vec![0x0f, 4, 0x77, 8, 0x06, 0x23]),
        (CODE + 0x800, 0x800, vec![0x07, 16]),
    ]);
    let whole = elf(&calls(), &section);
    check(&table_for_elf(&whole).unwrap());
    let vital = 64 + 3 * 56 + 12 + section.len();
    let mut seed = 88172645463325252u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut tables = 0;
    for _ in 0..20_000 {
        let mut bytes = whole.clone();
        for _ in 0..=random() % 6 {
            let at = random() as usize % vital;
            bytes[at] = match random() % 4 {
                0 => 0xff,
                1 => 0,
                2 => bytes[at] ^ (1 << (random() % 8)),
                _ => random() as u8,
            };
        }
        if random() % 16 == 0 {
            bytes.truncate(random() as usize % bytes.len());
        }
        if let Ok(table) = table_for_elf(&bytes) {
            check(&table);
            tables += 1;
        }
    }
    assert!(tables > 1_000, "{tables}");
}

#[test]
fn a_long_cie_is_not_read_again_for_each_of_its_fdes() {
    // As many small ones as are remembered come first, then one of a megabyte whose augmentation string never ends.
    let mut section = Vec::new();
    let mut small = Vec::new();
    for _ in 0..5000 {
        small.push(section.len());
        section.extend(cie());
    }
    let long = section.len();
    section.extend(record(&[&[0, 0, 0, 0, 1][..], &vec![b'z'; 1 << 20]].concat()));
    let mut entry = |owner: usize| {
        let at = section.len();
        let mut body = ((at + 4 - owner) as u32).to_le_bytes().to_vec();
        body.extend_from_slice(&CODE.to_le_bytes());
        body.extend_from_slice(&0x1000u64.to_le_bytes());
        section.extend(record(&body));
    };
    small.into_iter().for_each(&mut entry);
    (0..50_000).for_each(|_| entry(long));
    let began = Instant::now();
    let table = table_for_elf(&elf(&calls(), &section));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    drop(table);
}
