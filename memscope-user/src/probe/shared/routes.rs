//! Which session's programs a shared probe's hits are for: in the kernel, by process id.

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use memscope_ebpf::limits::{SHARED_SESSIONS, map};

use crate::database::error::DatabaseError;
use crate::database::kernel_map::KernelMap;
use crate::database::paths::SharedPaths;
use crate::target::identity::Pid;

/// The maps of the routes, open.
pub struct Routes {
    slots: KernelMap<u32, u32>,
    unrouted: KernelMap<u32, u64>,
    arrays: Vec<KernelMap<u32, u32>>,
}

impl Routes {
    /// Opens them.
    ///
    /// # Errors
    /// They are not pinned, or of another layout.
    pub fn open(paths: &SharedPaths) -> Result<Self, DatabaseError> {
        let open = |name: &'static str| KernelMap::open(&paths.map(name)).map_err(DatabaseError::map("open", name));
        let arrays: Result<Vec<_>, _> = map::ROUTES.iter().map(|(_, array, _)| open(array)).collect();
        Ok(Self {
            slots: open(map::SLOTS)?,
            unrouted: KernelMap::open(&paths.map(map::UNROUTED)).map_err(DatabaseError::map("open", map::UNROUTED))?,
            arrays: arrays?,
        })
    }

    /// The slot of a process; one that has none is given a free one, empty. Hits are led there once [`Routes::lead`] says so.
    ///
    /// # Errors
    /// All are taken, or a map cannot be read or written.
    pub fn slot_of(&self, process: Pid) -> Result<u32, DatabaseError> {
        if let Some(slot) = self.slots.lookup(process.0).map_err(reading)? {
            return Ok(slot);
        }
        let mut taken = BTreeSet::new();
        self.slots
            .for_each(|_, slot| _ = taken.insert(*slot))
            .map_err(reading)?;
        let free = (0..SHARED_SESSIONS).find(|slot| !taken.contains(slot));
        let full = || DatabaseError::Load(format!("{SHARED_SESSIONS} sessions share probes already"));
        let slot = free.ok_or_else(full)?;
        self.empty(slot)?;
        Ok(slot)
    }

    /// Has the hits of one kind of probe run this program in a slot.
    ///
    /// # Errors
    /// The kernel refused it.
    pub fn put(&self, slot: u32, kind: usize, program: BorrowedFd<'_>) -> Result<(), DatabaseError> {
        let array = self.arrays.get(kind).zip(map::ROUTES.get(kind));
        let Some((array, (_, name, _))) = array else {
            return Err(DatabaseError::Load(format!("there is no {kind}th kind of probe")));
        };
        array
            .update(slot, &(program.as_raw_fd() as u32))
            .map_err(DatabaseError::map("write", name))
    }

    /// Has the hits of a process led to a slot.
    ///
    /// # Errors
    /// The kernel refused it.
    pub fn lead(&self, process: Pid, slot: u32) -> Result<(), DatabaseError> {
        self.slots.update(process.0, &slot).map_err(writing)
    }

    /// Leads the hits of all other processes nowhere, and lets go of their programs.
    ///
    /// # Errors
    /// A map cannot be read or written.
    pub fn keep_only(&self, processes: &BTreeSet<Pid>) -> Result<(), DatabaseError> {
        let mut others = Vec::new();
        self.slots
            .for_each(|process, slot| {
                if !processes.contains(&Pid(process)) {
                    others.push((process, *slot));
                }
            })
            .map_err(reading)?;
        for (process, slot) in others {
            self.slots.remove(process).map_err(writing)?;
            self.empty(slot)?;
        }
        Ok(())
    }

    /// Hits that no session was found for.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn unrouted(&self) -> Result<u64, DatabaseError> {
        let count = self.unrouted.lookup(0);
        Ok(count.map_err(DatabaseError::map("read", map::UNROUTED))?.unwrap_or(0))
    }

    fn empty(&self, slot: u32) -> Result<(), DatabaseError> {
        for (array, (_, name, _)) in self.arrays.iter().zip(map::ROUTES) {
            array.remove(slot).map_err(DatabaseError::map("write", name))?;
        }
        Ok(())
    }
}

fn reading(error: std::io::Error) -> DatabaseError {
    DatabaseError::map("read", map::SLOTS)(error)
}

fn writing(error: std::io::Error) -> DatabaseError {
    DatabaseError::map("write", map::SLOTS)(error)
}
