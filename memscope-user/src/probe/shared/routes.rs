//! Which session's programs a shared probe's hits are for: in the kernel, by process id.

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use memscope_ebpf::limits::{NOWHERE, SHARED_SESSIONS, map};

use crate::database::error::DatabaseError;
use crate::database::kernel_map::KernelMap;
use crate::database::paths::SharedPaths;
use crate::target::identity::Pid;

/// The maps of the routes, open.
pub struct Routes {
    slots: KernelMap<u32, u32>,
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
            arrays: arrays?,
        })
    }

    /// The slot of a process; one that has none is given a free one, empty. Hits are led there once [`Routes::lead`] says so.
    ///
    /// # Errors
    /// All are taken, or a map cannot be read or written.
    pub fn slot_of(&self, process: Pid) -> Result<u32, DatabaseError> {
        let given = self.slots.lookup(process.0).map_err(reading)?;
        if let Some(slot) = given.filter(|slot| *slot != NOWHERE) {
            return Ok(slot);
        }
        let mut taken = BTreeSet::new();
        self.slots
            .for_each(|_, slot| _ = taken.insert(*slot))
            .map_err(reading)?;
        let full = || DatabaseError::Load(format!("{SHARED_SESSIONS} sessions share probes already"));
        let slot = free_slot(process, &taken).ok_or_else(full)?;
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

    /// Leads the hits of all other processes nowhere, and lets go of their programs. Of one that lives that is remembered: its breakpoints may
    /// not be gone yet, and hits of theirs are no loss.
    ///
    /// # Errors
    /// A map cannot be read or written.
    pub fn keep_only(&self, processes: &BTreeSet<Pid>, has_ended: impl Fn(Pid) -> bool) -> Result<(), DatabaseError> {
        let mut others = Vec::new();
        self.slots
            .for_each(|process, slot| {
                if !processes.contains(&Pid(process)) {
                    others.push((process, *slot));
                }
            })
            .map_err(reading)?;
        for (process, slot) in others {
            if has_ended(Pid(process)) {
                self.slots.remove(process).map_err(writing)?;
            } else {
                self.slots.update(process, &NOWHERE).map_err(writing)?;
            }
            if slot != NOWHERE {
                self.empty(slot)?;
            }
        }
        Ok(())
    }

    fn empty(&self, slot: u32) -> Result<(), DatabaseError> {
        for (array, (_, name, _)) in self.arrays.iter().zip(map::ROUTES) {
            array.remove(slot).map_err(DatabaseError::map("write", name))?;
        }
        Ok(())
    }
}

/// Another one for each process, as far as there are enough: a hit that was looked up before its session went must not meet the next
/// one's programs there.
fn free_slot(process: Pid, taken: &BTreeSet<u32>) -> Option<u32> {
    let first = process.0 % SHARED_SESSIONS;
    (first..SHARED_SESSIONS)
        .chain(0..first)
        .find(|slot| !taken.contains(slot))
}

fn reading(error: std::io::Error) -> DatabaseError {
    DatabaseError::map("read", map::SLOTS)(error)
}

fn writing(error: std::io::Error) -> DatabaseError {
    DatabaseError::map("write", map::SLOTS)(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_free_and_another_for_the_next_process() {
        let taken = BTreeSet::from([7, 8, SHARED_SESSIONS - 1, NOWHERE]);
        assert_eq!(free_slot(Pid(7), &taken), Some(9));
        assert_eq!(free_slot(Pid(SHARED_SESSIONS - 1), &taken), Some(0));
        assert_ne!(free_slot(Pid(100), &taken), free_slot(Pid(101), &taken));
        let all: BTreeSet<u32> = (0..SHARED_SESSIONS).collect();
        assert_eq!(free_slot(Pid(1), &all), None);
    }
}
