//! From a session to its sites: what each allocated, freed and holds, and when that was born.

mod one_site;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use memscope_ebpf::counter::Weight;
use memscope_ebpf::live::{EntryNumber, SiteIndex};
use memscope_ebpf::site::SiteRecord;

use self::one_site::{Alive, BirthTimes, SiteReading};
use super::error::CollectionError;
use super::estimate::Odds;
use super::naming::Naming;
use super::reading::{moment_of, notes};
use super::region_owner::{RegionOwners, all_blocks};
use super::status;
use crate::database::live_set::Selection;
use crate::database::session::Session;
use crate::database::session_file::Moment;
use crate::database::sites::SiteTable;
use crate::history::{Snapshot, Span, Totals};
use crate::report::model::{CollectionState, SiteId};
use crate::report::sites::{Sampled, SiteFigures, SitesReport};

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
    let watched_until_ms = collected.end;
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
    let mut by_id: BTreeMap<SiteId, SiteReading> = BTreeMap::new();
    let mut owners = RegionOwners::new(session, &table);
    let known: Vec<SiteIndex> = table
        .iter()
        .map(|(index, _)| index)
        .filter(|index| owners.is_told(*index))
        .collect();
    for index in known {
        let alive = alive.remove(&index);
        add(
            &mut by_id,
            &mut naming,
            index,
            now_ms,
            alive.as_ref(),
            totals.get(index.0 as usize),
        );
    }
    for (index, alive) in alive {
        add(&mut by_id, &mut naming, index, now_ms, Some(&alive), None);
    }
    let read = |mut site: SiteReading| {
        if !span.is_whole() {
            site.figures.allocated = span.allocated(site.figures.id, site.figures.allocated);
        }
        if span.is_whole() && collection.state == CollectionState::Replaced {
            site.estimate_allocated(sampling);
        } else {
            site.settle(sampling.filter(|sampling| sampling.had_begun_by(window.end)));
        }
        if sampling.is_some() && site.figures.sampled.is_none() {
            site.figures.sampled = Some(Sampled::default());
        }
        site.figures
    };
    let mut sites: Vec<SiteFigures> = by_id.into_values().map(read).collect();
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
        watched_until_ms,
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
/// As recorded, where blocks are sampled, too: what a span's frees stand for is reckoned when it is read.
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
        let totals = sites.entry(naming.id(&site)).or_default();
        let record = site.record;
        totals.allocated.add(record.allocated, record.allocated_bytes);
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
    let start_ms = status::first_start_ms(session)?.unwrap_or(now_ms);
    // No birth is seen once collection has ended, or sees nothing any more: that time says nothing of any site.
    let end_ms = status::collected_until_ms(session)?.unwrap_or(start_ms).max(start_ms);
    Ok(start_ms..now_ms.min(end_ms))
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

fn add(
    by_id: &mut BTreeMap<SiteId, SiteReading>,
    naming: &mut Naming<'_>,
    index: SiteIndex,
    now_ms: u64,
    alive: Option<&Alive>,
    totals: Option<&SiteRecord>,
) {
    let id = naming.site(index);
    let Some(stack) = naming.stack(id) else { return };
    let site = by_id
        .entry(id)
        .or_insert_with(|| SiteReading::of(SiteFigures::empty(id, stack.clone())));
    if let Some(record) = totals {
        site.add_totals(record);
    }
    if let Some(alive) = alive {
        site.add_alive(alive, now_ms);
    }
}
