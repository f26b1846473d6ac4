//! `.gnu_debugdata`: an xz-compressed ELF image that carries the symbols `strip` took away (Fedora's MiniDebugInfo).
//!
//! The decompressor keeps its whole output in memory and takes no limit, and the output can be thousands of times the
//! input. So the chunk headers, which state how long each chunk's output is and which the decompressor checks, are
//! added up first.

use super::ElfError;

/// The most a decompressed image may take: those of the largest libraries are some megabytes.
const MAX_OUTPUT: u64 = 128 << 20;

/// The most compressed bytes that are looked at.
pub(super) const MAX_INPUT: u64 = 32 << 20;

/// Decompresses the section's content.
pub(super) fn decompress(compressed: &[u8]) -> Result<Vec<u8>, ElfError> {
    let malformed = || ElfError::Malformed("xz stream in .gnu_debugdata");
    let (size, index) = output_size(compressed).ok_or_else(malformed)?;
    if size > MAX_OUTPUT {
        return Err(ElfError::TooLarge {
            what: "the image in .gnu_debugdata",
            size,
            limit: MAX_OUTPUT,
        });
    }
    if !ends_with_index(compressed, index) {
        return Err(malformed());
    }
    let mut image = Vec::new();
    let mut input = compressed;
    lzma_rs::xz_decompress(&mut input, &mut image).map_err(|error| ElfError::Read {
        what: "the image in .gnu_debugdata",
        why: format!("{error:?}"),
    })?;
    Ok(image)
}

/// Adds up the output of every chunk of every block of the first stream (The .xz File Format 1.1.0, §2 and §3; LZMA2
/// chunks as in xz-embedded's `xz_dec_lzma2.c`); also tells where its index begins. `None` when the stream cannot be followed.
fn output_size(stream: &[u8]) -> Option<(u64, usize)> {
    const HEADER: usize = 12;
    if !stream.starts_with(b"\xfd7zXZ\0") {
        return None;
    }
    // Sizes of the check that follows a block, by its id (§2.1.1.2).
    let check_size = match stream.get(7)? & 0xf {
        0 => 0,
        1..=3 => 4,
        4..=6 => 8,
        7..=9 => 16,
        10..=12 => 32,
        _ => 64,
    };
    let mut at = HEADER;
    let mut total = 0_u64;
    loop {
        let block_header = usize::from(*stream.get(at)?);
        if block_header == 0 {
            return Some((total, at));
        }
        let data = at + (block_header + 1) * 4;
        let (end, size) = chunks(stream, data)?;
        total = total.checked_add(size)?;
        at = (end - data).next_multiple_of(4) + data + check_size;
    }
}

/// Whether the stream ends with the index that begins at `start`, and with a footer that tells its size (§2.1.2, §4): the
/// decompressor reckons with what the footer says before it compares.
fn ends_with_index(stream: &[u8], start: usize) -> bool {
    let size_of = || {
        let mut at = start + 1;
        for _ in 0..integer(stream, &mut at)? {
            let (_unpadded, _uncompressed) = (integer(stream, &mut at)?, integer(stream, &mut at)?);
        }
        // With its checksum.
        (at - start).next_multiple_of(4).checked_add(4)
    };
    let told = |size: usize| {
        let footer: &[u8; 12] = stream.get(start + size..)?.try_into().ok()?;
        let [_, _, _, _, a, b, c, d, ..] = *footer;
        Some((u64::from(u32::from_le_bytes([a, b, c, d])) + 1) * 4)
    };
    size_of().is_some_and(|size| told(size) == Some(size as u64))
}

/// A number of one to nine bytes, seven bits each (§1.2); `at` is past it then.
fn integer(stream: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for group in 0..9 {
        let byte = *stream.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << (7 * group);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Follows LZMA2 chunks from `at`: where they end and how much they decompress to.
fn chunks(stream: &[u8], mut at: usize) -> Option<(usize, u64)> {
    let mut total = 0;
    loop {
        let control = *stream.get(at)?;
        let field = |index| {
            Some(u64::from(u16::from_be_bytes([
                *stream.get(index)?,
                *stream.get(index + 1)?,
            ])))
        };
        match control {
            0 => return Some((at + 1, total)),
            1 | 2 => {
                let size = field(at + 1)? + 1;
                total += size;
                at = at + 3 + usize::try_from(size).ok()?;
            }
            0x80.. => {
                total += (u64::from(control & 0x1f) << 16) + field(at + 1)? + 1;
                let new_properties = usize::from(control >= 0xc0);
                at = at + 5 + new_properties + usize::try_from(field(at + 3)? + 1).ok()?;
            }
            _ => return None,
        }
    }
}
