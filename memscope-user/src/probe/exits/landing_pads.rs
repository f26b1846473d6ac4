//! Where the unwinder may enter a function: the landing pads of its table of call sites.
//!
//! Source: the Itanium C++ ABI's exception handling tables, as GCC and LLVM write them for C++, C, Rust and others
//! (libsupc++'s `eh_personality.cc`, `parse_lsda_header`). The bytes are the target's: every read is bounded.

use super::obstacle::ExitObstacle;
use crate::target::address::ElfAddress;

/// Landing pads of one function.
const MOST_PADS: usize = 4096;

const OMITTED: u8 = 0xff;
/// Of an encoding: the format, and what the value is relative to.
const FORMAT: u8 = 0x0f;
const RELATION: u8 = 0x70;
const PC_RELATIVE: u8 = 0x10;
const INDIRECT: u8 = 0x80;

/// The landing pads in a table that begins at `address`, of a function that begins at `function`. `bytes` go on from there.
///
/// # Errors
/// The table is cut short, or encoded in a way that no compiler uses.
pub fn landing_pads(bytes: &[u8], address: ElfAddress, function: ElfAddress) -> Result<Vec<ElfAddress>, ExitObstacle> {
    parse(bytes, address.0, function.0).ok_or_else(|| ExitObstacle::NoCatchTable {
        why: format!("the table at {address:#x} is malformed"),
    })
}

fn parse(bytes: &[u8], address: u64, function: u64) -> Option<Vec<ElfAddress>> {
    let mut reader = Reader { bytes, at: 0, address };
    let start = match reader.byte()? {
        OMITTED => function,
        encoding => reader.value(encoding)?,
    };
    if reader.byte()? != OMITTED {
        // Where the table of types is: of no interest.
        reader.uleb()?;
    }
    let encoding = reader.byte()?;
    let length = usize::try_from(reader.uleb()?).ok()?;
    let end = reader.at.checked_add(length).filter(|end| *end <= bytes.len())?;
    let mut pads = Vec::new();
    while reader.at < end {
        // The range of the calls, of no interest: first address and length.
        reader.value(encoding)?;
        reader.value(encoding)?;
        let pad = reader.value(encoding)?;
        // What is done there.
        reader.uleb()?;
        if pad != 0 {
            if pads.len() == MOST_PADS {
                return None;
            }
            pads.push(ElfAddress(start.wrapping_add(pad)));
        }
    }
    pads.sort_unstable();
    pads.dedup();
    Some(pads)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Of the first byte.
    address: u64,
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn word(&mut self, size: usize) -> Option<u64> {
        let bytes = self.bytes.get(self.at..)?.get(..size)?;
        self.at += size;
        let mut word = [0; 8];
        word[..size].copy_from_slice(bytes);
        Some(u64::from_le_bytes(word))
    }

    fn leb(&mut self) -> Option<(u64, u32, u8)> {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let byte = self.byte()?;
            if shift < 64 {
                value |= u64::from(byte & 0x7f) << shift;
            }
            shift += 7;
            if byte & 0x80 == 0 {
                return Some((value, shift, byte));
            }
            if shift > 70 {
                return None;
            }
        }
    }

    fn uleb(&mut self) -> Option<u64> {
        self.leb().map(|(value, _, _)| value)
    }

    fn sleb(&mut self) -> Option<u64> {
        let (value, shift, last) = self.leb()?;
        let is_negative = last & 0x40 != 0 && shift < 64;
        Some(if is_negative { value | u64::MAX << shift } else { value })
    }

    /// A value of a `DW_EH_PE` encoding.
    fn value(&mut self, encoding: u8) -> Option<u64> {
        let from = self.address.wrapping_add(self.at as u64);
        let sign_extended = |word: u64, bits: u32| ((word << (64 - bits)).cast_signed() >> (64 - bits)).cast_unsigned();
        let value = match encoding & FORMAT {
            0x0 | 0x4 | 0xc => self.word(8)?,
            0x1 => self.uleb()?,
            0x2 => self.word(2)?,
            0x3 => self.word(4)?,
            0x9 => self.sleb()?,
            0xa => sign_extended(self.word(2)?, 16),
            0xb => sign_extended(self.word(4)?, 32),
            _ => return None,
        };
        match encoding & (RELATION | INDIRECT) {
            0 => Some(value),
            PC_RELATIVE => Some(value.wrapping_add(from)),
            _ => None,
        }
    }
}
