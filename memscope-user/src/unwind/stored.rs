//! A table as the cache stores it: bytes out, bytes in. What comes in may be torn.
//!
//! Layout, little endian: magic 8, version 4, rows 4, pages 4, segments 4, base 8, coverage 5 × 8, segments each 3 × 8, rows
//! of each page 2 each, rows 8 each, checksum 8. First rows are sums, so they cannot contradict the counts.

use memscope_ebpf::unwind::row::{PAGE_BYTES, Page, Row};

use super::table::{Coverage, MAX_PAGES, MAX_ROWS, SegmentPlace, UnwindTable};
use crate::target::address::{ElfAddress, FileOffset};

const MAGIC: [u8; 8] = *b"MSunwind";
/// Raised whenever the layout, the rows' meaning or the conversion changes.
const VERSION: u32 = 1;
const MAX_SEGMENTS: u32 = 64;

/// No stored table is longer.
pub const MAX_STORED: u64 = 256 + MAX_SEGMENTS as u64 * 24 + MAX_PAGES * 2 + MAX_ROWS as u64 * 8;

/// The table's bytes; `checksum` is of everything before it.
#[must_use]
pub fn encode(table: &UnwindTable, checksum: impl Fn(&[u8]) -> u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 + table.pages.len() * 2 + table.rows.len() * 8);
    out.extend_from_slice(&MAGIC);
    for count in [
        VERSION,
        table.rows.len() as u32,
        table.pages.len() as u32,
        table.segments.len() as u32,
    ] {
        out.extend_from_slice(&count.to_le_bytes());
    }
    let coverage = &table.coverage;
    let numbers = [
        table.base.0,
        coverage.sites,
        coverage.usable,
        coverage.unsupported,
        coverage.cfi_rows,
        coverage.broken_entries,
    ];
    let places = table
        .segments
        .iter()
        .flat_map(|segment| [segment.offset.0, segment.address.0, segment.size]);
    for number in numbers.into_iter().chain(places) {
        out.extend_from_slice(&number.to_le_bytes());
    }
    for page in &table.pages {
        out.extend_from_slice(&(page.rows as u16).to_le_bytes());
    }
    for row in &table.rows {
        out.extend_from_slice(&row.0.to_le_bytes());
    }
    let sum = checksum(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

/// The table in these bytes; `None` for anything but what [`encode`] wrote with the same checksum.
#[must_use]
pub fn decode(bytes: &[u8], checksum: impl Fn(&[u8]) -> u64) -> Option<UnwindTable> {
    let (body, sum) = bytes.split_last_chunk::<8>()?;
    if checksum(body) != u64::from_le_bytes(*sum) {
        return None;
    }
    let mut rest = body.strip_prefix(&MAGIC)?;
    if take_u32(&mut rest)? != VERSION {
        return None;
    }
    let (rows, pages, segments) = (take_u32(&mut rest)?, take_u32(&mut rest)?, take_u32(&mut rest)?);
    if rows as usize > MAX_ROWS || u64::from(pages) > MAX_PAGES || segments > MAX_SEGMENTS {
        return None;
    }
    let base = ElfAddress(take_u64(&mut rest)?);
    let coverage = Coverage {
        sites: take_u64(&mut rest)?,
        usable: take_u64(&mut rest)?,
        unsupported: take_u64(&mut rest)?,
        cfi_rows: take_u64(&mut rest)?,
        broken_entries: take_u64(&mut rest)?,
    };
    let segments = (0..segments)
        .map(|_| {
            Some(SegmentPlace {
                offset: FileOffset(take_u64(&mut rest)?),
                address: ElfAddress(take_u64(&mut rest)?),
                size: take_u64(&mut rest)?,
            })
        })
        .collect::<Option<Vec<_>>>()?;
    let (page_bytes, row_bytes) = rest.split_at_checked(pages as usize * 2)?;
    if row_bytes.len() != rows as usize * 8 {
        return None;
    }
    let mut first_row = 0u32;
    let pages = page_bytes
        .chunks_exact(2)
        .map(|chunk| {
            let rows = u32::from(u16::from_le_bytes([chunk[0], chunk[1]]));
            let page = Page { first_row, rows };
            first_row = first_row.checked_add(rows)?;
            (u64::from(rows) <= PAGE_BYTES).then_some(page)
        })
        .collect::<Option<Vec<_>>>()?;
    if first_row != rows {
        return None;
    }
    let (row_chunks, _) = row_bytes.as_chunks::<8>();
    Some(UnwindTable {
        base,
        pages,
        rows: row_chunks.iter().map(|chunk| Row(u64::from_le_bytes(*chunk))).collect(),
        segments,
        coverage,
    })
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    let (head, tail) = rest.split_first_chunk::<4>()?;
    *rest = tail;
    Some(u32::from_le_bytes(*head))
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    let (head, tail) = rest.split_first_chunk::<8>()?;
    *rest = tail;
    Some(u64::from_le_bytes(*head))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use memscope_ebpf::unwind::row::RowKind;

    /// A small table with every field in use.
    pub fn sample() -> UnwindTable {
        UnwindTable {
            base: ElfAddress(0x400),
            pages: vec![
                Page { first_row: 0, rows: 2 },
                Page { first_row: 2, rows: 0 },
                Page { first_row: 2, rows: 1 },
            ],
            rows: vec![
                Row::bare(RowKind::Outermost).at(0, 9),
                Row::bare(RowKind::SignalFrame).at(10, 1023),
                Row::bare(RowKind::Unsupported).at(5, 6),
            ],
            segments: vec![SegmentPlace {
                offset: FileOffset(1),
                address: ElfAddress(2),
                size: 3,
            }],
            coverage: Coverage {
                sites: 10,
                usable: 9,
                unsupported: 1,
                cfi_rows: 99,
                broken_entries: 4,
            },
        }
    }

    fn sum(bytes: &[u8]) -> u64 {
        bytes
            .iter()
            .fold(7, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
    }

    #[test]
    fn a_table_comes_back_as_it_went() {
        assert_eq!(decode(&encode(&sample(), sum), sum), Some(sample()));
    }

    #[test]
    fn a_torn_or_changed_file_is_no_table() {
        let bytes = encode(&sample(), sum);
        for length in 0..bytes.len() {
            assert_eq!(decode(&bytes[..length], sum), None, "{length}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert_eq!(decode(&changed, sum), None, "{at}");
        }
    }

    #[test]
    fn hostile_bytes_with_a_true_checksum_never_panic() {
        let bytes = encode(&sample(), sum);
        for at in 0..bytes.len() - 8 {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = bytes.clone();
                changed[at] = value;
                let body = changed.len() - 8;
                let true_sum = sum(&changed[..body]).to_le_bytes();
                changed[body..].copy_from_slice(&true_sum);
                if let Some(table) = decode(&changed, sum) {
                    let rows: u32 = table.pages.iter().map(|page| page.rows).sum();
                    assert_eq!(rows as usize, table.rows.len());
                }
            }
        }
    }
}
