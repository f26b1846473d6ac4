//! The unwind table of one ELF image: pages of rows, and how much of the image's code they serve.

use memscope_ebpf::unwind::row::{PAGE_BYTES, PAGE_SHIFT, Page, Row, RowKind};
use serde::{Deserialize, Serialize};

use super::cfi::{CfiCount, ScannedSegment, debug_frame_intervals, eh_frame_intervals};
use super::consulted::ConsultedAddresses;
use super::error::UnwindError;
use super::image::CodeImage;
use super::interval::{Interval, disjoint, fill_gaps};
use super::known_code::{context_starts, restorers};
use crate::target::address::{ElfAddress, FileOffset, RuntimeAddress};

/// Pages a table can have: 1 GiB of code.
pub const MAX_PAGES: u64 = 1 << 20;
/// Rows a table can have.
pub const MAX_ROWS: usize = 1 << 22;

/// Where an executable segment lies in the file and in memory; turns a mapping's file offset into a load bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentPlace {
    /// `p_offset`.
    pub offset: FileOffset,
    /// `p_vaddr`.
    pub address: ElfAddress,
    /// Bytes in the file.
    pub size: u64,
}

/// How much of an image's code its table serves. Counts are of look-up addresses: the ends of everything that could be
/// a call or a system call. Some 5 % of those are bytes that only look like one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Look-up addresses in the image.
    pub sites: u64,
    /// Those with a rule that can be followed.
    pub usable: u64,
    /// Those with call frame information that no row can hold.
    pub unsupported: u64,
    /// Rows of full call frame information that were read.
    pub cfi_rows: u64,
    /// Entries that could not be read to their end.
    pub broken_entries: u64,
}

impl Coverage {
    /// Share of look-up addresses that have a usable rule, 0 to 1; 1 for an image without any.
    #[must_use]
    pub fn usable_share(&self) -> f64 {
        if self.sites == 0 {
            return 1.0;
        }
        self.usable as f64 / self.sites as f64
    }
}

/// The table of one image, to be placed into a session's flat tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnwindTable {
    /// Address of the first page, a multiple of [`PAGE_BYTES`].
    pub base: ElfAddress,
    /// Pages from there on; `first_row` counts within `rows`.
    pub pages: Vec<Page>,
    /// Rows of all pages.
    pub rows: Vec<Row>,
    /// The image's executable segments.
    pub segments: Vec<SegmentPlace>,
    /// What it covers.
    pub coverage: Coverage,
}

/// Makes the table of an ELF file, or of an ELF image in memory (the vDSO).
///
/// # Errors
/// When the bytes are no x86-64 ELF image, hold no call frame information, or exceed a limit.
pub fn table_for_elf(bytes: &[u8]) -> Result<UnwindTable, UnwindError> {
    table_for_image(&CodeImage::parse(bytes)?)
}

/// As [`table_for_elf`], of an image that has been read.
pub(super) fn table_for_image(image: &CodeImage<'_>) -> Result<UnwindTable, UnwindError> {
    let code: Vec<ScannedSegment<'_>> = image
        .code
        .iter()
        .map(|segment| ScannedSegment {
            segment: *segment,
            consulted: ConsultedAddresses::scan(segment),
        })
        .collect();
    let mut count = CfiCount::default();
    let by_eh_frame = disjoint(eh_frame_intervals(image, &code, &mut count)?);
    let by_debug_frame = disjoint(debug_frame_intervals(image, &code, &mut count)?);
    let by_cfi = fill_gaps(by_eh_frame, &by_debug_frame);
    let signal_frames = disjoint(image.code.iter().flat_map(restorers).collect());
    let starts = disjoint(image.code.iter().flat_map(context_starts).collect());
    let intervals = fill_gaps(fill_gaps(signal_frames, &by_cfi), &starts);
    if intervals.is_empty() {
        return Err(UnwindError::NoCfi);
    }
    let mut table = paginate(&intervals)?;
    table.coverage = coverage(&code, &intervals, count);
    table.segments = image
        .code
        .iter()
        .map(|segment| SegmentPlace {
            offset: FileOffset(segment.offset),
            address: ElfAddress(segment.address),
            size: segment.bytes.len() as u64,
        })
        .collect();
    Ok(table)
}

impl UnwindTable {
    /// The load bias of a mapping of this image; `None` when no executable segment lies at its file offset.
    #[must_use]
    pub fn load_bias(&self, start: RuntimeAddress, offset: FileOffset) -> Option<u64> {
        load_bias(&self.segments, start, offset)
    }
}

/// As [`UnwindTable::load_bias`]. The kernel maps whole pages, so a mapping may begin before its segment.
#[must_use]
pub fn load_bias(segments: &[SegmentPlace], start: RuntimeAddress, offset: FileOffset) -> Option<u64> {
    const KERNEL_PAGE: u64 = 4096;
    segments.iter().find_map(|segment| {
        let first = segment.offset.0 & !(KERNEL_PAGE - 1);
        let end = segment.offset.0.checked_add(segment.size)?;
        let inside = first <= offset.0 && offset.0 < end;
        let loaded = segment.address.0.wrapping_sub(segment.offset.0).wrapping_add(offset.0);
        inside.then(|| start.0.wrapping_sub(loaded))
    })
}

fn coverage(code: &[ScannedSegment<'_>], intervals: &[Interval], count: CfiCount) -> Coverage {
    let mut coverage = Coverage {
        cfi_rows: count.rows,
        broken_entries: count.broken,
        ..Coverage::default()
    };
    for scanned in code {
        coverage.sites += u64::from(scanned.consulted.total());
        let from = intervals.partition_point(|interval| interval.end <= scanned.segment.address);
        for interval in &intervals[from..] {
            if interval.start >= scanned.segment.end() {
                break;
            }
            let sites = u64::from(scanned.consulted.count(interval.start, interval.end));
            if interval.rule.kind() == Some(RowKind::Unsupported) {
                coverage.unsupported += sites;
            } else {
                coverage.usable += sites;
            }
        }
    }
    coverage
}

/// Splits disjoint, sorted ranges at page borders and joins neighbours with the same rule.
fn paginate(intervals: &[Interval]) -> Result<UnwindTable, UnwindError> {
    let base = intervals.first().map_or(0, |interval| interval.start) & !(PAGE_BYTES - 1);
    let mut rows: Vec<Row> = Vec::with_capacity(intervals.len());
    let mut pages: Vec<Page> = Vec::new();
    for interval in intervals {
        let mut start = interval.start;
        while start < interval.end {
            let number = (start - base) >> PAGE_SHIFT;
            if number >= MAX_PAGES {
                return Err(UnwindError::TooMuch {
                    what: "pages of code",
                    limit: MAX_PAGES,
                });
            }
            let page_start = base + (number << PAGE_SHIFT);
            let end = interval.end.min(page_start + PAGE_BYTES);
            let (first, last) = ((start - page_start) as u16, (end - 1 - page_start) as u16);
            let fresh = Page {
                first_row: rows.len() as u32,
                rows: 0,
            };
            pages.resize(pages.len().max(number as usize + 1), fresh);
            start = end;
            let Some(page) = pages.last_mut() else {
                break;
            };
            if page.rows > 0
                && let Some(previous) = rows.last_mut()
                && previous.rule_bits() == interval.rule.rule_bits()
                && previous.last() + 1 == u64::from(first)
            {
                *previous = previous.at(previous.first() as u16, last);
                continue;
            }
            rows.push(interval.rule.at(first, last));
            page.rows += 1;
        }
        if rows.len() > MAX_ROWS {
            return Err(UnwindError::TooMuch {
                what: "rows",
                limit: MAX_ROWS as u64,
            });
        }
    }
    Ok(UnwindTable {
        base: ElfAddress(base),
        pages,
        rows,
        segments: Vec::new(),
        coverage: Coverage::default(),
    })
}
