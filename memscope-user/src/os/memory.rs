//! Key `m`: the system's memory and the target's, with the change since the last look.

use std::io::{self, Write};

use procfs::{Current as _, Meminfo};
use serde::Serialize;

use super::cgroup::{self, MemoryLimit};
use super::error::{OsError, io_error};
use super::looks::{Look, Looks};
use super::process_files::ProcessFiles;
use super::quantity::{Bytes, Change};

/// What the line at the end says.
pub const MEANS: &str = "anonymous memory that grows from look to look, while file and shared do not, is the target's own \
                         heap or stacks: `p` says which calls took it";

/// The answer. All figures are bytes.
#[derive(Debug, Serialize)]
pub struct Memory {
    /// The host.
    pub system: SystemMemory,
    /// The target.
    pub process: MemoryFigures,
    /// What its memory consists of; `None` when this user may not read it.
    pub rollup: Option<Rollup>,
    /// The limit its control group sets, the tightest; `None` without one.
    pub limit: Option<MemoryLimit>,
    /// Since the last look.
    pub change: Option<MemoryChange>,
    /// What could not be read, and why.
    pub notes: Vec<String>,
}

/// `/proc/meminfo` (proc_meminfo(5)).
#[derive(Debug, Serialize)]
pub struct SystemMemory {
    /// Usable RAM.
    pub total: u64,
    /// What new programs could have without swapping.
    pub available: Option<u64>,
    /// In no use at all.
    pub free: u64,
    /// Page cache.
    pub cached: u64,
    /// Block device buffers.
    pub buffers: u64,
    /// Shared memory and tmpfs.
    pub shared: Option<u64>,
    /// Waiting to be written to disk.
    pub dirty: u64,
    /// Swap there is.
    pub swap_total: u64,
    /// Swap in no use.
    pub swap_free: u64,
    /// Promised to all processes.
    pub committed: u64,
    /// The most that may be promised, when the kernel is told to keep to it.
    pub commit_limit: Option<u64>,
}

/// The target's figures in `/proc/PID/status`, which everybody may read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MemoryFigures {
    /// Address space.
    pub size: u64,
    /// In RAM.
    pub resident: u64,
    /// The most that was ever in RAM.
    pub resident_peak: u64,
    /// Of what is in RAM: heap, stacks, private writable memory.
    pub anonymous: u64,
    /// Of what is in RAM: pages of files.
    pub file: u64,
    /// Of what is in RAM: shared memory.
    pub shared: u64,
    /// Anonymous memory on swap.
    pub swap: u64,
    /// The main thread's stack.
    pub main_stack: u64,
    /// Page tables.
    pub page_tables: u64,
}

/// The sums of `/proc/PID/smaps_rollup`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rollup {
    /// In RAM, shared pages divided by their sharers.
    pub proportional: u64,
    /// Given back to the system if only this process ended.
    pub private: u64,
    /// Of the private, changed: to be swapped or written, never just dropped.
    pub private_dirty: u64,
    /// In huge pages.
    pub huge: u64,
    /// Locked.
    pub locked: u64,
    /// Given up by MADV_FREE: the allocator returned it, the kernel has not taken it yet.
    pub lazily_freed: u64,
}

/// Changes since the last look, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MemoryChange {
    /// Seconds since then.
    pub seconds: f64,
    /// Of [`MemoryFigures::resident`].
    pub resident: i64,
    /// Of [`MemoryFigures::anonymous`].
    pub anonymous: i64,
    /// Of [`MemoryFigures::swap`].
    pub swap: i64,
    /// Of [`MemoryFigures::size`].
    pub size: i64,
}

/// Gathers it.
pub(super) fn gather(files: &ProcessFiles, looks: &mut Looks) -> Result<Memory, OsError> {
    let status = files.status()?;
    let bytes = |kib: Option<u64>| kib.unwrap_or(0).saturating_mul(1024);
    let process = MemoryFigures {
        size: bytes(status.vmsize),
        resident: bytes(status.vmrss),
        resident_peak: bytes(status.vmhwm),
        anonymous: bytes(status.rssanon),
        file: bytes(status.rssfile),
        shared: bytes(status.rssshmem),
        swap: bytes(status.vmswap),
        main_stack: bytes(status.vmstk),
        page_tables: bytes(status.vmpte),
    };
    let mut notes = Vec::new();
    let rollup = match files.rollup() {
        Ok(sums) => sums.memory_map_rollup.0.into_iter().next().map(|sums| {
            let sum = |name: &str| sums.extension.map.get(name).copied().unwrap_or(0);
            Rollup {
                proportional: sum("Pss"),
                private: sum("Private_Clean").saturating_add(sum("Private_Dirty")),
                private_dirty: sum("Private_Dirty"),
                huge: sum("AnonHugePages"),
                locked: sum("Locked"),
                lazily_freed: sum("LazyFree"),
            }
        }),
        Err(error @ OsError::NotPermitted { .. }) => {
            notes.push(error.to_string());
            None
        }
        Err(error) => return Err(error),
    };
    let change = looks
        .memory
        .as_ref()
        .map(|last| change(last.seconds_ago(), &last.seen, &process));
    looks.memory = Some(Look::now(process));
    Ok(Memory {
        system: system(files)?,
        process,
        rollup,
        limit: cgroup::of(files)?.memory_limit(),
        change,
        notes,
    })
}

fn system(files: &ProcessFiles) -> Result<SystemMemory, OsError> {
    let info = Meminfo::current().map_err(|error| OsError::Unreadable {
        what: "/proc/meminfo for the host".to_owned(),
        pid: files.pid(),
        source: io_error(error),
    })?;
    Ok(SystemMemory {
        total: info.mem_total,
        available: info.mem_available,
        free: info.mem_free,
        cached: info.cached,
        buffers: info.buffers,
        shared: info.shmem,
        dirty: info.dirty,
        swap_total: info.swap_total,
        swap_free: info.swap_free,
        committed: info.committed_as,
        commit_limit: info.commit_limit,
    })
}

fn change(seconds: f64, before: &MemoryFigures, now: &MemoryFigures) -> MemoryChange {
    MemoryChange {
        seconds,
        resident: Change::between(before.resident, now.resident),
        anonymous: Change::between(before.anonymous, now.anonymous),
        swap: Change::between(before.swap, now.swap),
        size: Change::between(before.size, now.size),
    }
}

impl Memory {
    /// Shows it.
    pub(super) fn write_rows(&self, out: &mut dyn Write) -> io::Result<()> {
        let system = &self.system;
        writeln!(
            out,
            "  system         {} in all, {} available, {} free",
            Bytes(system.total),
            Bytes(system.available.unwrap_or(system.free)),
            Bytes(system.free)
        )?;
        writeln!(
            out,
            "  caches         page cache {}, buffers {}, shared {}, dirty {}",
            Bytes(system.cached),
            Bytes(system.buffers),
            Bytes(system.shared.unwrap_or(0)),
            Bytes(system.dirty)
        )?;
        writeln!(
            out,
            "  swap           {} of {} used",
            Bytes(system.swap_total.saturating_sub(system.swap_free)),
            Bytes(system.swap_total)
        )?;
        write!(out, "  committed      {}", Bytes(system.committed))?;
        match system.commit_limit {
            Some(limit) => writeln!(out, " (limit {})", Bytes(limit))?,
            None => writeln!(out)?,
        }
        self.write_process(out)
    }

    fn write_process(&self, out: &mut dyn Write) -> io::Result<()> {
        let own = &self.process;
        writeln!(
            out,
            "  process        {} resident (peak {}), {} on swap, {} of address space",
            Bytes(own.resident),
            Bytes(own.resident_peak),
            Bytes(own.swap),
            Bytes(own.size)
        )?;
        writeln!(
            out,
            "    of it        anonymous {}, file {}, shared {}; main stack {}, page tables {}",
            Bytes(own.anonymous),
            Bytes(own.file),
            Bytes(own.shared),
            Bytes(own.main_stack),
            Bytes(own.page_tables)
        )?;
        if let Some(sums) = &self.rollup {
            writeln!(
                out,
                "    its share    {} proportional, {} private ({} dirty), {} huge pages, {} locked, {} lazily freed",
                Bytes(sums.proportional),
                Bytes(sums.private),
                Bytes(sums.private_dirty),
                Bytes(sums.huge),
                Bytes(sums.locked),
                Bytes(sums.lazily_freed)
            )?;
        }
        if let Some(limit) = &self.limit {
            writeln!(
                out,
                "  control group  {} of {} used",
                limit
                    .used
                    .map_or_else(|| "?".to_owned(), |used| Bytes(used).to_string()),
                Bytes(limit.limit)
            )?;
        }
        match &self.change {
            Some(change) => writeln!(
                out,
                "  last look      {:.1} s ago: resident {}, anonymous {}, swap {}, address space {}",
                change.seconds,
                Change(change.resident),
                Change(change.anonymous),
                Change(change.swap),
                Change(change.size)
            ),
            None => writeln!(out, "  last look      this is the first"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_its_place_and_unit() {
        let process = MemoryFigures {
            size: 100 << 20,
            resident: 20 << 20,
            resident_peak: 30 << 20,
            anonymous: 15 << 20,
            file: 4 << 20,
            shared: 1 << 20,
            swap: 0,
            main_stack: 136 << 10,
            page_tables: 64 << 10,
        };
        let earlier = MemoryFigures {
            resident: 21 << 20,
            anonymous: 14 << 20,
            ..process
        };
        let memory = Memory {
            system: SystemMemory {
                total: 24 << 30,
                available: Some(19 << 30),
                free: 18 << 30,
                cached: 3 << 30,
                buffers: 1 << 20,
                shared: Some(5 << 20),
                dirty: 4096,
                swap_total: 2 << 30,
                swap_free: 1 << 30,
                committed: 4 << 30,
                commit_limit: Some(14 << 30),
            },
            process,
            rollup: Some(Rollup {
                proportional: 16 << 20,
                private: 15 << 20,
                private_dirty: 14 << 20,
                huge: 2 << 20,
                locked: 0,
                lazily_freed: 4096,
            }),
            limit: Some(MemoryLimit {
                limit: 64 << 20,
                used: Some(32 << 20),
            }),
            change: Some(change(12.34, &earlier, &process)),
            notes: Vec::new(),
        };
        let mut text = Vec::new();
        memory.write_rows(&mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "  system         24.0 GiB in all, 19.0 GiB available, 18.0 GiB free
  caches         page cache 3.0 GiB, buffers 1.0 MiB, shared 5.0 MiB, dirty 4.0 KiB
  swap           1.0 GiB of 2.0 GiB used
  committed      4.0 GiB (limit 14.0 GiB)
  process        20.0 MiB resident (peak 30.0 MiB), 0 B on swap, 100.0 MiB of address space
    of it        anonymous 15.0 MiB, file 4.0 MiB, shared 1.0 MiB; main stack 136.0 KiB, page tables 64.0 KiB
    its share    16.0 MiB proportional, 15.0 MiB private (14.0 MiB dirty), 2.0 MiB huge pages, 0 B locked, 4.0 KiB lazily freed
  control group  32.0 MiB of 64.0 MiB used
  last look      12.3 s ago: resident -1.0 MiB, anonymous +1.0 MiB, swap +0 B, address space +0 B
"
        );
    }
}
