//! Where a call frame section describes an address: its entries by their code, listed once for each section.

use std::hash::Hash;

use gimli::{BaseAddresses, UnwindSection};

use crate::unwind::entries;
use crate::unwind::rule::Bytes;

/// Entries listed of one section; the largest browsers have some million.
const MOST_ENTRIES: usize = 1 << 21;

/// The entries of one section.
#[derive(Default)]
pub struct EntryIndex(Vec<Described>);

/// Code that an entry describes.
struct Described {
    start: u64,
    end: u64,
    /// Of the entry, in its section.
    offset: usize,
}

impl EntryIndex {
    /// Lists a section. One with more entries than any program has is as good as none: an index of a part of it would take
    /// the rest for code that nothing is said about.
    pub fn of<'data, S>(section: &S, bytes: &[u8], bases: &BaseAddresses) -> Self
    where
        S: UnwindSection<Bytes<'data>>,
        S::Offset: Hash,
    {
        let mut found = Vec::new();
        let outcome = entries::visit(section, bytes, bases, |entry| {
            // One that cannot be parsed describes nothing; its neighbours do.
            if let Ok(entry) = entry {
                if found.len() == MOST_ENTRIES {
                    return Err(());
                }
                found.push(Described {
                    start: entry.initial_address(),
                    end: entry.end_address(),
                    offset: entry.offset(),
                });
            }
            Ok(())
        });
        if outcome.is_err() {
            return Self::default();
        }
        found.sort_unstable_by_key(|described| described.start);
        Self(found)
    }

    /// The offset of the entry that describes this address.
    pub fn find(&self, address: u64) -> Option<usize> {
        let next = self.0.partition_point(|described| described.start <= address);
        let described = self.0.get(next.checked_sub(1)?)?;
        (address < described.end).then_some(described.offset)
    }
}
