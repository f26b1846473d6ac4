//! From a session to its sites: what each allocated, freed and holds, and when that was born.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use memscope_ebpf::counter::Weight;
use memscope_ebpf::live::{BlockFields, SiteIndex};

use super::error::CollectionError;
use super::estimate::{Odds, Sum};
use super::naming::Naming;
use super::reading::{moment_of, notes};
use super::region_owner::{RegionOwners, all_blocks};
use super::status;
use crate::database::session::Session;
use crate::database::session_file::Moment;
use crate::database::sites::SiteTable;
use crate::history::{Snapshot, Span, Totals};
use crate::report::model::{CollectionState, SiteId};
use crate::report::sites::{Amount, BIRTH_BINS, Sampled, SiteFigures, SitesReport};

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
    let births = BirthTimes { window: &window, odds };
    let (mut alive, table) = alive(session, collection.state, now_ms, births, span)?;
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
        let totals = totals.get(index.0 as usize).map(totals_of);
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
        if odds.is_some() && site.sampled.is_none() {
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
        sampling: odds.map(|odds| odds.sampling),
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
    let mut naming = Naming::new(session, &table);
    let mut sites: BTreeMap<SiteId, Totals> = BTreeMap::new();
    let mut owners = RegionOwners::new(session, &table);
    for (index, site) in table.iter() {
        if !owners.is_told(index) {
            continue;
        }
        let (allocated, freed) = totals_of(site.record);
        let totals = sites.entry(naming.id(&site)).or_default();
        totals.allocated.add(allocated.blocks, allocated.bytes);
        let live = (
            allocated.blocks.saturating_sub(freed.blocks),
            allocated.bytes.saturating_sub(freed.bytes),
        );
        totals.live.add(live.0, live.1);
    }
    Ok(Snapshot {
        at,
        last_number,
        resident: None,
        complete: true,
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
        _ => now_ms.min(start_ms + (collection.seconds + 1) * 1000),
    };
    Ok(start_ms..end_ms)
}

fn alive(
    session: &Session,
    state: CollectionState,
    now_ms: u64,
    births: BirthTimes<'_>,
    span: &Span,
) -> Result<(HashMap<SiteIndex, Alive>, SiteTable), CollectionError> {
    let mut alive: HashMap<SiteIndex, Alive> = HashMap::new();
    if state == CollectionState::Replaced {
        return Ok((alive, session.sites()?));
    }
    let (blocks, table) = all_blocks(session, now_ms)?;
    for raw in blocks {
        let fields = raw.block.unpack();
        if span.takes(fields.number) {
            alive.entry(fields.site).or_default().add(&fields, births);
        }
    }
    Ok((alive, table))
}

fn totals_of(record: &memscope_ebpf::site::SiteRecord) -> (Amount, Amount) {
    let amount = |blocks, bytes| Amount { blocks, bytes };
    (
        amount(record.allocated, record.allocated_bytes),
        amount(record.freed, record.freed_bytes),
    )
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
        let bin = born_ms.saturating_sub(window.start).saturating_mul(BIRTH_BINS as u64) / length;
        self.births[(bin as usize).min(BIRTH_BINS - 1)].add(1, size);
        self.amount.add(1, size);
        self.first_ms = self.first_ms.min(born_ms);
        self.last_ms = self.last_ms.max(born_ms);
    }

    fn add_to(&self, figures: &mut SiteFigures, now_ms: u64) {
        if self.births.is_empty() {
            return;
        }
        figures.live.add(self.amount.blocks, self.amount.bytes);
        if let Some(estimate) = self.estimate {
            let sampled = estimate.sampled(self.amount);
            figures.sampled = Some(figures.sampled.map_or(sampled, |known| known.and(sampled)));
        }
        for (sum, bin) in figures.births.iter_mut().zip(&self.births) {
            sum.add(bin.blocks, bin.bytes);
        }
        let (oldest, youngest) = (
            now_ms.saturating_sub(self.first_ms),
            now_ms.saturating_sub(self.last_ms),
        );
        figures.oldest_ms = Some(figures.oldest_ms.map_or(oldest, |known| known.max(oldest)));
        figures.youngest_ms = Some(figures.youngest_ms.map_or(youngest, |known| known.min(youngest)));
    }
}
