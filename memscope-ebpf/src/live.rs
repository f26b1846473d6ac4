//! One live block as the LIVE map stores it: 24 bytes, so that key, value and the kernel's element header fit a
//! 96-byte slab (or 80 bytes preallocated) and a block costs at most 100 bytes of kernel memory.

/// Number of an allocation, counted from 1 since the database was created. 48 bits: 1.8 years at five million a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct EntryNumber(pub u64);

/// Index of a site in SITE_RECORDS. 24 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct SiteIndex(pub u32);

impl SiteIndex {
    /// The site of blocks whose stack could not be stored (SITES or FRAMES full): counted, never dropped.
    pub const UNKNOWN: Self = Self(0);
}

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum BlockKind {
    /// Memory from an allocator.
    Heap = 0,
    /// Memory mapped by the program itself (`--regions`).
    Region = 1,
}

/// The fields of a live block, unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockFields {
    /// Allocation number.
    pub number: EntryNumber,
    /// Bytes asked for; saturates at 2⁴⁸−1.
    pub size: u64,
    /// When it was allocated: milliseconds of CLOCK_MONOTONIC. 40 bits: 34 years of uptime.
    pub born_ms: u64,
    /// Kernel thread id (initial PID namespace) that allocated it. 24 bits; the kernel's own limit is 2²².
    pub tid: u32,
    /// Call stack.
    pub site: SiteIndex,
    /// What it is.
    pub kind: BlockKind,
    /// Blocks were sampled when it was asked for, and it stands for others that were left out.
    pub sampled: bool,
}

/// Bit of the second word: [`BlockFields::sampled`].
const SAMPLED: u64 = 1 << 63;
const MASK_48: u64 = (1 << 48) - 1;
const MASK_40: u64 = (1 << 40) - 1;
const MASK_24: u64 = (1 << 24) - 1;

/// The packed form: `[size 48 | site low 16, number 48 | site high 8 | kind 7 | sampled 1, born 40 | tid 24]`, low bits first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct LiveBlock(pub [u64; 3]);

const _: () = assert!(size_of::<LiveBlock>() == 24 && align_of::<LiveBlock>() == 8);

impl LiveBlock {
    /// Packs the fields; a size past 2⁴⁸−1 (no address space holds it) saturates.
    #[must_use]
    #[inline(always)]
    pub const fn pack(fields: BlockFields) -> Self {
        let size = if fields.size > MASK_48 { MASK_48 } else { fields.size };
        let site = fields.site.0 as u64;
        Self([
            size | (site & 0xffff) << 48,
            (fields.number.0 & MASK_48)
                | (site >> 16 & 0xff) << 48
                | (fields.kind as u64) << 56
                | if fields.sampled { SAMPLED } else { 0 },
            (fields.born_ms & MASK_40) | (fields.tid as u64 & MASK_24) << 40,
        ])
    }

    /// The fields.
    #[must_use]
    #[inline(always)]
    pub const fn unpack(self) -> BlockFields {
        BlockFields {
            number: EntryNumber(self.0[1] & MASK_48),
            size: self.0[0] & MASK_48,
            born_ms: self.0[2] & MASK_40,
            tid: (self.0[2] >> 40) as u32,
            site: self.site(),
            kind: if self.0[1] >> 56 & 0x7f == BlockKind::Region as u64 {
                BlockKind::Region
            } else {
                BlockKind::Heap
            },
            sampled: self.is_sampled(),
        }
    }

    /// No block: allocation numbers start at 1. (Comparing whole values would make the compiler call `memcmp`, which BPF
    /// has not.)
    #[must_use]
    #[inline(always)]
    pub const fn is_none(self) -> bool {
        self.0[1] & MASK_48 == 0
    }

    /// [`BlockFields::sampled`] alone.
    #[must_use]
    #[inline(always)]
    pub const fn is_sampled(self) -> bool {
        self.0[1] & SAMPLED != 0
    }

    /// The site alone, for the free path.
    #[must_use]
    #[inline(always)]
    pub const fn site(self) -> SiteIndex {
        SiteIndex((self.0[0] >> 48 | (self.0[1] >> 48 & 0xff) << 16) as u32)
    }

    /// The size alone, for the free path.
    #[must_use]
    #[inline(always)]
    pub const fn size(self) -> u64 {
        self.0[0] & MASK_48
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_at_their_limits_survive_packing() {
        for number in [1, 79258, MASK_48] {
            for size in [0, 44, MASK_48] {
                for born_ms in [0, 1234567, MASK_40] {
                    for site in [0, 1, 0x1_0000, 0xff_ffff] {
                        for kind in [BlockKind::Heap, BlockKind::Region] {
                            let fields = BlockFields {
                                number: EntryNumber(number),
                                size,
                                born_ms,
                                tid: 4_194_304,
                                site: SiteIndex(site),
                                kind,
                                sampled: size == 44,
                            };
                            assert_eq!(LiveBlock::pack(fields).unpack(), fields);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn an_impossible_size_saturates_and_spoils_no_other_field() {
        let fields = BlockFields {
            number: EntryNumber(7),
            size: u64::MAX,
            born_ms: 5,
            tid: 9,
            site: SiteIndex(3),
            kind: BlockKind::Heap,
            sampled: true,
        };
        let unpacked = LiveBlock::pack(fields).unpack();
        assert_eq!(
            unpacked,
            BlockFields {
                size: MASK_48,
                ..fields
            }
        );
    }
}
