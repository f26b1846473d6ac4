//! The entries of a report, packed as the database keeps them: 32 bytes each, since there may be millions.

use memscope_ebpf::live::SiteIndex;

use super::model::{Entry, SiteId};
use super::order::{Piece, Runs};
use crate::database::live_set::RawEntry;

/// Entries in order. Each is unpacked when a renderer comes to it.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    blocks: Runs,
    now_ms: u64,
    sites: Vec<SiteId>,
}

impl Entries {
    /// Blocks in order; the moment as of which their ages are told (CLOCK_MONOTONIC milliseconds); the site that each
    /// site index stands for.
    #[must_use]
    pub const fn new(blocks: Runs, now_ms: u64, sites: Vec<SiteId>) -> Self {
        Self { blocks, now_ms, sites }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Each entry, in order.
    pub fn iter(&self) -> impl Iterator<Item = Entry> + '_ {
        self.blocks.iter().map(|raw| self.entry(raw))
    }

    /// All of them in pieces that follow each other, of some `length` entries each.
    pub(super) fn pieces(&self, length: usize) -> Vec<Piece<'_>> {
        self.blocks.pieces(length)
    }

    /// Each entry of a piece with its site's index, in order.
    pub(super) fn of_piece<'a>(&'a self, piece: Piece<'a>) -> impl Iterator<Item = (SiteIndex, Entry)> + 'a {
        piece.merged().map(|raw| (raw.block.site(), self.entry(raw)))
    }

    /// The site of each index; of indices that no entry has, any.
    pub(super) fn sites(&self) -> &[SiteId] {
        &self.sites
    }

    fn entry(&self, raw: &RawEntry) -> Entry {
        let fields = raw.block.unpack();
        Entry {
            number: fields.number,
            address: raw.address,
            size: fields.size,
            age_ms: self.now_ms.saturating_sub(fields.born_ms),
            tid: fields.tid,
            // Every index in the blocks was given a site; 0 is that of blocks without a stack.
            site: self.sites.get(fields.site.0 as usize).copied().unwrap_or(SiteId(0)),
            kind: fields.kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;

    #[test]
    fn packed_entries_come_out_as_they_went_in() {
        let entries = [
            samples::entry(3, 0x10, 0, 9_000_000, SiteId(7)),
            samples::entry(4, u64::MAX, (1 << 48) - 1, 0, samples::SITE),
            samples::entry(5, 0x20, 1, 1, SiteId(7)),
        ];
        let packed = samples::packed(&entries);
        assert_eq!(packed.iter().collect::<Vec<_>>(), entries);
        assert_eq!(packed.len(), 3);
        assert_eq!(size_of::<RawEntry>(), 32);
    }
}
