//! From a session to the report's model: blocks selected and ordered, each site named once.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use memscope_ebpf::counter::{Counter, Weight};
use memscope_ebpf::live::EntryNumber;

use super::error::CollectionError;
use super::naming::Naming;
pub use super::site_reading::read_sites;
use super::{estimate, region_owner, room, status};
use crate::age::Age;
use crate::beside::beside;
use crate::database::clock::monotonic_ns;
use crate::database::live_set::{RawEntry, Selection};
use crate::database::session::Session;
use crate::report::entries::Entries;
use crate::report::model::{CollectionState, DatabaseReport, SiteId};
pub use crate::report::order::Order;
use crate::report::order::Runs;
use crate::report::sites::Amount;
use crate::suppress::apply::{Applied, apply_to};
use crate::suppress::rules::Rule;

/// Which entries a report holds.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Least age.
    pub age: Age,
    /// Order.
    pub order: Order,
    /// At most this many.
    pub limit: Option<usize>,
    /// Only blocks numbered after this.
    pub after: EntryNumber,
    /// Only blocks numbered up to this.
    pub up_to: EntryNumber,
}

impl Choice {
    /// Every block of at least this age.
    #[must_use]
    pub const fn of_age(age: Age, order: Order) -> Self {
        Self {
            age,
            order,
            limit: None,
            after: EntryNumber(0),
            up_to: EntryNumber(u64::MAX),
        }
    }
}

/// Reads a session's live blocks and names their sites.
///
/// # Errors
/// A map cannot be read.
pub fn read(session: &Session, choice: Choice) -> Result<DatabaseReport, CollectionError> {
    read_but(session, choice, &[])
}

/// The same, leaving out the entries of sites that these rules let be.
///
/// # Errors
/// A map cannot be read.
pub fn read_but(session: &Session, choice: Choice, rules: &[Rule]) -> Result<DatabaseReport, CollectionError> {
    let collection = status::collection(session)?;
    let now_ms = moment_of(session, collection.state)?;
    let up_to = session.last_number()?;
    let selection = match choice.age.seconds() {
        0 => Some(Selection::of_any_age(up_to)),
        seconds => now_ms
            .checked_sub(seconds.saturating_mul(1000))
            .map(|born_until_ms| Selection::born_until(born_until_ms, up_to)),
    };
    let (mut parts, table) = match selection {
        Some(selection) if collection.state != CollectionState::Replaced => {
            region_owner::all_blocks(session, selection)?
        }
        _ => (Vec::new(), session.sites()?),
    };
    if choice.after.0 > 0 || choice.up_to.0 < u64::MAX {
        retain(&mut parts, |raw| {
            let number = raw.block.unpack().number;
            number > choice.after && number <= choice.up_to
        });
    }
    let total = parts.iter().map(|part| part.len() as u64).sum();
    let estimate = estimate::of(session, parts.iter().flatten().map(|raw| raw.block))?;
    let mut naming = Naming::new(session, &table);
    let suppressed = let_be(session, &mut naming, &mut parts, rules);
    let (blocks, ids) = sort_and_name(parts, choice, &mut naming);
    let unnamed = naming.note();
    let mut sites = naming.into_stacks();
    if !suppressed.rules.is_empty() {
        // All were named, so that rules could be applied.
        let printed: BTreeSet<SiteId> = ids.iter().copied().collect();
        sites.retain(|id, _| printed.contains(id));
    }
    Ok(DatabaseReport {
        target: status::description(session),
        collection,
        age_s: choice.age.seconds(),
        entries: Entries::new(blocks, now_ms, ids),
        sites,
        total,
        gaps: status::gaps(session, now_ms)?,
        losses: session.tally()?.nonzero(Weight::Loss),
        notes: notes(session)?
            .into_iter()
            .chain(estimate.map(|it| it.to_string()))
            .chain(unnamed)
            .collect(),
        estimate,
        suppressed,
    })
}

/// The chosen blocks in order, and the site of each index that they have: all named while they are sorted, but with a limit
/// only those of the blocks that it leaves.
fn sort_and_name(parts: Vec<Vec<RawEntry>>, choice: Choice, naming: &mut Naming<'_>) -> (Runs, Vec<SiteId>) {
    let Choice { order, limit, .. } = choice;
    if limit.is_some() {
        let blocks = Runs::sorted(parts, order, limit);
        let ids = naming.sites_of(blocks.unordered());
        return (blocks, ids);
    }
    let met = Naming::indices_of(parts.iter().flatten());
    thread::scope(|scope| {
        let sorting = beside(scope, || Runs::sorted(parts, order, None));
        let ids = naming.sites_of_indices(&met);
        (sorting.join(), ids)
    })
}

/// Takes the blocks of suppressed sites out.
fn let_be(session: &Session, naming: &mut Naming<'_>, parts: &mut [Vec<RawEntry>], rules: &[Rule]) -> Applied {
    if rules.is_empty() {
        return Applied::default();
    }
    let ids = naming.sites_of(parts.iter().flatten());
    let id_of = |raw: &RawEntry| ids.get(raw.block.site().0 as usize).copied().unwrap_or(SiteId(0));
    let mut live: BTreeMap<SiteId, Amount> = BTreeMap::new();
    for raw in parts.iter().flatten() {
        live.entry(id_of(raw)).or_default().add(1, raw.block.size());
    }
    let sites = live
        .iter()
        .filter_map(|(id, live)| Some((*id, naming.stack(*id)?, *live)));
    let modules = session.file.generations.last();
    let applied = apply_to(rules, sites, modules.map_or(&[], |generation| &generation.modules));
    retain(parts, |raw| !applied.hides(id_of(raw)));
    applied
}

fn retain(parts: &mut [Vec<RawEntry>], keep: impl Fn(&RawEntry) -> bool) {
    for part in parts {
        part.retain(&keep);
    }
}

/// The moment as of which ages are told: now, or the last one of a target that has ended at which it was watched, since a
/// dead target's blocks grow no older.
pub(super) fn moment_of(session: &Session, state: CollectionState) -> Result<u64, CollectionError> {
    let now_ms = monotonic_ns() / 1_000_000;
    if state != CollectionState::Exited {
        return Ok(now_ms);
    }
    Ok(status::last_watched_ms(session)?.unwrap_or(now_ms))
}

pub(super) fn notes(session: &Session) -> Result<Vec<String>, CollectionError> {
    let mut notes = status::limit_notes(session)?;
    let state = status::state(session)?;
    let blind = status::blind_since(session)?;
    if state == CollectionState::Exited && !status::was_watched_to_its_end(session)? {
        let why = if blind.is_some() && status::stopped_by_budget(session)?.is_none() {
            "the thread that the probes were bound to had ended"
        } else {
            "collection had been stopped"
        };
        notes.push(format!(
            "{why} before the target ended: what was freed or allocated in between is not in this report"
        ));
    }
    if session.tally()?.get(Counter::LiveFull) > 0 {
        let (pid, capacity) = (session.file.target.pid, session.file.capacities.live);
        notes.push(format!(
            "the database holds {capacity} blocks and was full: `memscope detach {pid}`, then `memscope attach {pid} \
             --max-blocks {}` makes a larger one, which begins empty",
            capacity.saturating_mul(4).min(1 << 28)
        ));
    }
    notes.extend(room::notes(&session.file.left_out));
    if blind.is_some() && state == CollectionState::Collecting {
        notes.push(format!(
            "the thread that the probes were bound to has ended, and the kernel took them out: nothing was seen since; \
             `memscope attach {}` binds them to another",
            session.file.target.pid
        ));
    }
    Ok(notes)
}
