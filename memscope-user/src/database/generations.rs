//! The generations of a target's mappings, as the session file keeps them: what an address of a site meant, and which sites
//! were recorded when nobody could know.
//!
//! Between two looks at the target, walks use the tables of the last one. A file mapped where another one was has then its
//! stacks followed by the other's rules, and the addresses would go by the other's names. When the next look finds it, the
//! ranges are written down; sites that were counted up while the file was seen to be in its place stay believed, of all
//! others the frames end where they enter such a range.

mod difference;
mod kept;

use std::collections::BTreeMap;

use memscope_ebpf::live::SiteIndex;
use memscope_ebpf::site::SiteRecord;
use serde::{Deserialize, Serialize};

pub use self::difference::Difference;
pub use self::kept::{MOST_BYTES, follow, modules_at, modules_of_site, retain, with_room};
use super::sites::RawFrame;
use crate::symbol::SavedModule;
use crate::target::address::RuntimeAddress;

/// What was mapped executable while these generations were the present one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappedGeneration {
    /// The number of the first, as sites carry it.
    pub number: u64,
    /// The number of the last. Further ones differ in code that no file names.
    pub until: u64,
    /// By file; of the present generation, and of those without a [`Difference`].
    pub modules: Vec<SavedModule>,
    /// How its modules differ from the next one's.
    #[serde(default)]
    pub difference: Option<Difference>,
    /// Files beside these for which there was no room: addresses in them have no names.
    #[serde(default)]
    pub left_out: u64,
    /// Ranges where another file was found to be mapped by the next look.
    #[serde(default)]
    pub replaced: Vec<Range>,
    /// By site: the blocks it had allocated before a look that found everything in its place. Kept while it may matter.
    #[serde(default)]
    pub verified: BTreeMap<u32, u64>,
    /// What its last walks may have met: see [`Leaving`].
    #[serde(default)]
    pub leaving: Leaving,
}

/// Tables take a while to be made, so walks go on under a generation after the look that ends it. What was mapped then, only the
/// look after that one tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    /// Ranges where that look found another file than this generation's.
    pub replaced: Vec<Range>,
    /// By site: the blocks it had allocated before the look that ended the generation. Kept while it may matter.
    pub verified: BTreeMap<u32, u64>,
    /// That look has been, and no walk uses the generation any more.
    #[serde(default)]
    pub is_over: bool,
}

/// Addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First.
    pub start: RuntimeAddress,
    /// One past the last.
    pub end: RuntimeAddress,
}

impl MappedGeneration {
    /// The first of its kind.
    #[must_use]
    pub const fn new(number: u64, modules: Vec<SavedModule>) -> Self {
        Self {
            number,
            until: number,
            modules,
            difference: None,
            left_out: 0,
            replaced: Vec::new(),
            verified: BTreeMap::new(),
            leaving: Leaving {
                replaced: Vec::new(),
                verified: BTreeMap::new(),
                is_over: false,
            },
        }
    }

    /// Whether a site that carries the low 16 bits of a generation's number belongs here.
    #[must_use]
    pub const fn holds(&self, carried: u16) -> bool {
        self.until >= self.number && carried.wrapping_sub(self.number as u16) as u64 <= self.until - self.number
    }

    /// Whether any of its stacks may be in doubt.
    #[must_use]
    pub const fn is_doubted(&self) -> bool {
        !self.replaced.is_empty() || !self.leaving.replaced.is_empty()
    }

    /// How many of a site's frames are what they seem to be.
    #[must_use]
    pub fn believed(&self, index: SiteIndex, record: &SiteRecord, frames: &[u64]) -> usize {
        let doubts = [
            (&self.replaced, &self.verified),
            (&self.leaving.replaced, &self.leaving.verified),
        ];
        let doubts = doubts
            .into_iter()
            .filter(|(_, verified)| verified.get(&index.0) != Some(&record.allocated));
        let ranges: Vec<&Range> = doubts.flat_map(|(replaced, _)| replaced).collect();
        let doubtful = |frame: &u64| {
            let frame = RawFrame::from(*frame);
            // A return address is told by the call before it.
            let at = RuntimeAddress(frame.address.0.saturating_sub(u64::from(frame.is_return_address)));
            ranges.iter().any(|range| range.start <= at && at < range.end)
        };
        frames.iter().position(doubtful).unwrap_or(frames.len())
    }
}

/// The generation that a site belongs to. No two that sites may carry share the low 16 bits.
#[must_use]
pub fn of_site(generations: &[MappedGeneration], carried: u16) -> Option<&MappedGeneration> {
    generations.iter().rev().find(|generation| generation.holds(carried))
}

/// The number of the generation after this one: none whose low 16 bits a site carries, and of the other buffer. There are
/// fewer sites than numbers.
#[must_use]
pub fn next_number(published: u64, carried: impl Fn(u16) -> bool) -> u64 {
    let mut number = published + 1;
    while carried(number as u16) && number - published < 1 << 16 {
        number += 2;
    }
    number
}

#[cfg(test)]
mod tests {
    use memscope_ebpf::site::INTERRUPTED;

    use super::*;

    fn generation(number: u64, until: u64) -> MappedGeneration {
        MappedGeneration {
            until,
            ..MappedGeneration::new(number, Vec::new())
        }
    }

    #[test]
    fn a_site_finds_its_generation_past_the_wrap() {
        let generations = [generation(1, 3), generation(4, 4), generation(65_535, 65_538)];
        let number = |carried| of_site(&generations, carried).map(|generation| generation.number);
        assert_eq!(number(4), Some(4));
        assert_eq!(number(3), Some(1));
        assert_eq!(number(65_535), Some(65_535));
        assert_eq!(number(0), Some(65_535), "65 536");
        assert_eq!(number(5), None);
        assert_eq!(number(65_534), None);
    }

    #[test]
    fn a_number_that_a_site_carries_is_not_given_again() {
        assert_eq!(next_number(7, |_| false), 8);
        assert_eq!(next_number(65_535, |carried| carried == 0 || carried == 2), 65_540);
        assert_eq!(next_number(65_536, |carried| carried % 2 == 0), 65_537);
    }

    #[test]
    fn frames_from_a_replaced_range_on_are_not_believed_unless_they_were_verified() {
        let mut generation = generation(1, 1);
        let record = SiteRecord {
            allocated: 5,
            ..SiteRecord::default()
        };
        let frames = [0x7000, 0x5001, 0x6000];
        let site = SiteIndex(9);
        assert_eq!(generation.believed(site, &record, &frames), 3);
        generation.replaced.push(Range {
            start: RuntimeAddress(0x5000),
            end: RuntimeAddress(0x6000),
        });
        assert_eq!(generation.believed(site, &record, &frames), 1);
        assert_eq!(
            generation.believed(site, &record, &[0x5000, 0x6001]),
            2,
            "the call before it counts"
        );
        assert_eq!(generation.believed(site, &record, &[0x7000, 0x6000]), 1);
        let interrupted = |address: u64| address | INTERRUPTED;
        assert_eq!(generation.believed(site, &record, &[0x7000, interrupted(0x5000)]), 1);
        assert_eq!(
            generation.believed(site, &record, &[0x7000, interrupted(0x6000)]),
            2,
            "no call is before it"
        );
        generation.verified.insert(9, 5);
        assert_eq!(generation.believed(site, &record, &frames), 3);
        generation.verified.insert(9, 4);
        assert_eq!(generation.believed(site, &record, &frames), 1, "it has gone on since");
    }
}
