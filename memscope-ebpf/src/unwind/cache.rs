//! The rule cache: the same return addresses come back on every stack, so their rows are found with one array access.
//!
//! Many CPUs write it without a lock. An entry is two words, the row and the row xor a tag of its address and generation:
//! a reader that catches halves of two writes computes a tag that is not the one it looks for, and misses.

use core::sync::atomic::AtomicU64;
#[cfg(not(target_arch = "bpf"))]
use core::sync::atomic::Ordering;

use super::row::Row;

/// Entries of the cache. A power of two.
pub const CACHE_ENTRIES: u32 = 1 << 14;

/// 2⁶⁴ / golden ratio, odd: spreads addresses over the cache and generations over the tag.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// One entry.
#[derive(Debug, Default)]
#[repr(C)]
pub struct CacheEntry {
    check: AtomicU64,
    row: AtomicU64,
}

const _: () = assert!(size_of::<CacheEntry>() == 16);

/// The entry's index for an address.
#[must_use]
#[inline(always)]
pub const fn slot(address: u64) -> u32 {
    (address.wrapping_mul(SPREAD) >> (64 - CACHE_ENTRIES.trailing_zeros())) as u32
}

#[inline(always)]
const fn tag(address: u64, generation: u64) -> u64 {
    address ^ generation.wrapping_mul(SPREAD)
}

/// A relaxed load: LLVM's BPF back end knows none, but each aligned 8-byte load of that machine is one.
#[inline(always)]
fn load(word: &AtomicU64) -> u64 {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the pointer comes from a reference.
    unsafe {
        word.as_ptr().read_volatile()
    }
    #[cfg(not(target_arch = "bpf"))]
    word.load(Ordering::Relaxed)
}

/// A relaxed store, as [`load`].
#[inline(always)]
fn store(word: &AtomicU64, value: u64) {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the pointer comes from a reference, and an atomic may be written through one.
    unsafe {
        word.as_ptr().write_volatile(value);
    }
    #[cfg(not(target_arch = "bpf"))]
    word.store(value, Ordering::Relaxed);
}

impl CacheEntry {
    /// The row remembered for this address under this generation.
    #[must_use]
    #[inline(always)]
    pub fn get(&self, address: u64, generation: u64) -> Option<Row> {
        let row = load(&self.row);
        let check = load(&self.check);
        (row != 0 && check ^ row == tag(address, generation)).then_some(Row(row))
    }

    /// Remembers a row, in place of what was there.
    #[inline(always)]
    pub fn set(&self, address: u64, generation: u64, row: Row) {
        store(&self.row, row.0);
        store(&self.check, row.0 ^ tag(address, generation));
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::RowKind;
    use super::*;

    #[test]
    fn only_the_same_address_and_generation_hit() {
        let entry = CacheEntry::default();
        assert_eq!(entry.get(0, 0), None);
        let row = Row::bare(RowKind::Outermost);
        entry.set(0x7f00_1234_5678, 3, row);
        assert_eq!(entry.get(0x7f00_1234_5678, 3), Some(row));
        assert_eq!(entry.get(0x7f00_1234_5678, 4), None);
        assert_eq!(entry.get(0x7f00_1234_5679, 3), None);
    }

    #[test]
    fn halves_of_two_writes_miss() {
        let (a, b) = (CacheEntry::default(), CacheEntry::default());
        let rows = [Row::bare(RowKind::Outermost), Row::bare(RowKind::Unsupported)];
        a.set(0x1000, 1, rows[0]);
        b.set(0x2000, 1, rows[1]);
        let torn = CacheEntry {
            check: AtomicU64::new(a.check.load(Ordering::Relaxed)),
            row: AtomicU64::new(b.row.load(Ordering::Relaxed)),
        };
        assert_eq!(torn.get(0x1000, 1), None);
        assert_eq!(torn.get(0x2000, 1), None);
    }

    #[test]
    fn slots_stay_inside() {
        for address in [0, 1, 0x7fff_ffff_ffff, u64::MAX] {
            assert!(slot(address) < CACHE_ENTRIES);
        }
    }
}
