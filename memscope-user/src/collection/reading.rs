//! From a session to the report's model: blocks selected and ordered, each site named once.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use memscope_ebpf::counter::Weight;
use memscope_ebpf::live::EntryNumber;

use super::error::CollectionError;
use super::naming::Naming;
pub use super::site_reading::read_sites;
use super::{estimate, region_owner, status};
use crate::age::Age;
use crate::database::kernel_map::monotonic_ns;
use crate::database::live_set::RawEntry;
use crate::database::session::Session;
use crate::report::entries::Entries;
use crate::report::model::{CollectionState, DatabaseReport, SiteId};
use crate::report::sites::Amount;
use crate::suppress::apply::{Applied, apply_to};
use crate::suppress::rules::Rule;

/// Order of the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Oldest first, then by number.
    Age,
    /// Largest first, then oldest.
    Size,
}

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
    let born_until = now_ms.checked_sub(choice.age.seconds().saturating_mul(1000));
    let (mut blocks, table) = match born_until {
        Some(born_until) if collection.state != CollectionState::Replaced => {
            region_owner::all_blocks(session, born_until)?
        }
        _ => (Vec::new(), session.sites()?),
    };
    blocks.retain(|raw| {
        let number = raw.block.unpack().number;
        number > choice.after && number <= choice.up_to
    });
    let total = blocks.len() as u64;
    let estimate = estimate::of(session, blocks.iter().map(|raw| raw.block))?;
    let mut naming = Naming::new(session, &table);
    let suppressed = let_be(session, &mut naming, &mut blocks, rules);
    sort(&mut blocks, choice.order);
    blocks.truncate(choice.limit.unwrap_or(usize::MAX));
    blocks.shrink_to_fit();
    let ids = naming.sites_of(&blocks);
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

/// Takes the blocks of suppressed sites out.
fn let_be(session: &Session, naming: &mut Naming<'_>, blocks: &mut Vec<RawEntry>, rules: &[Rule]) -> Applied {
    if rules.is_empty() {
        return Applied::default();
    }
    let ids = naming.sites_of(blocks);
    let id_of = |raw: &RawEntry| ids.get(raw.block.site().0 as usize).copied().unwrap_or(SiteId(0));
    let mut live: BTreeMap<SiteId, Amount> = BTreeMap::new();
    for raw in &*blocks {
        live.entry(id_of(raw)).or_default().add(1, raw.block.size());
    }
    let sites = live
        .iter()
        .filter_map(|(id, live)| Some((*id, naming.stack(*id)?, *live)));
    let modules = session.file.generations.last();
    let applied = apply_to(rules, sites, modules.map_or(&[], |generation| &generation.modules));
    blocks.retain(|raw| !applied.hides(id_of(raw)));
    applied
}

/// The moment as of which ages are told: now, or the target's end, since a dead target's blocks grow no older.
pub(super) fn moment_of(session: &Session, state: CollectionState) -> Result<u64, CollectionError> {
    let kernel = session.state()?;
    Ok(match state {
        CollectionState::Exited if kernel.thread_exit_at_ns != 0 => kernel.thread_exit_at_ns / 1_000_000,
        _ => monotonic_ns() / 1_000_000,
    })
}

pub(super) fn notes(session: &Session) -> Result<Vec<String>, CollectionError> {
    let mut notes = status::limit_notes(session)?;
    notes.extend(status::room_notes(&session.file.left_out));
    if session.state()?.bound_exit_at_ns != 0 && status::state(session)? == CollectionState::Collecting {
        notes.push(format!(
            "the thread that the probes were bound to has ended, and the kernel took them out: nothing was seen since; \
             `memscope attach {}` binds them to another",
            session.file.target.pid
        ));
    }
    Ok(notes)
}

fn sort(blocks: &mut [RawEntry], order: Order) {
    let age = |raw: &RawEntry| {
        let fields = raw.block.unpack();
        (fields.born_ms, fields.number)
    };
    match order {
        Order::Age => blocks.sort_unstable_by_key(age),
        Order::Size => blocks.sort_unstable_by_key(|raw| (Reverse(raw.block.size()), age(raw))),
    }
}
