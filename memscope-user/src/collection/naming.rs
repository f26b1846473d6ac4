//! From a site's record to its id and its named stack.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use memscope_ebpf::live::SiteIndex;
use memscope_ebpf::site::StackEnd;

use super::progress::Progress;
use super::room;
use crate::database::generations::modules_of_site;
use crate::database::live_set::RawEntry;
use crate::database::session::Session;
use crate::database::sites::{RawSite, SiteTable};
use crate::probe::plan::PlannedCall;
use crate::report::model::{Frame, SiteId, Stack};
use crate::symbol::{FrameIdentity, NameRoom, Symbolizer, site_id};
use crate::target::identity::Pid;
use crate::target::process::Target;

/// Names sites as they come up; the frames of each once.
pub(super) struct Naming<'a> {
    session: &'a Session,
    table: &'a SiteTable,
    live: Option<Pid>,
    /// One a generation of the mappings: an address means what was mapped when its stack was taken.
    symbolizers: BTreeMap<u16, Symbolizer>,
    room: NameRoom,
    known: HashMap<SiteIndex, SiteId>,
    stacks: BTreeMap<SiteId, Stack>,
    progress: Progress,
}

impl<'a> Naming<'a> {
    pub(super) fn new(session: &'a Session, table: &'a SiteTable) -> Self {
        let target = Target {
            id: session.file.target,
        };
        let live = target.is_alive().then(|| target.memory_pid());
        Self {
            session,
            table,
            live,
            symbolizers: BTreeMap::new(),
            room: NameRoom::default(),
            known: HashMap::new(),
            stacks: BTreeMap::new(),
            progress: Progress::new("naming call stacks", table.iter().count()),
        }
    }

    /// The site of each index up to the last that these blocks have; those that none has stay 0.
    pub(super) fn sites_of<'b>(&mut self, blocks: impl Iterator<Item = &'b RawEntry>) -> Vec<SiteId> {
        self.sites_of_indices(&Self::indices_of(blocks))
    }

    /// Which site indices these blocks have.
    pub(super) fn indices_of<'b>(blocks: impl Iterator<Item = &'b RawEntry>) -> Vec<bool> {
        let mut met: Vec<bool> = Vec::new();
        for raw in blocks {
            let index = raw.block.site().0 as usize;
            if index >= met.len() {
                met.resize(index + 1, false);
            }
            met[index] = true;
        }
        met
    }

    /// The site of each of these indices.
    pub(super) fn sites_of_indices(&mut self, met: &[bool]) -> Vec<SiteId> {
        let indices = (0..).map(SiteIndex).zip(met.iter().copied());
        indices
            .map(|(index, met)| if met { self.site(index) } else { SiteId(0) })
            .collect()
    }

    pub(super) fn site(&mut self, index: SiteIndex) -> SiteId {
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
                    by_frame_pointer: false,
                },
            ),
        };
        self.known.insert(index, id);
        self.stacks.insert(id, stack);
        self.progress.step();
        id
    }

    /// The stack of a site that was named.
    pub(super) fn stack(&self, id: SiteId) -> Option<&Stack> {
        self.stacks.get(&id)
    }

    /// What a reader is to know of addresses that have no name.
    pub(super) fn note(&self) -> Option<String> {
        let refused = self.room.refused();
        let names = (refused > 0).then(|| {
            format!(
                "{refused} addresses have no names: those of the others take {} MB, and no more is kept",
                NameRoom::MOST >> 20
            )
        });
        let notes: Vec<String> = names
            .into_iter()
            .chain(room::unnamed_files_note(room::unnamed_files(
                &self.session.file.generations,
            )))
            .collect();
        (!notes.is_empty()).then(|| notes.join("; "))
    }

    /// Every stack named.
    pub(super) fn into_stacks(self) -> BTreeMap<SiteId, Stack> {
        self.stacks
    }

    /// The id alone: nothing is looked up in the target's files.
    pub(super) fn id(&mut self, site: &RawSite<'_>) -> SiteId {
        let call = self.session.file.calls.get(usize::from(site.record.call));
        let symbolizer = symbolizer(
            &mut self.symbolizers,
            self.session,
            self.live,
            &self.room,
            site.record.generation,
        );
        let modules = symbolizer.modules();
        let identity = call.map_or(FrameIdentity::Nowhere, call_identity);
        // A return address is told by the call before it, which is in the same module even when the call is its last.
        site_id(identity, site.frames().map(|frame| modules.identity(frame.address)))
    }

    fn name(&mut self, site: &RawSite<'_>) -> (SiteId, Stack) {
        let id = self.id(site);
        let call = self.session.file.calls.get(usize::from(site.record.call));
        let symbolizer = symbolizer(
            &mut self.symbolizers,
            self.session,
            self.live,
            &self.room,
            site.record.generation,
        );
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
        for frame in site.frames() {
            let named = symbolizer.name(frame.address, frame.is_return_address);
            frames.extend(named.iter().cloned());
        }
        (
            id,
            Stack {
                frames,
                end: site.end(),
                by_frame_pointer: site.by_frame_pointer(),
            },
        )
    }
}

/// The symbolizer of a generation; sites carry the low 16 bits of its number.
fn symbolizer<'a>(
    known: &'a mut BTreeMap<u16, Symbolizer>,
    session: &Session,
    live: Option<Pid>,
    room: &NameRoom,
    generation: u16,
) -> &'a mut Symbolizer {
    known.entry(generation).or_insert_with(|| {
        let mapped = modules_of_site(&session.file.generations, generation);
        Symbolizer::new(mapped.unwrap_or_default(), live).sharing(room)
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
