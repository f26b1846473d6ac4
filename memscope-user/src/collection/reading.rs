//! From a session to the report's model: blocks selected and ordered, each site named once.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use memscope_ebpf::counter::Weight;
use memscope_ebpf::live::SiteIndex;
use memscope_ebpf::site::StackEnd;

use super::error::CollectionError;
use super::status;
use crate::age::Age;
use crate::database::kernel_map::monotonic_ns;
use crate::database::live_set::RawEntry;
use crate::database::session::Session;
use crate::database::sites::{RawSite, SiteTable};
use crate::report::model::{CollectionState, DatabaseReport, Entry, Frame, SiteId, Stack};
use crate::symbol::{FrameIdentity, Symbolizer, site_id};
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
    // Ages are told as of the moment of reading, or of the target's end: a dead target's blocks grow no older.
    let kernel = session.state()?;
    let now_ms = match collection.state {
        CollectionState::Exited if kernel.thread_exit_at_ns != 0 => kernel.thread_exit_at_ns / 1_000_000,
        _ => monotonic_ns() / 1_000_000,
    };
    let mut blocks = match collection.state {
        CollectionState::Replaced => Vec::new(),
        _ => match now_ms.checked_sub(choice.age.seconds().saturating_mul(1000)) {
            Some(born_until) => session.live_blocks(born_until)?,
            None => Vec::new(),
        },
    };
    let total = blocks.len() as u64;
    sort(&mut blocks, choice.order);
    blocks.truncate(choice.limit.unwrap_or(usize::MAX));
    blocks.shrink_to_fit();

    let table = session.sites()?;
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
    symbolizer: Symbolizer,
    known: HashMap<SiteIndex, SiteId>,
    stacks: BTreeMap<SiteId, Stack>,
}

impl<'a> Naming<'a> {
    fn new(session: &'a Session, table: &'a SiteTable) -> Self {
        let target = Target {
            id: session.file.target,
        };
        let live = target.is_alive().then_some(target.id.pid);
        let symbolizer = Symbolizer::new(session.file.modules.clone(), live);
        Self {
            session,
            table,
            symbolizer,
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
        let modules = self.symbolizer.modules();
        let identity = call.map_or(FrameIdentity::Nowhere, |call| modules.identity(call.entry));
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
            frames.extend(self.symbolizer.name(address, true).iter().cloned());
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

fn file_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}
