//! The target's code as a session knows it: what is mapped, what its addresses will be named by, its unwind tables.
//!
//! A new generation is written in an order that a kill at any instant cannot spoil: pages and rows behind those in use,
//! then the session file that says where they are, then the mapping table and the switch. What was written before the
//! file is written over by the next refresh; a generation of the file that was never published is forgotten by it.
//!
//! What the images of a target can take of memory is bounded for all together, not only for each: their tables are made
//! smallest image first, until the room of the kernel's arrays is spent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memscope_ebpf::limits::{LIVE_CAPACITY, REGION_CAPACITY};
use memscope_ebpf::site::SiteRecord;

use super::error::CollectionError;
use super::replaced::{Look, key_of};
use super::settings::Settings;
use crate::database::generations::{self, MOST_BYTES, MappedGeneration, next_number};
use crate::database::load::Capacities;
use crate::database::session::Session;
use crate::database::session_file::{MOST_NAMES, Moment};
use crate::symbol::{SavedModule, save_modules};
use crate::target::address::FileOffset;
use crate::target::elf::ImageBytes;
use crate::target::files::open_mapped;
use crate::target::identity::Pid;
use crate::target::mapping::{FileKey, Mapping};
use crate::target::memory::{ProcessMemory, TargetMemory};
use crate::target::process::Target;
use crate::unwind::cache::{DIRECTORY, TableCache};
use crate::unwind::session::MOST_IMAGES;
use crate::unwind::{CodeMapping, CodeSource, ImageKey, Layout, TableRoom, UnwindTable, table_for_elf};

/// The longest image whose unwind table is made: it is held in memory meanwhile.
const LONGEST_IMAGE: u64 = 1 << 30;
/// How the kernel names its page of return-probe trampolines.
const TRAMPOLINES: &str = "[uprobes]";
/// The longest vDSO.
const LONGEST_VDSO: u64 = 1 << 16;
/// Room in the kernel's arrays for what the target maps later: as much again, and this.
const SPARE_PAGES: u32 = 8 << 10;
const SPARE_ROWS: u32 = 64 << 10;
/// The most of both that a session has: 1 GiB of code, and 40 MB of kernel memory. The same is held while tables are made.
const MOST_PAGES: u32 = 1 << 20;
const MOST_ROWS: u32 = 1 << 22;

/// The room of a session that is still to be made.
const ALL: TableRoom = TableRoom {
    images: MOST_IMAGES,
    pages: MOST_PAGES,
    rows: MOST_ROWS,
};

/// What a target has mapped executable.
pub struct Code {
    /// By file, for naming.
    pub modules: Vec<SavedModule>,
    mappings: Vec<CodeMapping>,
    tables: BTreeMap<String, Arc<UnwindTable>>,
    /// Names of the images whose tables found no room.
    without_room: BTreeSet<String>,
}

impl Code {
    /// Looks at the code of a target that has no session yet.
    ///
    /// # Errors
    /// The target has ended.
    pub fn of(target: &Target) -> Result<Self, CollectionError> {
        Self::but_known(target, ALL, |_| false)
    }

    /// The same. `known` says which images need no table, since they have one; the tables of the others have this room.
    fn but_known(target: &Target, mut room: TableRoom, known: impl Fn(&str) -> bool) -> Result<Self, CollectionError> {
        let mappings = target.mappings()?;
        let pid = target.memory_pid();
        // The kernel maps its page of trampolines at the first return probe; it is no code of the target's, and no reason
        // for a new generation.
        let own: Vec<Mapping> = mappings
            .iter()
            .filter(|mapping| mapping.path != TRAMPOLINES)
            .cloned()
            .collect();
        let mut modules = save_modules(pid, &own);
        // Code that is in no file names nothing, and a JIT maps more of it all the time.
        modules.retain(SavedModule::is_stored);
        // Without the cache a table takes some milliseconds more; it is no reason to fail.
        let cache = TableCache::open(&cache_folder()).ok();
        let mut code = Self {
            modules,
            mappings: Vec::new(),
            tables: BTreeMap::new(),
            without_room: BTreeSet::new(),
        };
        let mut images: BTreeMap<String, &Mapping> = BTreeMap::new();
        for mapping in mappings
            .iter()
            .filter(|mapping| mapping.executable && is_users(mapping))
        {
            let source = code.source(mapping);
            if let CodeSource::Image(key) = &source
                && !known(key)
            {
                images.entry(key.clone()).or_insert(mapping);
            }
            let (start, end, offset) = (mapping.start, mapping.end, mapping.offset);
            code.mappings.push(CodeMapping {
                start,
                end,
                offset,
                source,
            });
        }
        let mut images: Vec<(String, &Mapping)> = images.into_iter().collect();
        images.sort_by_key(|(_, mapping)| mapping.end.0 - mapping.start.0);
        for (key, mapping) in images {
            if room.images == 0 {
                // Not even looked at: at the next look it would be again.
                code.without_room.insert(mapping.module_name());
                continue;
            }
            let Some(table) = table(pid, mapping, cache.as_ref()) else {
                continue;
            };
            if room.take(&table) {
                code.tables.insert(key, Arc::new(table));
            } else {
                code.without_room.insert(mapping.module_name());
            }
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
        key_of(module).map_or(CodeSource::Bare, CodeSource::Image)
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
            pages: pages.saturating_mul(2).saturating_add(SPARE_PAGES).min(MOST_PAGES),
            rows: rows.saturating_mul(2).saturating_add(SPARE_ROWS).min(MOST_ROWS),
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
    // Before the mappings: what was counted by then belongs to what is found in them.
    let sites = session.site_records()?;
    let layout = &session.file.layout;
    let code = Code::but_known(target, layout.room(), |key| layout.knows(key))?;
    update(session, code, &sites)
}

/// As [`refresh`], with code that has been looked at already, and the sites as they were before that.
///
/// # Errors
/// A map or the session file cannot be written.
pub fn update(session: &mut Session, mut code: Code, sites: &[SiteRecord]) -> Result<bool, CollectionError> {
    let published = session.generation()?;
    let file = &mut session.file;
    file.mappings_seen = Moment::now();
    // What a killed refresh wrote down and did not publish.
    generations::retain(&mut file.generations, |generation| generation.number <= published);
    if let Some(last) = file.generations.last_mut() {
        last.until = last.until.min(published);
    }
    let probed = file.calls.iter().filter_map(|call| call.file);
    let needed = needed(&file.exe, probed, &code.modules);
    let refresh = file
        .layout
        .refresh(&code.mappings, &needed, |key| code.tables.remove(key));
    file.left_out.mappings = refresh.left_out.all() as u64;
    file.left_out.mappings_with_table = refresh.left_out.with_table as u64;
    for name in code.without_room {
        if !file.left_out.images.contains(&name) && file.left_out.images.len() < MOST_NAMES {
            file.left_out.images.push(name);
        }
    }
    let is_needed = |module: &SavedModule| key_of(module).is_some_and(|key| needed.contains(&key));
    let (kept, left_out) = generations::with_room(&file.generations, &code.modules, is_needed, MOST_BYTES);
    let look = Look {
        modules: &code.modules,
        kept: &kept,
        left_out,
        mappings: &code.mappings,
        sites,
    };
    let same_files = look.doubt(&mut file.generations, published);
    if let Some(last) = file.generations.last_mut().filter(|_| same_files) {
        last.left_out = last.left_out.max(left_out);
    }
    if same_files && session.has_published(&refresh)? {
        session.file.write(&session.paths.file())?;
        return Ok(false);
    }
    session.write_tables(&refresh)?;
    let carried: BTreeSet<u16> = look.in_use().map(|(_, site)| site.generation).collect();
    let number = next_number(published, |number| carried.contains(&number));
    let file = &mut session.file;
    // A walk that began under the last generation but one may still end; one that began before is dropped.
    generations::retain(&mut file.generations, |generation| {
        generation.until.saturating_add(1) >= published || carried.iter().any(|carried| generation.holds(*carried))
    });
    match file.generations.last_mut() {
        Some(last) if same_files && last.until + 1 == number => last.until = number,
        _ => {
            look.leave(&mut file.generations);
            let next = MappedGeneration::new(number, kept);
            generations::follow(&mut file.generations, MappedGeneration { left_out, ..next });
        }
    }
    session.file.write(&session.paths.file())?;
    session.publish(&refresh, number)?;
    Ok(true)
}

/// Images that nearly every stack leads through: the program, and those that hold probed functions, libc as a rule, however
/// small and wherever they are mapped.
fn needed(exe: &str, probed: impl Iterator<Item = FileKey>, modules: &[SavedModule]) -> BTreeSet<ImageKey> {
    let probed: BTreeSet<FileKey> = probed.collect();
    let is_needed = |module: &&SavedModule| {
        module.mapped.is_some_and(|mapped| probed.contains(&mapped)) || module.path == Path::new(exe)
    };
    modules.iter().filter(is_needed).filter_map(key_of).collect()
}

/// Not the kernel's own `[vsyscall]` page: no return address lies in it, and the walk's search wants addresses below 2⁶³.
fn is_users(mapping: &Mapping) -> bool {
    i64::try_from(mapping.end.0).is_ok()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::address::BuildId;

    #[test]
    fn the_program_and_what_holds_probed_functions_are_needed_by_stacks() {
        let file = |inode| FileKey { device: (8, 1), inode };
        let module = |id: u8, path: &str| SavedModule {
            path: path.into(),
            build_id: BuildId::from_bytes(&[id]),
            file: None,
            mapped: Some(file(id.into())),
            segments: Vec::new(),
        };
        let modules = [
            module(1, "/bin/gateway"),
            module(2, "/lib/libc.so.6"),
            module(3, "/lib/plugin.so"),
        ];
        // Its file is known by device and inode, whatever it is called.
        let needed = needed("/bin/gateway", [file(2), file(9)].into_iter(), &modules);
        assert_eq!(needed, BTreeSet::from(["01".to_owned(), "02".to_owned()]));
    }
}
