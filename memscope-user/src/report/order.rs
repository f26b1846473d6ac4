//! The order of a report's entries: sorted runs, one for each part that was read, merged as they are gone through.
//!
//! The parts come from several threads. Merged into one they would be in memory twice.

use std::cmp::Reverse;
use std::thread;

use crate::beside::{Beside, beside};
use crate::database::live_set::RawEntry;

/// Order of the entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Oldest first, then by number.
    #[default]
    Age,
    /// Largest first, then oldest.
    Size,
}

/// What decides the order: less comes first.
type Rank = (Reverse<u64>, u64, u64);

impl Order {
    fn rank(self, raw: &RawEntry) -> Rank {
        let fields = raw.block.unpack();
        let size = match self {
            Self::Age => 0,
            Self::Size => fields.size,
        };
        (Reverse(size), fields.born_ms, fields.number.0)
    }

    /// The first `limit` of these blocks, in order.
    fn sort(self, mut blocks: Vec<RawEntry>, limit: usize) -> Vec<RawEntry> {
        if limit < blocks.len() {
            blocks.select_nth_unstable_by_key(limit, |raw| self.rank(raw));
            blocks.truncate(limit);
            blocks.shrink_to_fit();
        }
        match self {
            Self::Age => blocks.sort_unstable_by_key(|raw| {
                let fields = raw.block.unpack();
                (fields.born_ms, fields.number)
            }),
            Self::Size => blocks.sort_unstable_by_key(|raw| self.rank(raw)),
        }
        blocks
    }
}

/// Blocks in order.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    order: Order,
    runs: Vec<Vec<RawEntry>>,
}

impl Runs {
    /// The first `limit` of all blocks of these parts; each part is sorted by a thread of its own.
    #[must_use]
    pub fn sorted(parts: Vec<Vec<RawEntry>>, order: Order, limit: Option<usize>) -> Self {
        let limit = limit.unwrap_or(usize::MAX);
        let mut runs: Vec<Vec<RawEntry>> = thread::scope(|scope| {
            let sort = |part| beside(scope, move || order.sort(part, limit));
            let sorting: Vec<_> = parts.into_iter().map(sort).collect();
            sorting.into_iter().map(Beside::join).collect()
        });
        if limit < runs.iter().map(Vec::len).sum() {
            // The first of all are so many of each.
            let whole: Vec<&[RawEntry]> = runs.iter().map(Vec::as_slice).collect();
            let mut merge = Piece { order, runs: whole }.merged();
            merge.by_ref().take(limit).for_each(drop);
            let left: Vec<usize> = merge.heads.iter().map(|head| head.rest.len()).collect();
            for (run, left) in runs.iter_mut().zip(left) {
                run.truncate(run.len() - left);
            }
        }
        Self { order, runs }
    }

    /// Blocks that are in order already.
    #[must_use]
    pub fn in_order(blocks: Vec<RawEntry>) -> Self {
        Self {
            order: Order::default(),
            runs: vec![blocks],
        }
    }

    /// How many blocks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.iter().map(Vec::len).sum()
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Each, in no order.
    pub fn unordered(&self) -> impl Iterator<Item = &RawEntry> {
        self.runs.iter().flatten()
    }

    /// Each, in order.
    pub fn iter(&self) -> impl Iterator<Item = &RawEntry> {
        let runs = self.runs.iter().map(Vec::as_slice).collect();
        Piece {
            order: self.order,
            runs,
        }
        .merged()
    }

    /// All of them in pieces that follow each other, of some `length` blocks each; none is empty.
    pub fn pieces(&self, length: usize) -> Vec<Piece<'_>> {
        let Some(longest) = self.runs.iter().max_by_key(|run| run.len()) else {
            return Vec::new();
        };
        let count = self.len().div_ceil(length.max(1));
        let mut from = vec![0; self.runs.len()];
        let mut pieces = Vec::with_capacity(count);
        for piece in 1..=count {
            let cut = longest.len() * piece / count;
            let mut runs = Vec::with_capacity(self.runs.len());
            for (run, from) in self.runs.iter().zip(&mut from) {
                let to = match longest.get(cut) {
                    None => run.len(),
                    Some(_) if std::ptr::eq(run, longest) => cut,
                    Some(pivot) => {
                        let pivot = self.order.rank(pivot);
                        *from + run[*from..].partition_point(|raw| self.order.rank(raw) < pivot)
                    }
                };
                runs.push(&run[*from..to]);
                *from = to;
            }
            if runs.iter().any(|run| !run.is_empty()) {
                pieces.push(Piece {
                    order: self.order,
                    runs,
                });
            }
        }
        pieces
    }
}

/// Blocks that follow each other in the order.
#[derive(Clone, Debug)]
pub struct Piece<'a> {
    order: Order,
    runs: Vec<&'a [RawEntry]>,
}

impl<'a> Piece<'a> {
    /// Each, in order.
    #[must_use]
    pub fn merged(self) -> Merge<'a> {
        let order = self.order;
        let head = |rest: &'a [RawEntry]| Head {
            rank: rest.first().map(|raw| order.rank(raw)),
            rest,
        };
        Merge {
            order,
            heads: self.runs.into_iter().map(head).collect(),
        }
    }
}

/// Goes through sorted runs as if they were one.
#[derive(Clone, Debug)]
pub struct Merge<'a> {
    order: Order,
    heads: Vec<Head<'a>>,
}

/// What is left of a run.
#[derive(Clone, Debug)]
struct Head<'a> {
    /// Rank of its first block; `None` at its end.
    rank: Option<Rank>,
    rest: &'a [RawEntry],
}

impl<'a> Iterator for Merge<'a> {
    type Item = &'a RawEntry;

    fn next(&mut self) -> Option<&'a RawEntry> {
        let order = self.order;
        let mut least: Option<(Rank, usize)> = None;
        for (at, head) in self.heads.iter().enumerate() {
            let Some(rank) = head.rank else { continue };
            if least.is_none_or(|(least, _)| rank < least) {
                least = Some((rank, at));
            }
        }
        let head = self.heads.get_mut(least?.1)?;
        let (first, rest) = head.rest.split_first()?;
        *head = Head {
            rank: rest.first().map(|raw| order.rank(raw)),
            rest,
        };
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use memscope_ebpf::live::{BlockFields, BlockKind, EntryNumber, LiveBlock, SiteIndex};

    use super::*;
    use crate::target::address::RuntimeAddress;

    /// Several parts of blocks in disorder; many share their moment of birth and their size.
    fn parts(parts: usize, blocks: u64) -> Vec<Vec<RawEntry>> {
        let mut out = vec![Vec::new(); parts];
        for n in 0..blocks {
            let mixed = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let raw = RawEntry {
                address: RuntimeAddress(n),
                block: LiveBlock::pack(BlockFields {
                    number: EntryNumber(mixed >> 20),
                    size: mixed >> 3 & 7,
                    born_ms: mixed >> 8 & 15,
                    tid: 1,
                    site: SiteIndex(1),
                    kind: BlockKind::Heap,
                    sampled: false,
                }),
            };
            out[(mixed >> 60) as usize % parts].push(raw);
        }
        out
    }

    fn expected(parts: &[Vec<RawEntry>], order: Order, limit: usize) -> Vec<RawEntry> {
        let mut all: Vec<RawEntry> = parts.iter().flatten().copied().collect();
        all.sort_by_key(|raw| order.rank(raw));
        all.truncate(limit);
        all
    }

    #[test]
    fn parts_come_out_as_one_in_order() {
        for (count, blocks) in [(1, 0), (1, 100), (2, 1000), (3, 1), (5, 3000)] {
            for order in [Order::Age, Order::Size] {
                let parts = parts(count, blocks);
                let runs = Runs::sorted(parts.clone(), order, None);
                assert!(runs.iter().eq(&expected(&parts, order, usize::MAX)));
                assert_eq!(runs.len() as u64, blocks);
            }
        }
    }

    #[test]
    fn a_limit_keeps_the_first_of_all_parts() {
        for limit in [0, 1, 7, 999, 1000, 1001] {
            for order in [Order::Age, Order::Size] {
                let parts = parts(3, 1000);
                let runs = Runs::sorted(parts.clone(), order, Some(limit));
                assert_eq!(runs.len(), limit.min(1000));
                assert!(runs.iter().eq(&expected(&parts, order, limit)), "{limit} {order:?}");
            }
        }
    }

    #[test]
    fn pieces_in_turn_are_the_whole() {
        for length in [1, 7, 100, 5000] {
            for order in [Order::Age, Order::Size] {
                let parts = parts(3, 1000);
                let runs = Runs::sorted(parts.clone(), order, None);
                let pieces = runs.pieces(length);
                assert!(pieces.len() > 300 / length && pieces.len() <= 1000_usize.div_ceil(length));
                assert!(pieces.iter().all(|piece| piece.clone().merged().next().is_some()));
                let all = pieces.into_iter().flat_map(Piece::merged);
                assert!(all.eq(&expected(&parts, order, usize::MAX)), "{length} {order:?}");
            }
        }
    }

    #[test]
    fn blocks_in_a_given_order_keep_it_in_pieces_too() {
        let given: Vec<RawEntry> = parts(1, 100).remove(0);
        let runs = Runs::in_order(given.clone());
        assert!(runs.iter().eq(&given));
        assert!(runs.pieces(9).into_iter().flat_map(Piece::merged).eq(&given));
    }
}
