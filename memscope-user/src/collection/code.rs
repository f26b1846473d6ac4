//! The target's code as a session knows it: what is mapped, what its addresses will be named by, its unwind tables.
//!
//! A new generation is written in an order that a kill at any instant cannot spoil: pages and rows behind those in use,
//! then the session file that says where they are, then the mapping table and the switch. What was written before the
//! file is written over by the next refresh; a file whose last generation was never published is published by it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use memscope_ebpf::limits::{LIVE_CAPACITY, REGION_CAPACITY};

use super::error::CollectionError;
use super::settings::Settings;
use crate::database::load::Capacities;
use crate::database::session::Session;
use crate::database::session_file::{MappedGeneration, Moment};
use crate::symbol::{FileStamp, SavedModule, save_modules};
use crate::target::address::FileOffset;
use crate::target::elf::ImageBytes;
use crate::target::files::open_mapped;
use crate::target::identity::Pid;
use crate::target::mapping::Mapping;
use crate::target::memory::{ProcessMemory, TargetMemory};
use crate::target::process::Target;
use crate::unwind::cache::{DIRECTORY, TableCache};
use crate::unwind::{CodeMapping, CodeSource, Layout, UnwindTable, table_for_elf};

/// The longest image whose unwind table is made: it is held in memory meanwhile.
const LONGEST_IMAGE: u64 = 1 << 30;
/// How the kernel names its page of return-probe trampolines.
const TRAMPOLINES: &str = "[uprobes]";
/// The longest vDSO.
const LONGEST_VDSO: u64 = 1 << 16;
/// Room in the kernel's arrays for what the target maps later: as much again, and this.
const SPARE_PAGES: u32 = 8 << 10;
const SPARE_ROWS: u32 = 64 << 10;

/// What a target has mapped executable.
pub struct Code {
    /// By file, for naming.
    pub modules: Vec<SavedModule>,
    mappings: Vec<CodeMapping>,
    tables: BTreeMap<String, Arc<UnwindTable>>,
}

impl Code {
    /// Looks at a target's code. `known` says which images need no table, since they have one.
    ///
    /// # Errors
    /// The target has ended.
    pub fn of(target: &Target, known: impl Fn(&str) -> bool) -> Result<Self, CollectionError> {
        let mappings = target.mappings()?;
        let pid = target.memory_pid();
        // The kernel maps its page of trampolines at the first return probe; it is no code of the target's, and no reason
        // for a new generation.
        let own: Vec<Mapping> = mappings
            .iter()
            .filter(|mapping| mapping.path != TRAMPOLINES)
            .cloned()
            .collect();
        let modules = save_modules(pid, &own);
        // Without the cache a table takes some milliseconds more; it is no reason to fail.
        let cache = TableCache::open(&cache_folder()).ok();
        let mut code = Self {
            modules,
            mappings: Vec::new(),
            tables: BTreeMap::new(),
        };
        for mapping in mappings
            .iter()
            .filter(|mapping| mapping.executable && is_users(mapping))
        {
            let source = code.source(mapping);
            if let CodeSource::Image(key) = &source
                && !known(key)
                && !code.tables.contains_key(key)
                && let Some(table) = table(pid, mapping, cache.as_ref())
            {
                code.tables.insert(key.clone(), Arc::new(table));
            }
            let (start, end, offset) = (mapping.start, mapping.end, mapping.offset);
            code.mappings.push(CodeMapping {
                start,
                end,
                offset,
                source,
            });
        }
        Ok(code)
    }

    fn source(&self, mapping: &Mapping) -> CodeSource {
        if mapping.path == TRAMPOLINES {
            return CodeSource::Trampoline;
        }
        let saved = self
            .modules
            .iter()
            .find(|module| module.segments.iter().any(|segment| segment.start == mapping.start));
        let Some(module) = saved else { return CodeSource::Bare };
        match (&module.build_id, &module.file) {
            (Some(build_id), _) => CodeSource::Image(build_id.as_hex().to_owned()),
            (None, Some(stamp)) => CodeSource::Image(stamp_key(stamp)),
            _ => CodeSource::Bare,
        }
    }

    /// Sizes of the kernel's arrays for this code, with room for more.
    #[must_use]
    pub fn capacities(&self, settings: &Settings) -> Capacities {
        let sum = |count: &dyn Fn(&UnwindTable) -> usize| -> u32 {
            let sum: usize = self.tables.values().map(|table| count(table)).sum();
            u32::try_from(sum).unwrap_or(u32::MAX / 4)
        };
        let (pages, rows) = (sum(&|table| table.pages.len()), sum(&|table| table.rows.len()));
        Capacities {
            live: settings.live_capacity.unwrap_or(LIVE_CAPACITY),
            regions: if settings.regions { REGION_CAPACITY } else { 0 },
            pages: pages.saturating_mul(2).saturating_add(SPARE_PAGES),
            rows: rows.saturating_mul(2).saturating_add(SPARE_ROWS),
        }
    }
}

/// An empty layout of these sizes.
#[must_use]
pub fn empty_layout(capacities: Capacities) -> Layout {
    Layout::new(capacities.pages, capacities.rows)
}

/// Brings a session up to date with what its target has mapped. `true`: something had changed. The session must be locked.
///
/// # Errors
/// The target has ended, or a map or the session file cannot be written.
pub fn refresh(session: &mut Session, target: &Target) -> Result<bool, CollectionError> {
    let layout = &session.file.layout;
    let code = Code::of(target, |key| layout.placed().any(|(placed, _)| placed == key))?;
    update(session, code)
}

/// As [`refresh`], with code that has been looked at already.
///
/// # Errors
/// A map or the session file cannot be written.
pub fn update(session: &mut Session, mut code: Code) -> Result<bool, CollectionError> {
    let published = session.generation()?;
    session.file.mappings_seen = Moment::now();
    if let Some(last) = session.file.generations.last()
        && last.number == published
        && last.modules == code.modules
    {
        session.file.write(&session.paths.file())?;
        return Ok(false);
    }
    let refresh = session
        .file
        .layout
        .refresh(&code.mappings, |key| code.tables.remove(key));
    session.write_tables(&refresh)?;
    let number = published + 1;
    session
        .file
        .generations
        .retain(|generation| generation.number != number);
    session.file.generations.push(MappedGeneration {
        number,
        modules: code.modules,
    });
    session.file.write(&session.paths.file())?;
    session.publish(&refresh)?;
    Ok(true)
}

/// Not the kernel's own `[vsyscall]` page: no return address lies in it, and the walk's search wants addresses below 2⁶³.
fn is_users(mapping: &Mapping) -> bool {
    i64::try_from(mapping.end.0).is_ok()
}

/// A file without build id is known by what makes it this very file.
fn stamp_key(stamp: &FileStamp) -> String {
    let FileStamp {
        device,
        inode,
        size,
        modified_s,
        modified_ns,
    } = stamp;
    format!("{device:x}:{inode:x}:{size:x}:{modified_s:x}.{modified_ns:x}")
}

/// The unwind table of an image; `None` when it cannot be read or has no call frame information: stacks then say so.
fn table(pid: Pid, mapping: &Mapping, cache: Option<&TableCache>) -> Option<UnwindTable> {
    let bytes = if mapping.file().is_some() {
        let file = open_mapped(pid, mapping).ok()?;
        let length = Some(file.size()).filter(|length| *length <= LONGEST_IMAGE)?;
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        file.read_into(FileOffset(0), &mut bytes).ok()?;
        bytes
    } else {
        let length = (mapping.end.0 - mapping.start.0).min(LONGEST_VDSO);
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        ProcessMemory::open(pid)
            .ok()?
            .read_into(mapping.start, &mut bytes)
            .ok()?;
        bytes
    };
    match cache {
        Some(cache) => cache.table(&bytes).ok().map(|(table, _)| table),
        None => table_for_elf(&bytes).ok(),
    }
}

/// Where tables are kept for the next attach: `/var/cache/memscope`, unless `MEMSCOPE_CACHE_DIR` names another place.
fn cache_folder() -> PathBuf {
    std::env::var_os("MEMSCOPE_CACHE_DIR").map_or_else(|| PathBuf::from(DIRECTORY), PathBuf::from)
}
