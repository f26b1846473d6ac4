//! `.eh_frame` and `.debug_frame` into ranges with rules, for the code that walks can come to.

use gimli::{BaseAddresses, DebugFrame, EhFrame, FrameDescriptionEntry, LittleEndian, UnwindContext, UnwindSection};
use memscope_ebpf::unwind::row::{Row, RowKind};

use super::consulted::ConsultedAddresses;
use super::entries::{self, MAX_CIE_BYTES};
use super::error::UnwindError;
use super::image::{CodeImage, CodeSegment};
use super::interval::Interval;
use super::rule::{Bytes, compact_rule};

/// Rows of full call frame information that are looked at; the largest browsers have some five million.
const MAX_CFI_ROWS: u64 = 1 << 24;
/// Ranges kept.
const MAX_INTERVALS: usize = 1 << 22;

/// Counts of what was read.
#[derive(Clone, Copy, Debug, Default)]
pub struct CfiCount {
    /// Rows of full call frame information seen.
    pub rows: u64,
    /// Entries that could not be read to their end.
    pub broken: u64,
}

/// A segment and the addresses in it that can be looked up.
#[derive(Debug)]
pub struct ScannedSegment<'data> {
    /// The code.
    pub segment: CodeSegment<'data>,
    /// Which of its addresses matter.
    pub consulted: ConsultedAddresses,
}

/// Ranges of `.eh_frame`.
pub fn eh_frame_intervals(
    image: &CodeImage<'_>,
    code: &[ScannedSegment<'_>],
    count: &mut CfiCount,
) -> Result<Vec<Interval>, UnwindError> {
    let Some(section) = &image.eh_frame else {
        return Ok(Vec::new());
    };
    let bases = BaseAddresses::default()
        .set_eh_frame(section.address)
        .set_text(image.text)
        .set_got(image.got);
    let mut frames = EhFrame::from(Bytes::new(&section.bytes, LittleEndian));
    frames.set_address_size(8);
    intervals(&frames, &section.bytes, &bases, code, count)
}

/// Ranges of `.debug_frame`.
pub fn debug_frame_intervals(
    image: &CodeImage<'_>,
    code: &[ScannedSegment<'_>],
    count: &mut CfiCount,
) -> Result<Vec<Interval>, UnwindError> {
    let Some(section) = &image.debug_frame else {
        return Ok(Vec::new());
    };
    let mut frames = DebugFrame::from(Bytes::new(&section.bytes, LittleEndian));
    frames.set_address_size(8);
    intervals(&frames, &section.bytes, &BaseAddresses::default(), code, count)
}

fn intervals<'data, S>(
    section: &S,
    bytes: &[u8],
    bases: &BaseAddresses,
    code: &[ScannedSegment<'_>],
    count: &mut CfiCount,
) -> Result<Vec<Interval>, UnwindError>
where
    S: UnwindSection<Bytes<'data>>,
    S::Offset: std::hash::Hash,
{
    let mut collector = Collector {
        section,
        bases,
        code,
        context: Box::new(UnwindContext::new()),
        found: Vec::new(),
    };
    entries::visit(section, bytes, bases, |entry| match entry {
        Ok(fde) => collector.collect(&fde, count),
        Err(_) => {
            count.broken += 1;
            Ok(())
        }
    })?;
    Ok(collector.found)
}

struct Collector<'a, S> {
    section: &'a S,
    bases: &'a BaseAddresses,
    code: &'a [ScannedSegment<'a>],
    context: Box<UnwindContext<usize>>,
    found: Vec<Interval>,
}

impl<S> Collector<'_, S> {
    /// Adds the rows of one FDE that some lookup can come to.
    fn collect<'data>(
        &mut self,
        fde: &FrameDescriptionEntry<Bytes<'data>>,
        count: &mut CfiCount,
    ) -> Result<(), UnwindError>
    where
        S: UnwindSection<Bytes<'data>>,
    {
        let (start, end) = (fde.initial_address(), fde.end_address());
        let signal = fde.is_signal_trampoline();
        if self.consulted(start, end) == 0 && !signal {
            count.rows += 1;
            return Ok(());
        }
        if fde.cie().entry_len() > MAX_CIE_BYTES {
            count.broken += 1;
            return self.push(start, end, Row::bare(RowKind::Unsupported));
        }
        if signal {
            // Only the kernel's frame layout is known, and restorers of it are recognised by their code.
            return self.push(start, end, Row::bare(RowKind::Unsupported));
        }
        let mut context = std::mem::take(&mut self.context);
        let result = self.collect_rows(fde, &mut context, count);
        self.context = context;
        result
    }

    fn collect_rows<'data>(
        &mut self,
        fde: &FrameDescriptionEntry<Bytes<'data>>,
        context: &mut UnwindContext<usize>,
        count: &mut CfiCount,
    ) -> Result<(), UnwindError>
    where
        S: UnwindSection<Bytes<'data>>,
    {
        let mut reached = fde.initial_address();
        let mut table = match fde.rows(self.section, self.bases, context) {
            Ok(table) => table,
            Err(_) => return self.break_off(reached, fde, count),
        };
        loop {
            match table.next_row() {
                Ok(Some(row)) => {
                    count.rows += 1;
                    if count.rows > MAX_CFI_ROWS {
                        return Err(UnwindError::TooMuch {
                            what: "rows of call frame information",
                            limit: MAX_CFI_ROWS,
                        });
                    }
                    let (start, end) = (row.start_address(), row.end_address().min(fde.end_address()));
                    reached = reached.max(end);
                    if self.consulted(start, end) > 0 {
                        let rule = compact_rule(self.section, row);
                        self.push(start, end, rule)?;
                    }
                }
                Ok(None) => return Ok(()),
                Err(_) => return self.break_off(reached, fde, count),
            }
        }
    }

    /// The rest of an FDE that cannot be read is known to be unknown: no frame pointer is to be guessed there.
    fn break_off(
        &mut self,
        from: u64,
        fde: &FrameDescriptionEntry<Bytes<'_>>,
        count: &mut CfiCount,
    ) -> Result<(), UnwindError> {
        count.broken += 1;
        self.push(from, fde.end_address(), Row::bare(RowKind::Unsupported))
    }

    fn consulted(&self, start: u64, end: u64) -> u32 {
        self.clipped(start, end)
            .map(|(scanned, start, end)| scanned.consulted.count(start, end))
            .sum()
    }

    fn clipped(&self, start: u64, end: u64) -> impl Iterator<Item = (&ScannedSegment<'_>, u64, u64)> {
        self.code.iter().filter_map(move |scanned| {
            let start = start.max(scanned.segment.address);
            let end = end.min(scanned.segment.end());
            (start < end).then_some((scanned, start, end))
        })
    }

    fn push(&mut self, start: u64, end: u64, rule: Row) -> Result<(), UnwindError> {
        let pieces: Vec<Interval> = self
            .clipped(start, end)
            .map(|(_, start, end)| Interval { start, end, rule })
            .collect();
        self.found.extend(pieces);
        if self.found.len() > MAX_INTERVALS {
            return Err(UnwindError::TooMuch {
                what: "ranges with call frame information",
                limit: MAX_INTERVALS as u64,
            });
        }
        Ok(())
    }
}
