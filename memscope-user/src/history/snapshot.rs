//! A snapshot: every site's totals at one moment, as bytes.
//!
//! Format: `MSCOPE-H1\n`; then LEB128 numbers: milliseconds of CLOCK_MONOTONIC, seconds since the Unix epoch, last entry
//! number, resident bytes + 1 (0: not known), 1 if every site is in it, number of sites; then for each site its id (8 bytes,
//! little endian) and allocated blocks, allocated bytes, live blocks, live bytes; then the FNV-1a hash of all of it (8
//! bytes, little endian). About 20 bytes a site.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::database::session_file::Moment;
use crate::report::model::SiteId;
use crate::report::sites::{Amount, SitesReport};

const MAGIC: &[u8] = b"MSCOPE-H1\n";

/// Sites a snapshot of the history keeps: half by bytes alive, half by blocks. Marks keep all.
pub const MOST_SITES: usize = 4096;

/// Sites a snapshot may claim to have: more than the kernel's map holds is not ours.
const PLAUSIBLE_SITES: u64 = 1 << 20;

/// One site's totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Allocated since the database was created.
    pub allocated: Amount,
    /// Alive then.
    pub live: Amount,
}

/// A database's sites at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// When.
    pub at: Moment,
    /// Last entry number given out.
    pub last_number: u64,
    /// The target's resident memory, bytes.
    pub resident: Option<u64>,
    /// Every site is in it.
    pub complete: bool,
    /// The sites.
    pub sites: BTreeMap<SiteId, Totals>,
}

impl Snapshot {
    /// Of a report; the sites that matter most if there are too many.
    #[must_use]
    pub fn of(report: &SitesReport, last_number: u64, resident: Option<u64>) -> Self {
        let mut kept: Vec<_> = report.sites.iter().filter(|site| site.live.blocks > 0).collect();
        let complete = kept.len() <= MOST_SITES;
        if !complete {
            kept.sort_by_key(|site| (Reverse(site.live.bytes), site.id));
            let mut rest = kept.split_off(MOST_SITES / 2);
            rest.sort_by_key(|site| (Reverse(site.live.blocks), site.id));
            rest.truncate(MOST_SITES / 2);
            kept.append(&mut rest);
        }
        let totals = |site: &&crate::report::sites::SiteFigures| Totals {
            allocated: site.allocated,
            live: site.live,
        };
        Self {
            at: Moment {
                unix_s: report.at_unix_s,
                monotonic_ms: report.at_monotonic_ms,
            },
            last_number,
            resident,
            complete,
            sites: kept.iter().map(|site| (site.id, totals(site))).collect(),
        }
    }

    /// As a file holds it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for number in [
            self.at.monotonic_ms,
            self.at.unix_s,
            self.last_number,
            self.resident.map_or(0, |bytes| bytes.saturating_add(1)),
            u64::from(self.complete),
            self.sites.len() as u64,
        ] {
            put(&mut out, number);
        }
        for (id, totals) in &self.sites {
            out.extend(id.0.to_le_bytes());
            for amount in [totals.allocated, totals.live] {
                put(&mut out, amount.blocks);
                put(&mut out, amount.bytes);
            }
        }
        let hash = fnv1a(&out);
        out.extend(hash.to_le_bytes());
        out
    }

    /// Of a file; `None` when it is torn or not one of ours.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, hash) = bytes.split_last_chunk::<8>()?;
        if fnv1a(body) != u64::from_le_bytes(*hash) {
            return None;
        }
        let mut rest = body.strip_prefix(MAGIC)?;
        let mut header = [0; 6];
        for number in &mut header {
            *number = take(&mut rest)?;
        }
        let [monotonic_ms, unix_s, last_number, resident, complete, count] = header;
        if count > PLAUSIBLE_SITES {
            return None;
        }
        let mut sites = BTreeMap::new();
        for _ in 0..count {
            let (id, after) = rest.split_first_chunk::<8>()?;
            rest = after;
            let mut amount = || {
                Some(Amount {
                    blocks: take(&mut rest)?,
                    bytes: take(&mut rest)?,
                })
            };
            let totals = Totals {
                allocated: amount()?,
                live: amount()?,
            };
            sites.insert(SiteId(u64::from_le_bytes(*id)), totals);
        }
        rest.is_empty().then_some(Self {
            at: Moment { unix_s, monotonic_ms },
            last_number,
            resident: resident.checked_sub(1),
            complete: complete == 1,
            sites,
        })
    }

    /// All sites together.
    #[must_use]
    pub fn total_live(&self) -> Amount {
        self.sites.values().fold(Amount::default(), |mut sum, site| {
            sum.add(site.live.blocks, site.live.bytes);
            sum
        })
    }
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples;
    use crate::report::sites::SiteFigures;

    fn snapshot() -> Snapshot {
        let sites = [(1, 0), (u64::MAX, u64::MAX), (7, 127), (8, 128)];
        Snapshot {
            at: Moment {
                unix_s: 1_700_000_000,
                monotonic_ms: 5_000_000,
            },
            last_number: 1 << 47,
            resident: Some(0),
            complete: true,
            sites: sites
                .map(|(id, number)| {
                    let amount = Amount {
                        blocks: number,
                        bytes: number,
                    };
                    let totals = Totals {
                        allocated: amount,
                        live: amount,
                    };
                    (SiteId(id), totals)
                })
                .into(),
        }
    }

    #[test]
    fn a_snapshot_survives_its_file() {
        let whole = snapshot();
        assert_eq!(Snapshot::decode(&whole.encode()), Some(whole));
    }

    #[test]
    fn torn_and_altered_files_are_none() {
        let bytes = snapshot().encode();
        for length in 0..bytes.len() {
            assert_eq!(Snapshot::decode(&bytes[..length]), None, "{length}");
        }
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 0x10;
            assert_eq!(Snapshot::decode(&altered), None, "{at}");
        }
    }

    #[test]
    fn a_well_hashed_file_that_claims_too_much_is_none() {
        for claim in [5, 1 << 19, u64::MAX] {
            let mut out = MAGIC.to_vec();
            for number in [1, 2, 3, 4, 1, claim] {
                put(&mut out, number);
            }
            let hash = fnv1a(&out);
            out.extend(hash.to_le_bytes());
            assert_eq!(Snapshot::decode(&out), None, "{claim}");
        }
    }

    #[test]
    fn only_the_sites_that_matter_are_kept() {
        let mut report = samples::sites_report(100_000);
        for id in 0..10_000 {
            let mut site = SiteFigures::empty(SiteId(id), samples::site_stack("work"));
            // The more bytes the fewer blocks.
            site.live.add(10_001 - id, id + 1);
            report.sites.push(site);
        }
        let kept = Snapshot::of(&report, 0, None);
        assert!(!kept.complete);
        assert_eq!(kept.sites.len(), MOST_SITES);
        assert!(kept.sites.contains_key(&SiteId(0)) && kept.sites.contains_key(&SiteId(9_999)));
        assert!(kept.encode().len() < 128 * 1024);
    }
}
