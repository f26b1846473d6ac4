//! From a session to the report's model: blocks selected and ordered, each site named once.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use memscope_ebpf::counter::Weight;
use memscope_ebpf::live::SiteIndex;
use memscope_ebpf::site::{SiteRecord, StackEnd};

use super::error::CollectionError;
use super::region_owner::RegionOwners;
use super::status;
use crate::age::Age;
use crate::database::kernel_map::monotonic_ns;
use crate::database::live_set::RawEntry;
use crate::database::session::{LiveTotals, Session};
use crate::database::session_file::Moment;
use crate::database::sites::{RawSite, SiteTable};
use crate::probe::plan::PlannedCall;
use crate::report::model::{CollectionState, DatabaseReport, Entry, Frame, SiteId, Stack};
use crate::report::sites::{Amount, BIRTH_BINS, SiteFigures, SitesReport};
use crate::symbol::{FrameIdentity, Symbolizer, site_id};
use crate::target::identity::Pid;
use crate::target::process::Target;

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
}

/// Reads a session's live blocks and names their sites.
///
/// # Errors
/// A map cannot be read.
pub fn read(session: &Session, choice: Choice) -> Result<DatabaseReport, CollectionError> {
    let collection = status::collection(session)?;
    let now_ms = moment_of(session, collection.state)?;
    let born_until = now_ms.checked_sub(choice.age.seconds().saturating_mul(1000));
    let (mut blocks, table) = match born_until {
        Some(born_until) if collection.state != CollectionState::Replaced => all_blocks(session, born_until)?,
        _ => (Vec::new(), session.sites()?),
    };
    let total = blocks.len() as u64;
    sort(&mut blocks, choice.order);
    blocks.truncate(choice.limit.unwrap_or(usize::MAX));
    blocks.shrink_to_fit();

    let mut naming = Naming::new(session, &table);
    let entries = blocks
        .iter()
        .map(|raw| {
            let fields = raw.block.unpack();
            Entry {
                number: fields.number,
                address: raw.address,
                size: fields.size,
                age_ms: now_ms.saturating_sub(fields.born_ms),
                tid: fields.tid,
                site: naming.site(fields.site),
                kind: fields.kind,
            }
        })
        .collect();
    Ok(DatabaseReport {
        target: status::description(session),
        collection,
        age_s: choice.age.seconds(),
        entries,
        sites: naming.stacks,
        total,
        gaps: status::gaps(session, now_ms)?,
        losses: session.tally()?.nonzero(Weight::Loss),
        notes: notes(session)?,
    })
}

/// Reads a session by site: every site that allocated anything, with what of it is alive.
///
/// # Errors
/// A map cannot be read.
pub fn read_sites(session: &Session) -> Result<SitesReport, CollectionError> {
    let collection = status::collection(session)?;
    let now_ms = moment_of(session, collection.state)?;
    let window = status::first_start_ms(session)?.unwrap_or(now_ms)..now_ms;
    let mut alive: HashMap<SiteIndex, Alive> = HashMap::new();
    let (blocks, table) = match collection.state {
        CollectionState::Replaced => (Vec::new(), session.sites()?),
        _ => all_blocks(session, now_ms)?,
    };
    for raw in blocks {
        let fields = raw.block.unpack();
        let alive = alive.entry(fields.site).or_default();
        alive.add(fields.size, fields.born_ms, &window);
    }
    let mut naming = Naming::new(session, &table);
    let mut by_id: BTreeMap<SiteId, SiteFigures> = BTreeMap::new();
    let mut add = |index: SiteIndex, record: Option<&SiteRecord>, alive: Alive| {
        let id = naming.site(index);
        let stack = &naming.stacks[&id];
        let figures = by_id.entry(id).or_insert_with(|| SiteFigures::empty(id, stack.clone()));
        if let Some(record) = record {
            figures.allocated.add(record.allocated, record.allocated_bytes);
            figures.freed.add(record.freed, record.freed_bytes);
        }
        alive.add_to(figures, now_ms);
    };
    for (index, site) in table.iter() {
        let alive = alive.remove(&index).unwrap_or_default();
        add(index, Some(site.record), alive);
    }
    for (index, alive) in alive {
        add(index, None, alive);
    }
    let mut sites: Vec<SiteFigures> = by_id.into_values().collect();
    sites.sort_by_key(|site| (Reverse(site.live.bytes), site.id));
    let tally = session.tally()?;
    let mut events = tally.nonzero(Weight::Event);
    events.extend(tally.nonzero(Weight::Anomaly));
    Ok(SitesReport {
        target: status::description(session),
        collection,
        at_unix_s: Moment::now().unix_s,
        at_monotonic_ms: now_ms,
        sites,
        gaps: status::gaps(session, now_ms)?,
        events,
        losses: tally.nonzero(Weight::Loss),
        notes: notes(session)?,
    })
}

/// Blocks and the program's regions born up to a moment, and the sites they name.
fn all_blocks(session: &Session, born_until_ms: u64) -> Result<(Vec<RawEntry>, SiteTable), CollectionError> {
    let mut blocks = session.live_blocks(born_until_ms)?;
    let mut regions = session.regions(born_until_ms)?;
    // Sites after blocks: a block's site is published before the block.
    let table = session.sites()?;
    RegionOwners::new(session, &table).retain_programs(&mut regions);
    blocks.append(&mut regions);
    Ok((blocks, table))
}

/// The program's regions, and their bytes.
///
/// # Errors
/// A map cannot be read.
pub fn region_totals(session: &Session) -> Result<LiveTotals, CollectionError> {
    let mut regions = session.regions(u64::MAX)?;
    let table = session.sites()?;
    RegionOwners::new(session, &table).retain_programs(&mut regions);
    Ok(LiveTotals {
        blocks: regions.len() as u64,
        bytes: regions.iter().map(|region| region.block.size()).sum(),
    })
}

/// What of a site is alive, while it is being added up.
#[derive(Default)]
struct Alive {
    amount: Amount,
    births: Vec<Amount>,
    first_ms: u64,
    last_ms: u64,
}

impl Alive {
    fn add(&mut self, size: u64, born_ms: u64, window: &Range<u64>) {
        if self.births.is_empty() {
            self.births = vec![Amount::default(); BIRTH_BINS];
            self.first_ms = born_ms;
        }
        let length = (window.end - window.start).max(1);
        let bin = born_ms.saturating_sub(window.start).saturating_mul(BIRTH_BINS as u64) / length;
        self.births[(bin as usize).min(BIRTH_BINS - 1)].add(1, size);
        self.amount.add(1, size);
        self.first_ms = self.first_ms.min(born_ms);
        self.last_ms = self.last_ms.max(born_ms);
    }

    fn add_to(self, figures: &mut SiteFigures, now_ms: u64) {
        if self.births.is_empty() {
            return;
        }
        figures.live.add(self.amount.blocks, self.amount.bytes);
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

/// The moment as of which ages are told: now, or the target's end, since a dead target's blocks grow no older.
fn moment_of(session: &Session, state: CollectionState) -> Result<u64, CollectionError> {
    let kernel = session.state()?;
    Ok(match state {
        CollectionState::Exited if kernel.thread_exit_at_ns != 0 => kernel.thread_exit_at_ns / 1_000_000,
        _ => monotonic_ns() / 1_000_000,
    })
}

fn notes(session: &Session) -> Result<Vec<String>, CollectionError> {
    let mut notes = Vec::new();
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

/// Names sites as they come up; the frames of each once.
struct Naming<'a> {
    session: &'a Session,
    table: &'a SiteTable,
    live: Option<Pid>,
    /// One a generation of the mappings: an address means what was mapped when its stack was taken.
    symbolizers: BTreeMap<u16, Symbolizer>,
    known: HashMap<SiteIndex, SiteId>,
    stacks: BTreeMap<SiteId, Stack>,
}

impl<'a> Naming<'a> {
    fn new(session: &'a Session, table: &'a SiteTable) -> Self {
        let target = Target {
            id: session.file.target,
        };
        let live = target.is_alive().then_some(target.id.pid);
        Self {
            session,
            table,
            live,
            symbolizers: BTreeMap::new(),
            known: HashMap::new(),
            stacks: BTreeMap::new(),
        }
    }

    fn site(&mut self, index: SiteIndex) -> SiteId {
        if let Some(id) = self.known.get(&index) {
            return *id;
        }
        let (id, stack) = match self.table.get(index) {
            Some(site) => self.name(&site),
            // The block is told without its stack; the counters say how many are so.
            None => (
                SiteId(0),
                Stack {
                    frames: Vec::new(),
                    end: StackEnd::NotRecorded,
                },
            ),
        };
        self.known.insert(index, id);
        self.stacks.insert(id, stack);
        id
    }

    fn name(&mut self, site: &RawSite<'_>) -> (SiteId, Stack) {
        let call = self.session.file.calls.get(usize::from(site.record.call));
        let symbolizer = symbolizer(&mut self.symbolizers, self.session, self.live, site.record.generation);
        let modules = symbolizer.modules();
        let identity = call.map_or(FrameIdentity::Nowhere, call_identity);
        // A return address is told by the call before it, which is in the same module even when the call is its last.
        let id = site_id(identity, site.frames().map(|frame| modules.identity(frame)));
        let mut frames = Vec::new();
        if let Some(call) = call {
            frames.push(Arc::new(Frame {
                address: call.entry,
                function: Some(call.function.clone()),
                offset: 0,
                module: file_name(&call.module),
                build_id: call.build_id.clone(),
                file_offset: Some(call.entry_offset),
                source: None,
                inlined: false,
            }));
        }
        for address in site.frames() {
            frames.extend(symbolizer.name(address, true).iter().cloned());
        }
        (
            id,
            Stack {
                frames,
                end: site.end(),
            },
        )
    }
}

/// The symbolizer of a generation; sites carry the low 16 bits of its number.
fn symbolizer<'a>(
    known: &'a mut BTreeMap<u16, Symbolizer>,
    session: &Session,
    live: Option<Pid>,
    generation: u16,
) -> &'a mut Symbolizer {
    known.entry(generation).or_insert_with(|| {
        let mapped = session
            .file
            .generations
            .iter()
            .rev()
            .find(|mapped| mapped.number as u16 == generation);
        Symbolizer::new(mapped.map(|mapped| mapped.modules.clone()).unwrap_or_default(), live)
    })
}

/// By its place in its file, not by its address: a library can be loaded again elsewhere.
fn call_identity(call: &PlannedCall) -> FrameIdentity<'_> {
    match &call.build_id {
        Some(build_id) => FrameIdentity::Build(build_id, call.entry_offset),
        None => FrameIdentity::Named(last_component(&call.module).as_ref(), call.entry_offset),
    }
}

fn last_component(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn file_name(path: &str) -> String {
    last_component(path).to_owned()
}
