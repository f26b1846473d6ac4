//! A snapshot: every site's totals at one moment, as bytes.
//!
//! Format: `MSCOPE-H2\n`; then LEB128 numbers: milliseconds of CLOCK_MONOTONIC, seconds since the Unix epoch, last entry
//! number, resident bytes + 1 (0: not known), 1 if every site is in it, start of the window + 1 (0: not known), number of
//! sites; then for each site its id (8 bytes, little endian), allocated blocks, allocated bytes, live blocks, live bytes,
//! and what follows: 1 cohorts, 2 a leak found, 3 both, 0 neither. Cohorts: seconds each (a power of two), how many, and the
//! blocks of each, which are the live ones. A leak: its ground, milliseconds from the start of the window to when it was
//! first found and last confirmed, confidence in thousandths. Last the FNV-1a hash of all of it (8 bytes, little endian).
//! About 20 bytes a site, 60 with cohorts. `MSCOPE-H1` had neither start nor what follows, and is still read.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::database::session_file::Moment;
use crate::report::cohorts::{Cohorts, MOST_COHORTS};
use crate::report::model::SiteId;
use crate::report::sites::{Amount, SiteFigures, SitesReport};
use crate::verdict::thresholds::MIN_COHORT;
use crate::verdict::{Found, Ground, JudgedDatabase};

const MAGIC: &[u8] = b"MSCOPE-H2\n";

/// Of files without cohorts.
const MAGIC_OF_OLD: &[u8] = b"MSCOPE-H1\n";

const COHORTS_FOLLOW: u64 = 1;

const A_LEAK_FOLLOWS: u64 = 2;

/// Sites a snapshot of the history keeps: half by bytes alive, half by blocks. Marks keep all.
pub const MOST_SITES: usize = 4096;

/// Sites of which a snapshot keeps cohorts: those with the most blocks alive.
pub const MOST_SITES_WITH_COHORTS: usize = 1024;

/// Sites a snapshot may claim to have: more than the kernel's map holds is not ours.
const PLAUSIBLE_SITES: u64 = 1 << 20;

/// One site's totals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Allocated since the database was created.
    pub allocated: Amount,
    /// Alive then.
    pub live: Amount,
    /// The same blocks by birth; `None` when too few to be followed, or not kept.
    pub cohorts: Option<Cohorts>,
    /// What reports until then had found.
    pub found: Option<Found>,
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
    /// Start of the window that cohorts and findings count from, milliseconds of CLOCK_MONOTONIC; `None` without any.
    pub window_start_ms: Option<u64>,
    /// The sites.
    pub sites: BTreeMap<SiteId, Totals>,
}

impl Snapshot {
    /// Of a judged report; the sites that matter most if there are too many.
    #[must_use]
    pub fn of(report: &SitesReport, judged: &JudgedDatabase, last_number: u64, resident: Option<u64>) -> Self {
        let mut kept: Vec<(&SiteFigures, Option<Found>)> = judged
            .with(report)
            .filter(|(site, _)| site.live.blocks > 0)
            .map(|(site, judgement)| (site, judgement.found))
            .collect();
        let complete = kept.len() <= MOST_SITES;
        if !complete {
            kept.sort_by_key(|(site, found)| (found.is_none(), Reverse(site.live.bytes), site.id));
            let mut rest = kept.split_off(MOST_SITES / 2);
            rest.sort_by_key(|(site, found)| (found.is_none(), Reverse(site.live.blocks), site.id));
            rest.truncate(MOST_SITES / 2);
            kept.append(&mut rest);
        }
        kept.sort_by_key(|(site, found)| (found.is_none(), Reverse(site.live.blocks), site.id));
        let totals = |place: usize, site: &SiteFigures, found: Option<Found>| Totals {
            allocated: site.allocated,
            live: site.live,
            cohorts: site
                .cohorts
                .clone()
                // Where the budget has brought sampling on, what is alive is an estimate, and its births are what was seen.
                .filter(|cohorts| cohorts.total() == site.live.blocks)
                .filter(|_| place < MOST_SITES_WITH_COHORTS && site.live.blocks >= MIN_COHORT),
            found,
        };
        let sites = kept.iter().enumerate();
        Self {
            at: Moment {
                unix_s: report.at_unix_s,
                monotonic_ms: report.at_monotonic_ms,
            },
            last_number,
            resident,
            complete,
            window_start_ms: Some(report.window.start),
            sites: sites
                .map(|(place, (site, found))| (site.id, totals(place, site, *found)))
                .collect(),
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
            self.window_start_ms.map_or(0, |start| start.saturating_add(1)),
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
            totals.encode_rest(&mut out);
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
        let old = body.strip_prefix(MAGIC_OF_OLD);
        let mut rest = match old {
            Some(rest) => rest,
            None => body.strip_prefix(MAGIC)?,
        };
        let mut header = [0; 5];
        for number in &mut header {
            *number = take(&mut rest)?;
        }
        let [monotonic_ms, unix_s, last_number, resident, complete] = header;
        let start = if old.is_some() { 0 } else { take(&mut rest)? };
        let count = take(&mut rest)?;
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
            let mut totals = Totals {
                allocated: amount()?,
                live: amount()?,
                ..Totals::default()
            };
            if old.is_none() {
                totals.decode_rest(&mut rest)?;
            }
            sites.insert(SiteId(u64::from_le_bytes(*id)), totals);
        }
        rest.is_empty().then_some(Self {
            at: Moment { unix_s, monotonic_ms },
            last_number,
            resident: resident.checked_sub(1),
            complete: complete == 1,
            window_start_ms: start.checked_sub(1),
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

impl Totals {
    fn encode_rest(&self, out: &mut Vec<u8>) {
        let cohorts = self.cohorts.as_ref().map_or(0, |_| COHORTS_FOLLOW);
        put(out, cohorts | self.found.map_or(0, |_| A_LEAK_FOLLOWS));
        if let Some(cohorts) = &self.cohorts {
            put(out, cohorts.step_ms() / 1000);
            put(out, cohorts.blocks().len() as u64);
            cohorts.blocks().iter().for_each(|blocks| put(out, *blocks));
        }
        if let Some(found) = self.found {
            let ground = Ground::ALL.iter().position(|ground| *ground == found.ground);
            put(out, ground.unwrap_or(0) as u64);
            put(out, found.first_ms);
            put(out, found.confirmed_ms);
            put(out, u64::from(found.permille));
        }
    }

    fn decode_rest(&mut self, rest: &mut &[u8]) -> Option<()> {
        let follows = take(rest)?;
        if follows & !(COHORTS_FOLLOW | A_LEAK_FOLLOWS) != 0 {
            return None;
        }
        if follows & COHORTS_FOLLOW != 0 {
            let step_ms = take(rest)?.checked_mul(1000)?;
            let count = usize::try_from(take(rest)?).ok()?;
            if count > MOST_COHORTS {
                return None;
            }
            let blocks: Vec<u64> = (0..count).map(|_| take(rest)).collect::<Option<_>>()?;
            let cohorts = Cohorts::from_parts(step_ms, blocks)?;
            self.cohorts = Some(cohorts).filter(|cohorts| cohorts.total() == self.live.blocks);
            self.cohorts.as_ref()?;
        }
        if follows & A_LEAK_FOLLOWS != 0 {
            let ground = *Ground::ALL.get(usize::try_from(take(rest)?).ok()?)?;
            let (first_ms, confirmed_ms) = (take(rest)?, take(rest)?);
            let permille = u16::try_from(take(rest)?).ok()?;
            if first_ms > confirmed_ms || permille > 1000 {
                return None;
            }
            self.found = Some(Found {
                ground,
                first_ms,
                confirmed_ms,
                permille,
            });
        }
        Some(())
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
    use crate::verdict::judge_database;

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
            window_start_ms: Some(4_000_000),
            sites: sites
                .map(|(id, number)| {
                    let amount = Amount {
                        blocks: number,
                        bytes: number,
                    };
                    let totals = Totals {
                        allocated: amount,
                        live: amount,
                        cohorts: Cohorts::from_parts(4000, vec![number / 2, 0, number - number / 2]),
                        found: (number == 127).then_some(Found {
                            ground: Ground::SteadyGrowth,
                            first_ms: 60_000,
                            confirmed_ms: 1 << 40,
                            permille: 1000,
                        }),
                    };
                    (SiteId(id), totals)
                })
                .into(),
        }
    }

    /// A file of one site, with these numbers after its live blocks.
    fn file_with(magic: &[u8], live: u64, rest: &[u64]) -> Vec<u8> {
        let mut out = magic.to_vec();
        let header: &[u64] = if magic == MAGIC {
            &[1, 2, 3, 4, 1, 5, 1]
        } else {
            &[1, 2, 3, 4, 1, 1]
        };
        header.iter().for_each(|number| put(&mut out, *number));
        out.extend(9u64.to_le_bytes());
        [live, live, live, live]
            .iter()
            .chain(rest)
            .for_each(|number| put(&mut out, *number));
        let hash = fnv1a(&out);
        out.extend(hash.to_le_bytes());
        out
    }

    #[test]
    fn a_file_of_an_older_version_is_read_without_cohorts() {
        let old = Snapshot::decode(&file_with(MAGIC_OF_OLD, 20, &[])).unwrap();
        assert_eq!((old.window_start_ms, old.resident, old.complete), (None, Some(3), true));
        let site = &old.sites[&SiteId(9)];
        assert_eq!((site.live.blocks, &site.cohorts, site.found), (20, &None, None));
        assert_eq!(Snapshot::decode(&file_with(MAGIC_OF_OLD, 20, &[0])), None);
        assert_eq!(
            Snapshot::decode(&file_with(b"MSCOPE-H3\n", 20, &[0])),
            None,
            "of a later version"
        );
    }

    #[test]
    fn cohorts_and_findings_that_cannot_be_are_none() {
        let good: [&[u64]; 4] = [
            &[0],
            &[1, 4, 2, 5, 15],
            &[2, 0, 60_000, 60_000, 1000],
            &[3, 1, 1, 20, 2, 0, 0, 0],
        ];
        for rest in good {
            assert!(Snapshot::decode(&file_with(MAGIC, 20, rest)).is_some(), "{rest:?}");
        }
        let bad: [&[u64]; 10] = [
            &[4],
            &[1, 4, 2, 5, 16],
            &[1, 3, 1, 20],
            &[1, 0, 1, 20],
            &[1, u64::MAX, 1, 20],
            &[1, 4, 33, 20],
            &[1, 4, u64::MAX, 20],
            &[2, 3, 1, 1, 1],
            &[2, 0, 60_001, 60_000, 1],
            &[2, 0, 1, 1, 1001],
        ];
        for rest in bad {
            assert_eq!(Snapshot::decode(&file_with(MAGIC, 20, rest)), None, "{rest:?}");
        }
        // Sums that would overflow.
        assert_eq!(Snapshot::decode(&file_with(MAGIC, 1, &[1, 1, 2, u64::MAX, 2])), None);
    }

    #[test]
    fn births_that_are_not_of_all_that_is_alive_are_left_out_and_the_file_is_read() {
        let mut report = samples::sites_report(100_000);
        for (id, alive) in [(1, 20), (2, 13_000)] {
            let mut site = SiteFigures::empty(SiteId(id), samples::site_stack("work"));
            site.live.add(alive, alive * 64);
            site.cohorts = Cohorts::from_parts(4000, vec![20]);
            report.sites.push(site);
        }
        let snapshot = Snapshot::of(&report, &judge_database(&report, &()), 0, None);
        let read = Snapshot::decode(&snapshot.encode()).unwrap();
        let cohorts = [1, 2].map(|id| read.sites[&SiteId(id)].cohorts.is_some());
        assert_eq!(cohorts, [true, false]);
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
            for number in [1, 2, 3, 4, 1, 5, claim] {
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
            let cohorts = vec![(10_001 - id) / 31; 30];
            let rest = 10_001 - id - cohorts.iter().sum::<u64>();
            site.cohorts = Cohorts::from_parts(4000, [cohorts, vec![rest]].concat());
            report.sites.push(site);
        }
        let mut judged = judge_database(&report, &());
        // Neither large nor many, but known to leak.
        judged.judgements[5_000].found = Some(Found {
            ground: Ground::SteadyGrowth,
            first_ms: 70_000,
            confirmed_ms: 90_000,
            permille: 800,
        });
        let kept = Snapshot::of(&report, &judged, 0, None);
        assert!(!kept.complete);
        assert_eq!(kept.sites.len(), MOST_SITES);
        let ids = [0, 9_999, 5_000].map(SiteId);
        assert!(ids.iter().all(|id| kept.sites.contains_key(id)));
        assert_eq!(kept.sites[&SiteId(5_000)].found, judged.judgements[5_000].found);
        let followed = || kept.sites.values().filter(|site| site.cohorts.is_some());
        assert_eq!(followed().count(), MOST_SITES_WITH_COHORTS);
        assert!(followed().all(|site| site.live.blocks >= MIN_COHORT));
        assert_eq!(Snapshot::decode(&kept.encode()).as_ref(), Some(&kept));
        assert!(kept.encode().len() < 200 * 1024, "{}", kept.encode().len());
    }
}
