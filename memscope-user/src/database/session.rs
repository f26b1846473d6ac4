//! One session: opened, read, collection switched on and off in its CONTROL record.

use std::io;

use memscope_ebpf::counter::Counter;
use memscope_ebpf::inflight::InFlight;
use memscope_ebpf::limits::map;
use memscope_ebpf::live::{EntryNumber, LiveBlock};
use memscope_ebpf::region::{Region, RegionWork};
use memscope_ebpf::site::SiteRecord;
use memscope_ebpf::state::{Control, State, sample_bytes, samples_by_budget};
use memscope_ebpf::unwind::mapping::{Generation, MappingEntry, MappingKind, MappingTable};
use memscope_ebpf::unwind::row::{Page, Row};

use super::clock::monotonic_ns;
use super::error::DatabaseError;
use super::kernel_map::KernelMap;
use super::live_set::{self, LiveMap, RawEntry, Selection};
use super::paths::{Roots, SessionPaths};
use super::regions;
use super::session_file::SessionFile;
use super::sites::{self, SiteTable};
use super::tally::Tally;
use crate::target::identity::TargetId;
use crate::unwind::Refresh;

/// An open session. Reading takes no lock: the maps are read as they are, the file is replaced whole.
#[derive(Debug)]
pub struct Session {
    /// Its folders.
    pub paths: SessionPaths,
    /// Its file, as it was when the session was opened.
    pub file: SessionFile,
    control: KernelMap<u32, Control>,
    state: KernelMap<u32, State>,
    live: KernelMap<u64, LiveBlock>,
    inflight: KernelMap<u32, InFlight>,
    regions: KernelMap<u64, Region>,
    region_work: KernelMap<u32, RegionWork>,
    records: KernelMap<u32, SiteRecord>,
    frames: KernelMap<u32, u64>,
    counters: KernelMap<u32, u64>,
    tables: UnwindMaps,
}

/// The maps of the unwinder.
#[derive(Debug)]
struct UnwindMaps {
    mappings: KernelMap<u32, MappingTable>,
    generation: KernelMap<u32, Generation>,
    pages: KernelMap<u32, Page>,
    rows: KernelMap<u32, Row>,
}

/// How often LIVE is looked at when blocks were out of it for a moment. Each look finds one that is out for a hundredth of
/// the time with 99 % at least, and beside each look the blocks in hand are read twice.
const READ_ATTEMPTS: usize = 4;

impl Session {
    /// Opens a session.
    ///
    /// # Errors
    /// There is none, or it is unfinished.
    pub fn open(roots: &Roots, id: TargetId) -> Result<Self, DatabaseError> {
        let paths = roots.session(id);
        if !paths.exist() {
            return Err(DatabaseError::Missing(id));
        }
        if !paths.file().exists() {
            return Err(DatabaseError::Unfinished {
                id,
                what: "no session.json".into(),
            });
        }
        let file = SessionFile::read(&paths.file(), id)?;
        Ok(Self {
            control: open_map(&paths, id, map::CONTROL)?,
            state: open_map(&paths, id, map::STATE)?,
            live: open_map(&paths, id, map::LIVE)?,
            inflight: open_map(&paths, id, map::INFLIGHT)?,
            regions: open_map(&paths, id, map::REGIONS)?,
            region_work: open_map(&paths, id, map::REGION_WORK)?,
            records: open_map(&paths, id, map::SITE_RECORDS)?,
            frames: open_map(&paths, id, map::FRAMES)?,
            counters: KernelMap::open_of_many(&paths.map(map::COUNTERS), Counter::ALL.len())
                .map_err(|error| cannot_open(id, map::COUNTERS, error))?,
            tables: UnwindMaps {
                mappings: open_map(&paths, id, map::MAPPINGS)?,
                generation: open_map(&paths, id, map::GENERATION)?,
                pages: open_map(&paths, id, map::PAGES)?,
                rows: open_map(&paths, id, map::ROWS)?,
            },
            paths,
            file,
        })
    }

    /// What the programs are told.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn control(&self) -> Result<Control, DatabaseError> {
        let read = self
            .control
            .lookup(0)
            .map_err(DatabaseError::map("read", map::CONTROL))?;
        Ok(read.unwrap_or_default())
    }

    /// Tells the programs something else.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn set_control(&self, control: Control) -> Result<(), DatabaseError> {
        self.control
            .update(0, &control)
            .map_err(DatabaseError::map("write", map::CONTROL))
    }

    /// How blocks are sampled; `None` when every one is recorded.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn sampling(&self) -> Result<Option<SampleDistance>, DatabaseError> {
        let (control, at_ns) = (self.control()?, self.state()?.over_budget_at_ns);
        let bytes = sample_bytes(control.sample_bytes, control.over_budget, at_ns);
        let by_budget = samples_by_budget(control.sample_bytes, control.over_budget, at_ns);
        Ok((bytes != 0).then_some(SampleDistance {
            bytes,
            since_ns: by_budget.then_some(at_ns),
        }))
    }

    /// Forgets how the last run ended: by its budget, though sampling that it brought on stays, or with the thread that the
    /// probes were bound to. Only while no probe of the session is attached: the element is the programs' own.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn forget_last_run(&self) -> Result<(), DatabaseError> {
        let state = self.state()?;
        let sampled = self.sampling()?.is_some_and(|sampling| sampling.since_ns.is_some());
        let forgotten = State {
            bound_exit_at_ns: 0,
            over_budget_at_ns: if sampled { state.over_budget_at_ns } else { 0 },
            window_spent_ns: 0,
            ..state
        };
        if forgotten.bound_exit_at_ns == state.bound_exit_at_ns
            && forgotten.over_budget_at_ns == state.over_budget_at_ns
        {
            return Ok(());
        }
        self.state
            .update(0, &forgotten)
            .map_err(DatabaseError::map("write", map::STATE))
    }

    /// What has happened to the target.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn state(&self) -> Result<State, DatabaseError> {
        let read = self.state.lookup(0).map_err(DatabaseError::map("read", map::STATE))?;
        Ok(read.unwrap_or_default())
    }

    /// The counters.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn tally(&self) -> Result<Tally, DatabaseError> {
        let tally = Tally::read(&self.counters).map_err(DatabaseError::map("read", map::COUNTERS))?;
        Ok(tally.with(Counter::Unrouted, self.unrouted()?))
    }

    /// Hits of shared probes that no session was found for since this one shares any: they may have been its own. The programs
    /// count them for all sessions at once.
    ///
    /// # Errors
    /// The map cannot be read.
    fn unrouted(&self) -> Result<u64, DatabaseError> {
        match self.file.unrouted_before {
            Some(before) => Ok(self.all_unrouted()?.saturating_sub(before)),
            None => Ok(0),
        }
    }

    /// Such hits of all sessions, ever.
    fn all_unrouted(&self) -> Result<u64, DatabaseError> {
        let path = self.paths.shared().map(map::UNROUTED);
        if path.symlink_metadata().is_err() {
            return Ok(0);
        }
        let count = KernelMap::<u32, u64>::open(&path).and_then(|map| map.lookup(0));
        Ok(count.map_err(DatabaseError::map("read", map::UNROUTED))?.unwrap_or(0))
    }

    /// From here on such hits are to be told; the file is still to be written.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn begin_unrouted(&mut self) -> Result<(), DatabaseError> {
        if self.file.unrouted_before.is_none() {
            self.file.unrouted_before = Some(self.all_unrouted()?);
        }
        Ok(())
    }

    /// Counts those hits as the session's, whose probes are about to go: what is counted from here on is nothing to it. Killed between count and
    /// file, it counts them twice.
    ///
    /// # Errors
    /// A map, or the file, cannot be read or written.
    pub fn keep_unrouted(&mut self) -> Result<(), DatabaseError> {
        let unrouted = self.unrouted()?;
        Tally::count(&self.counters, Counter::Unrouted, unrouted)
            .map_err(DatabaseError::map("write", map::COUNTERS))?;
        if self.file.unrouted_before.take().is_some() {
            self.file.write(&self.paths.file())?;
        }
        Ok(())
    }

    /// The selected live blocks, in no order, in as many parts as threads read them.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn live_blocks(&self, selection: Selection) -> Result<Vec<Vec<RawEntry>>, DatabaseError> {
        let live = LiveMap {
            map: &self.live,
            capacity: self.file.capacities.live,
        };
        let read =
            |selection| live_set::read(&live, &self.inflight, selection).map_err(DatabaseError::map("read", map::LIVE));
        let began_ms = monotonic_ns() / 1_000_000;
        let mut before = self.tally()?;
        let mut parts = read(selection)?;
        for _ in 1..READ_ATTEMPTS {
            let now = self.tally()?;
            let moved = |counter| now.get(counter) != before.get(counter);
            if moved(Counter::Restored) {
                // Put back as it was: nothing tells it from the others.
                live_set::add_missed(&mut parts, read(selection)?);
            } else if moved(Counter::Reallocated) && selection.born_until_ms >= began_ms {
                // Those that were resized in place meanwhile are born since.
                live_set::add_missed(&mut parts, read(selection.and_after(began_ms))?);
            } else {
                break;
            }
            before = now;
        }
        Ok(parts)
    }

    /// The number up to which blocks are numbered now.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn last_number(&self) -> Result<EntryNumber, DatabaseError> {
        Ok(EntryNumber(self.state()?.last_number))
    }

    /// The regions born up to `born_until_ms`, in no order, an allocator's own among them.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn regions(&self, born_until_ms: u64) -> Result<Vec<RawEntry>, DatabaseError> {
        if self.file.capacities.regions == 0 {
            return Ok(Vec::new());
        }
        regions::read(&self.regions, &self.region_work, born_until_ms).map_err(DatabaseError::map("read", map::REGIONS))
    }

    /// How many live blocks there are.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn live_totals(&self) -> Result<LiveTotals, DatabaseError> {
        let mut totals = LiveTotals::default();
        self.live
            .for_each(|_, block| {
                totals.blocks += 1;
                totals.bytes += block.size();
            })
            .map_err(DatabaseError::map("read", map::LIVE))?;
        Ok(totals)
    }

    /// The sites. Read them after the blocks: a block's site is published before the block.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn sites(&self) -> Result<SiteTable, DatabaseError> {
        SiteTable::read(&self.records, &self.frames, self.state()?, &self.file.generations)
            .map_err(DatabaseError::map("read", map::SITE_RECORDS))
    }

    /// What every site has allocated and freed, by index, without its frames.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn site_records(&self) -> Result<Vec<SiteRecord>, DatabaseError> {
        sites::read_records(&self.records, self.state()?).map_err(DatabaseError::map("read", map::SITE_RECORDS))
    }

    /// The generation of the mappings that walks use; 0: none was written yet.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn generation(&self) -> Result<u64, DatabaseError> {
        let read = self
            .tables
            .generation
            .lookup(0)
            .map_err(DatabaseError::map("read", map::GENERATION))?;
        Ok(read.map_or(0, |generation| generation.published))
    }

    /// Writes a refresh's pages and rows behind those in use. No walk sees them before [`Session::publish`].
    ///
    /// # Errors
    /// A map cannot be written.
    pub fn write_tables(&self, refresh: &Refresh) -> Result<(), DatabaseError> {
        let UnwindMaps { pages, rows, .. } = &self.tables;
        rows.write_array(refresh.first_row, &refresh.rows)
            .map_err(DatabaseError::map("write", map::ROWS))?;
        pages
            .write_array(refresh.first_page, &refresh.pages)
            .map_err(DatabaseError::map("write", map::PAGES))
    }

    /// Whether the walks have this mapping table, the kernel's own page of trampolines aside: it is mapped at the first
    /// return probe, and no code of the target's.
    ///
    /// # Errors
    /// The maps cannot be read.
    pub fn has_published(&self, refresh: &Refresh) -> Result<bool, DatabaseError> {
        let buffer = Generation::buffer(self.generation()?);
        let read = self.tables.mappings.lookup(buffer);
        let present = read.map_err(DatabaseError::map("read", map::MAPPINGS))?;
        let code = |table: &MappingTable| -> Vec<MappingEntry> {
            let entries = table.entries.iter();
            let code =
                entries.filter(|entry| entry.kind == MappingKind::Code as u32 && **entry != MappingEntry::UNUSED);
            code.copied().collect()
        };
        Ok(present.is_some_and(|present| code(&present) == code(&refresh.mappings)))
    }

    /// Gives the walks a new generation of mappings, of this number: the mapping table into the buffer that no walk uses,
    /// then the switch. The session must be locked.
    ///
    /// # Errors
    /// A map cannot be written; walks then go on with the old generation.
    pub fn publish(&self, refresh: &Refresh, new: u64) -> Result<(), DatabaseError> {
        let UnwindMaps {
            mappings, generation, ..
        } = &self.tables;
        let old = self.generation()?;
        let switch = |published, writing| {
            let value = Generation { published, writing };
            generation
                .update(0, &value)
                .map_err(DatabaseError::map("write", map::GENERATION))
        };
        switch(old, new)?;
        mappings
            .update(Generation::buffer(new), &refresh.mappings)
            .map_err(DatabaseError::map("write", map::MAPPINGS))?;
        switch(new, new)
    }

    /// Forgets the open calls: none survives a stop, since its return will not be seen. A block that a realloc holds in its
    /// hands goes back to the live set: nothing says that it was freed, and reports tell that frees went unseen. One for which
    /// there is no room is counted. Only while no probe of the session is attached.
    ///
    /// # Errors
    /// A map cannot be changed.
    pub fn forget_open_calls(&self) -> Result<(), DatabaseError> {
        let in_hand = live_set::blocks_in_hand(&self.inflight).map_err(DatabaseError::map("read", map::INFLIGHT))?;
        let mut lost = 0;
        for held in in_hand {
            match self.live.insert_new(held.address.0, &held.block) {
                Ok(_) => {}
                // Another thread's block has taken its place meanwhile: what the programs count as well.
                Err(error) if matches!(error.raw_os_error(), Some(libc::E2BIG | libc::ENOMEM)) => lost += 1,
                Err(error) => return Err(DatabaseError::map("write", map::LIVE)(error)),
            }
        }
        Tally::count(&self.counters, Counter::RestoreFailed, lost)
            .map_err(DatabaseError::map("write", map::COUNTERS))?;
        self.inflight
            .clear()
            .map_err(DatabaseError::map("clear", map::INFLIGHT))
    }
}

/// How blocks are sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleDistance {
    /// Mean distance of two samples, bytes allocated.
    pub bytes: u64,
    /// CLOCK_MONOTONIC nanoseconds of the moment at which the budget brought it on; `None`: it was asked for.
    pub since_ns: Option<u64>,
}

/// Live blocks and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveTotals {
    /// Blocks.
    pub blocks: u64,
    /// Bytes asked for.
    pub bytes: u64,
}

fn open_map<K, V>(paths: &SessionPaths, id: TargetId, name: &'static str) -> Result<KernelMap<K, V>, DatabaseError>
where
    K: super::kernel_map::Plain,
    V: super::kernel_map::Plain,
{
    KernelMap::open(&paths.map(name)).map_err(|error| cannot_open(id, name, error))
}

fn cannot_open(id: TargetId, name: &'static str, error: io::Error) -> DatabaseError {
    match error.kind() {
        io::ErrorKind::NotFound => DatabaseError::Unfinished {
            id,
            what: format!("no map {name}"),
        },
        _ => DatabaseError::map("open", name)(error),
    }
}
