//! From a session to its sites: what each allocated, freed and holds, and when that was born.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use memscope_ebpf::counter::Weight;
use memscope_ebpf::live::{BlockFields, EntryNumber, SiteIndex};
use memscope_ebpf::site::SiteRecord;

use super::error::CollectionError;
use super::estimate::{Odds, Sum};
use super::naming::Naming;
use super::reading::{moment_of, notes};
use super::region_owner::{RegionOwners, all_blocks};
use super::status;
use crate::database::live_set::Selection;
use crate::database::session::Session;
use crate::database::session_file::Moment;
use crate::database::sites::SiteTable;
use crate::history::{Snapshot, Span, Totals};
use crate::report::cohorts::Cohorts;
use crate::report::model::{CollectionState, SiteId};
use crate::report::sites::{Amount, BIRTH_BINS, Sampled, Sampling, SiteFigures, SitesReport};

/// Reads a session by site: every site that allocated anything, with what of it is alive.
///
/// # Errors
/// A map cannot be read.
pub fn read_sites(session: &Session) -> Result<SitesReport, CollectionError> {
    read_sites_born(session, &Span::default())
}

/// The same of the blocks born in a span, sites that allocated nothing in it left out. Losses and events are the whole
/// database's: the counters do not say when they were counted.
///
/// # Errors
/// A map cannot be read.
pub fn read_sites_born(session: &Session, span: &Span) -> Result<SitesReport, CollectionError> {
    let collection = status::collection(session)?;
    let now_ms = moment_of(session, collection.state)?;
    let up_to = session.last_number()?;
    let collected = window(session, now_ms)?;
    let window = span
        .from
        .as_ref()
        .map_or(collected.start, |edge| edge.mark.at.monotonic_ms)
        ..span
            .until
            .as_ref()
            .map_or(collected.end, |edge| edge.mark.at.monotonic_ms);
    // The totals before the blocks, or what a busy target allocates meanwhile would pass for freed; the stacks after
    // them, since a block's site is published before the block.
    let totals = session.site_records()?;
    let odds = Odds::of(session)?;
    let sampling = odds.map(|odds| odds.sampling);
    let births = BirthTimes { window: &window, odds };
    let (mut alive, table) = alive(session, collection.state, up_to, births, span)?;
    let mut naming = Naming::new(session, &table);
    let mut by_id: BTreeMap<SiteId, SiteFigures> = BTreeMap::new();
    let mut owners = RegionOwners::new(session, &table);
    let known: Vec<SiteIndex> = table
        .iter()
        .map(|(index, _)| index)
        .filter(|index| owners.is_told(*index))
        .collect();
    for index in known {
        let alive = alive.remove(&index);
        let totals = totals.get(index.0 as usize).map(|record| totals_of(record, sampling));
        add(&mut by_id, &mut naming, index, now_ms, alive.as_ref(), totals);
    }
    for (index, alive) in alive {
        add(&mut by_id, &mut naming, index, now_ms, Some(&alive), None);
    }
    let mut sites: Vec<SiteFigures> = by_id.into_values().collect();
    for site in &mut sites {
        if !span.is_whole() {
            site.allocated = span.allocated(site.id, site.allocated);
        }
        if !span.is_whole() || collection.state != CollectionState::Replaced {
            settle(site);
        }
        if sampling.is_some() && site.sampled.is_none() {
            site.sampled = Some(Sampled::default());
        }
    }
    // New since the totals were read, and freed again: nothing is known of them yet.
    sites.retain(|site| site.allocated.blocks > 0 || site.live.blocks > 0);
    sites.sort_by_key(|site| (Reverse(site.live.bytes), site.id));
    let tally = session.tally()?;
    let mut events = tally.nonzero(Weight::Event);
    events.extend(tally.nonzero(Weight::Anomaly));
    let mut gaps = status::gaps(session, now_ms)?;
    gaps.retain(|gap| now_ms.saturating_sub(gap.ended_ms_ago) > window.start);
    Ok(SitesReport {
        target: status::description(session),
        collection,
        at_unix_s: Moment::now().unix_s,
        at_monotonic_ms: now_ms,
        window,
        sites,
        gaps,
        events,
        losses: tally.nonzero(Weight::Loss),
        sampling,
        notes: notes(session)?.into_iter().chain(naming.note()).collect(),
    })
}

/// The moment a mark notes: the last number given out, then what every site had allocated. What is allocated between the
/// two readings, a few milliseconds, counts to either side in the totals; the blocks themselves are told by their numbers.
///
/// # Errors
/// A map cannot be read.
pub fn read_moment(session: &Session) -> Result<Snapshot, CollectionError> {
    let last_number = session.state()?.last_number;
    let at = Moment::now();
    let table = session.sites()?;
    let sampling = Odds::of(session)?.map(|odds| odds.sampling);
    let mut naming = Naming::new(session, &table);
    let mut sites: BTreeMap<SiteId, Totals> = BTreeMap::new();
    let mut owners = RegionOwners::new(session, &table);
    for (index, site) in table.iter() {
        if !owners.is_told(index) {
            continue;
        }
        let (allocated, _) = totals_of(site.record, sampling);
        let totals = sites.entry(naming.id(&site)).or_default();
        totals.allocated.add(allocated.blocks, allocated.bytes);
        let record = site.record;
        totals.live.add(
            record.allocated.saturating_sub(record.freed),
            record.allocated_bytes.saturating_sub(record.freed_bytes),
        );
    }
    Ok(Snapshot {
        at,
        last_number,
        resident: None,
        complete: true,
        window_start_ms: None,
        sites,
    })
}

/// The time in which blocks were collected, milliseconds of CLOCK_MONOTONIC.
fn window(session: &Session, now_ms: u64) -> Result<Range<u64>, CollectionError> {
    let collection = status::collection(session)?;
    let start_ms = status::first_start_ms(session)?.unwrap_or(now_ms);
    let end_ms = match collection.state {
        CollectionState::Collecting => now_ms,
        // Nothing is born once collection has ended: that time says nothing of any site.
        _ => now_ms.min(status::collected_until_ms(session)?.unwrap_or(start_ms).max(start_ms)),
    };
    Ok(start_ms..end_ms)
}

fn alive(
    session: &Session,
    state: CollectionState,
    up_to: EntryNumber,
    births: BirthTimes<'_>,
    span: &Span,
) -> Result<(HashMap<SiteIndex, Alive>, SiteTable), CollectionError> {
    let mut alive: HashMap<SiteIndex, Alive> = HashMap::new();
    if state == CollectionState::Replaced {
        return Ok((alive, session.sites()?));
    }
    let (parts, table) = all_blocks(session, Selection::of_any_age(up_to))?;
    for raw in parts.iter().flatten() {
        let fields = raw.block.unpack();
        if span.takes(fields.number) {
            alive.entry(fields.site).or_default().add(&fields, births);
        }
    }
    Ok((alive, table))
}

/// Allocated and freed, as recorded; where sampling began later, what was allocated since then is estimated.
fn totals_of(record: &SiteRecord, sampling: Option<Sampling>) -> (Amount, Amount) {
    let amount = |blocks, bytes| Amount { blocks, bytes };
    let mut allocated = amount(record.allocated, record.allocated_bytes);
    if let Some(sampling) = sampling.filter(|sampling| !sampling.is_from_the_start()) {
        // The programs count the two one after the other.
        let since = amount(
            record.sampled.min(record.allocated),
            record.sampled_bytes.min(record.allocated_bytes),
        );
        let estimated = sampling.scaled(since);
        allocated = amount(allocated.blocks - since.blocks, allocated.bytes - since.bytes);
        allocated.add(estimated.blocks, estimated.bytes);
    }
    (allocated, amount(record.freed, record.freed_bytes))
}

fn add(
    by_id: &mut BTreeMap<SiteId, SiteFigures>,
    naming: &mut Naming<'_>,
    index: SiteIndex,
    now_ms: u64,
    alive: Option<&Alive>,
    totals: Option<(Amount, Amount)>,
) {
    let id = naming.site(index);
    let Some(stack) = naming.stack(id) else { return };
    let figures = by_id.entry(id).or_insert_with(|| SiteFigures::empty(id, stack.clone()));
    if let Some((allocated, freed)) = totals {
        figures.allocated.add(allocated.blocks, allocated.bytes);
        figures.freed.add(freed.blocks, freed.bytes);
    }
    if let Some(alive) = alive {
        alive.add_to(figures, now_ms);
    }
}

/// What was allocated is alive or was freed. Of blocks born since the totals were read only those alive are known; in a
/// span of marks only frees of blocks born in it count, and these are the blocks born in it that are not alive.
fn settle(site: &mut SiteFigures) {
    site.allocated = Amount {
        blocks: site.allocated.blocks.max(site.live.blocks),
        bytes: site.allocated.bytes.max(site.live.bytes),
    };
    site.freed = Amount {
        blocks: site.allocated.blocks - site.live.blocks,
        bytes: site.allocated.bytes - site.live.bytes,
    };
}

/// How blocks are sorted by birth, and what each stands for.
#[derive(Clone, Copy)]
struct BirthTimes<'a> {
    window: &'a Range<u64>,
    odds: Option<Odds>,
}

/// What of a site is alive, while it is being added up.
#[derive(Default)]
struct Alive {
    amount: Amount,
    estimate: Option<Sum>,
    births: Vec<Amount>,
    /// Of the blocks that stand for many, where others stand for one; apart, since they do so in fractions.
    estimated_births: Vec<Sum>,
    odds_changed: bool,
    cohorts: Option<Cohorts>,
    first_ms: u64,
    last_ms: u64,
}

impl Alive {
    fn add(&mut self, fields: &BlockFields, times: BirthTimes<'_>) {
        let BlockFields { size, born_ms, .. } = *fields;
        let window = times.window;
        if let Some(odds) = &times.odds {
            self.estimate.get_or_insert_default().add(odds, fields);
        }
        if self.births.is_empty() {
            self.births = vec![Amount::default(); BIRTH_BINS];
            self.first_ms = born_ms;
        }
        let length = window.end.saturating_sub(window.start).max(1);
        let born_after = born_ms.saturating_sub(window.start);
        self.cohorts
            .get_or_insert_with(|| Cohorts::of_window(length))
            .add(born_after);
        let bin = born_after.saturating_mul(BIRTH_BINS as u64) / length;
        let bin = (bin as usize).min(BIRTH_BINS - 1);
        let changed = times.odds.filter(|odds| !odds.sampling.is_from_the_start());
        self.odds_changed = changed.is_some();
        match changed.filter(|_| fields.sampled) {
            Some(odds) => {
                self.estimated_births.resize(BIRTH_BINS, Sum::default());
                self.estimated_births[bin].add(&odds, fields);
            }
            None => self.births[bin].add(1, size),
        }
        self.amount.add(1, size);
        self.first_ms = self.first_ms.min(born_ms);
        self.last_ms = self.last_ms.max(born_ms);
    }

    fn add_to(&self, figures: &mut SiteFigures, now_ms: u64) {
        if self.births.is_empty() {
            return;
        }
        let mut live = self.amount;
        if let Some(estimate) = self.estimate {
            let sampled = estimate.sampled(self.amount);
            if self.odds_changed {
                live = sampled.estimated;
            }
            figures.sampled = Some(figures.sampled.map_or(sampled, |known| known.and(sampled)));
        }
        figures.live.add(live.blocks, live.bytes);
        for (sum, bin) in figures.births.iter_mut().zip(&self.births) {
            sum.add(bin.blocks, bin.bytes);
        }
        for (sum, bin) in figures.births.iter_mut().zip(&self.estimated_births) {
            let bin = bin.amount();
            sum.add(bin.blocks, bin.bytes);
        }
        if let Some(cohorts) = &self.cohorts {
            match &mut figures.cohorts {
                Some(sum) => sum.add_all(cohorts),
                none => *none = Some(cohorts.clone()),
            }
        }
        let (oldest, youngest) = (
            now_ms.saturating_sub(self.first_ms),
            now_ms.saturating_sub(self.last_ms),
        );
        figures.oldest_ms = Some(figures.oldest_ms.map_or(oldest, |known| known.max(oldest)));
        figures.youngest_ms = Some(figures.youngest_ms.map_or(youngest, |known| known.min(youngest)));
    }
}

#[cfg(test)]
mod tests {
    use memscope_ebpf::live::BlockKind;
    use memscope_ebpf::sample::distance;

    use super::*;
    use crate::report::samples::{site_stack, sites_report};
    use crate::verdict::{Verdict, judge_database};

    const SIZE: u64 = 1_000;
    const SAMPLE_BYTES: u64 = 500_000;

    /// Ten minutes in which `blocks` blocks are born evenly, recorded one and all until `since_ms`, then sampled.
    fn steady_leak(seed: u32, blocks: u64, since_ms: u64) -> (SitesReport, u64) {
        let mut random = seed;
        let mut draw = || {
            // xorshift32 (Marsaglia 2003).
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            distance(random, SAMPLE_BYTES)
        };
        let mut report = sites_report(600_000);
        let window = report.window.clone();
        let sampling = Sampling {
            sample_bytes: SAMPLE_BYTES,
            since_ms: Some(window.start + since_ms),
        };
        let times = BirthTimes {
            window: &window,
            odds: Some(Odds { sampling }),
        };
        let (mut alive, mut until) = (Alive::default(), draw());
        let mut record = SiteRecord::default();
        for number in 0..blocks {
            let born_ms = window.start + number * 600_000 / blocks;
            let sampled = born_ms >= window.start + since_ms;
            if sampled && until > SIZE {
                until -= SIZE;
                continue;
            }
            if sampled {
                until = draw();
                record.sampled += 1;
                record.sampled_bytes += SIZE;
            }
            record.allocated += 1;
            record.allocated_bytes += SIZE;
            alive.add(
                &BlockFields {
                    number: EntryNumber(number + 1),
                    size: SIZE,
                    born_ms,
                    tid: 1,
                    site: SiteIndex(1),
                    kind: BlockKind::Heap,
                    sampled,
                },
                times,
            );
        }
        let mut site = SiteFigures::empty(SiteId(1), site_stack("work"));
        (site.allocated, site.freed) = totals_of(&record, Some(sampling));
        alive.add_to(&mut site, window.end);
        settle(&mut site);
        report.sites.push(site);
        report.sampling = Some(sampling);
        (report, record.sampled)
    }

    #[test]
    fn a_steady_leak_stays_one_or_undecided_when_its_blocks_are_sampled_on_the_way() {
        let mut leaking = 0;
        for seed in 1..=100u32 {
            for blocks in [600, 6_000, 60_000] {
                for since_ms in [20_000, 60_000, 300_000, 580_000] {
                    let (report, sampled) = steady_leak(seed.wrapping_mul(0x9e37_79b9), blocks, since_ms);
                    let judgement = judge_database(&report, &()).judgements[0];
                    assert!(
                        matches!(judgement.verdict, Verdict::Leaking | Verdict::Undecided),
                        "seed {seed}: of {blocks} blocks, sampled since {since_ms} ms, {sampled} were: {judgement:?}"
                    );
                    leaking += u32::from(judgement.verdict == Verdict::Leaking);
                }
            }
        }
        // Whoever never decides is never wrong.
        assert!(leaking > 400, "{leaking} of 1200");
    }

    #[test]
    fn figures_of_blocks_sampled_on_the_way_are_the_truth_within_their_error() {
        let (mut within, mut sum) = (0, 0.0);
        const RUNS: u32 = 200;
        const BLOCKS: u64 = 60_000;
        for seed in 1..=RUNS {
            let (report, sampled) = steady_leak(seed.wrapping_mul(0x9e37_79b9), BLOCKS, 300_000);
            let site = &report.sites[0];
            let recorded = site.sampled.unwrap().recorded;
            assert_eq!(recorded.blocks, BLOCKS / 2 + sampled);
            let (early, late) = site.births.split_at(BIRTH_BINS / 2);
            let blocks = |bins: &[Amount]| bins.iter().map(|bin| bin.blocks).sum::<u64>();
            assert_eq!(blocks(early), BLOCKS / 2, "recorded one and all");
            // Each bin is rounded to whole blocks.
            assert!((blocks(early) + blocks(late)).abs_diff(site.live.blocks) <= BIRTH_BINS as u64 / 2);
            // Nothing was freed, and nothing reads as freed but for rounding.
            assert!(site.freed.blocks <= 1, "{:?}", site.freed);
            let error = site.live.bytes.abs_diff(BLOCKS * SIZE);
            within += u32::from(error <= report.bytes_error().unwrap());
            sum += site.live.bytes as f64 / (BLOCKS * SIZE) as f64;
        }
        let mean = sum / f64::from(RUNS);
        assert!((mean - 1.0).abs() < 0.02, "{mean}");
        assert!(within >= RUNS * 90 / 100, "{within} of {RUNS} within the bound");
    }
}
