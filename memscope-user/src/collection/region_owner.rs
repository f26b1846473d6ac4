//! Whose a region is: the program's own, or one of an allocator or of the C library (arenas, thread stacks, files of its own).
//!
//! The kernel side leaves out what is mapped inside a probed allocator call. The rest is told by the stack: a region is the
//! program's unless it was mapped by a library that is the C library or an allocator, or inside a function of an allocator
//! (`free` is no open call, but may map, too).

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::rc::Rc;

use memscope_ebpf::live::SiteIndex;

use crate::allocator::catalogue::AllocatorName;
use crate::database::error::DatabaseError;
use crate::database::generations::modules_of_site;
use crate::database::live_set::{RawEntry, Selection};
use crate::database::session::{LiveTotals, Session};
use crate::database::sites::SiteTable;
use crate::probe::plan::PlannedCall;
use crate::symbol::{SavedModule, Symbolizer};
use crate::target::address::RuntimeAddress;
use crate::target::process::Target;

/// Functions of a statically linked C library that map thread stacks.
const STACK_MAKERS: [&str; 5] = [
    "pthread_create",
    "__pthread_create",
    "__pthread_create_2_1",
    "allocate_stack",
    "allocate_thread_stack",
];

/// Tells the program's regions from the others.
pub struct RegionOwners<'a> {
    session: &'a Session,
    table: &'a SiteTable,
    /// Paths of modules whose mappings are not the program's.
    libraries: BTreeSet<&'a str>,
    known: HashMap<SiteIndex, bool>,
    /// What was mapped, by the generation that sites carry.
    mapped: HashMap<u16, Option<Rc<[SavedModule]>>>,
}

impl<'a> RegionOwners<'a> {
    /// For the regions of a session.
    #[must_use]
    pub fn new(session: &'a Session, table: &'a SiteTable) -> Self {
        let by_hand = AllocatorName::Custom.to_string();
        let libraries = session
            .file
            .calls
            .iter()
            .filter(|call| call.allocator != by_hand && call.module != session.file.exe)
            .map(|call| call.module.as_str())
            .collect();
        Self {
            session,
            table,
            libraries,
            known: HashMap::new(),
            mapped: HashMap::new(),
        }
    }

    /// Leaves only the program's own.
    pub fn retain_programs(&mut self, regions: &mut Vec<RawEntry>) {
        regions.retain(|region| self.is_programs(region.block.site()));
    }

    /// Whether reports tell of a site: not of one where others than the program map regions.
    pub fn is_told(&mut self, site: SiteIndex) -> bool {
        let calls = &self.session.file.calls;
        let maps_regions = self.table.get(site).is_some_and(|known| {
            let call = calls.get(usize::from(known.record.call));
            call.and_then(PlannedCall::spec)
                .is_some_and(|spec| spec.kind.is_of_regions())
        });
        !maps_regions || self.is_programs(site)
    }

    fn is_programs(&mut self, site: SiteIndex) -> bool {
        if let Some(known) = self.known.get(&site) {
            return *known;
        }
        let answer = self.look(site);
        self.known.insert(site, answer);
        answer
    }

    /// A region whose stack is not known is told: better one too many than one kept back.
    fn look(&mut self, site: SiteIndex) -> bool {
        let Some(site) = self.table.get(site) else { return true };
        let frames: Vec<RuntimeAddress> = site.frames().map(|frame| frame.address).collect();
        let Some(caller) = frames.first() else { return true };
        let generations = &self.session.file.generations;
        let carried = site.record.generation;
        let mapped = self.mapped.entry(carried);
        let mapped = mapped.or_insert_with(|| modules_of_site(generations, carried).map(Rc::from));
        let Some(modules) = mapped.clone() else { return true };
        let module = holding(&modules, *caller);
        if module.is_some_and(|module| self.is_library(&module.path)) {
            return false;
        }
        if frames.iter().any(|frame| self.is_in_allocator(*frame)) {
            return false;
        }
        let call = self.session.file.calls.get(usize::from(site.record.call));
        let linked_in = call.is_some_and(|call| call.module == self.session.file.exe);
        !(linked_in && self.makes_stacks(&modules, *caller))
    }

    fn is_library(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // Before glibc 2.34 threads had a library of their own.
        name.starts_with("libpthread") || self.libraries.contains(&*path.to_string_lossy())
    }

    fn is_in_allocator(&self, frame: RuntimeAddress) -> bool {
        let holds = |call: &PlannedCall| frame > call.entry && frame.0 - call.entry.0 <= call.length;
        let of_blocks = |call: &PlannedCall| call.spec().is_some_and(|spec| spec.kind.is_of_blocks());
        self.session
            .file
            .calls
            .iter()
            .any(|call| of_blocks(call) && holds(call))
    }

    fn makes_stacks(&self, modules: &[SavedModule], caller: RuntimeAddress) -> bool {
        let target = Target {
            id: self.session.file.target,
        };
        let live = target.is_alive().then(|| target.memory_pid());
        let mut symbolizer = Symbolizer::new(modules.to_vec(), live);
        let frames = symbolizer.name(caller, true);
        frames
            .iter()
            .filter_map(|frame| frame.function.as_deref())
            .any(|name| STACK_MAKERS.contains(&name))
    }
}

/// The selected blocks and regions of the program's, in parts, and the sites they name.
///
/// # Errors
/// A map cannot be read.
pub fn all_blocks(session: &Session, selection: Selection) -> Result<(Vec<Vec<RawEntry>>, SiteTable), DatabaseError> {
    let mut parts = session.live_blocks(selection)?;
    let (regions, table) = programs_regions(session, selection.born_until_ms)?;
    if !regions.is_empty() {
        parts.push(regions);
    }
    Ok((parts, table))
}

/// The program's regions together.
///
/// # Errors
/// A map cannot be read.
pub fn totals(session: &Session) -> Result<LiveTotals, DatabaseError> {
    let (regions, _) = programs_regions(session, u64::MAX)?;
    Ok(LiveTotals {
        blocks: regions.len() as u64,
        bytes: regions.iter().map(|region| region.block.size()).sum(),
    })
}

fn programs_regions(session: &Session, born_until_ms: u64) -> Result<(Vec<RawEntry>, SiteTable), DatabaseError> {
    let mut regions = session.regions(born_until_ms)?;
    // Sites after blocks: a block's site is published before the block.
    let table = session.sites()?;
    RegionOwners::new(session, &table).retain_programs(&mut regions);
    Ok((regions, table))
}

fn holding(modules: &[SavedModule], address: RuntimeAddress) -> Option<&SavedModule> {
    // The call before a return address is in the module even when it is its last instruction.
    let call = RuntimeAddress(address.0.saturating_sub(1));
    let holds = |module: &&SavedModule| {
        let mut segments = module.segments.iter();
        segments.any(|segment| segment.start <= call && call < segment.end)
    };
    modules.iter().find(holds)
}
