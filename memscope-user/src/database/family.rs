//! A followed family in the kernel: its living members and the ring that wakes its follower, pinned in a folder of its own.
//!
//! It is apart from its first target's session, because an exec of that target makes its session anew. What it notes goes on
//! without a follower; the next one finds it.

use std::fmt;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use aya::maps::{Map, MapData, RingBuf};
use aya::programs::links::FdLink;
use memscope_ebpf::family::{EventKind, FamilyEvent, Member, TICK_NS, UNNOTED, UNTOLD_ENDS, born_tick};
use memscope_ebpf::limits::map;

use super::bpffs;
use super::error::DatabaseError;
use super::folder::{self, FolderLock};
use super::kernel_map::KernelMap;
use super::load::{self, with_causes};
use super::paths::{FAMILY_PREFIX, Roots};
use super::store;
use crate::host::kernel_layout;
use crate::target::identity::{Pid, StartTime, TargetId};
use crate::target::process::Target;

/// The folder of a family's attached programs, in that of its maps.
const LINKS: &str = "links";

/// The family of one target, held by its one follower.
pub struct Family {
    /// Its first target.
    pub root: TargetId,
    folder: PathBuf,
    members: KernelMap<u32, Member>,
    tally: KernelMap<u32, u64>,
    events: RingBuf<MapData>,
    _lock: FolderLock,
}

/// A process of the family that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Who.
    pub id: TargetId,
    /// What was noted of it.
    pub member: Member,
}

/// What the follower could not be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Untold {
    /// Children that were not noted.
    pub children: u64,
    /// Ends.
    pub ends: u64,
}

impl Family {
    /// Takes up the family of a target, or begins it: from here on its children are noted.
    ///
    /// # Errors
    /// Another command follows it; this kernel cannot; something cannot be made.
    pub fn follow(roots: &Roots, root: TargetId) -> Result<Self, DatabaseError> {
        bpffs::ensure_mounted(&roots.bpf)?;
        store::make_root(&roots.bpf)?;
        let folder = roots.family(root);
        let lock = loop {
            folder::make_private(&folder)?;
            match FolderLock::try_acquire(&folder) {
                Ok(Some(lock)) if lock.still_at(&folder) => break lock,
                // Removed by another command meanwhile: make it anew.
                Ok(Some(_)) => {}
                Ok(None) => return Err(DatabaseError::Followed(root)),
                Err(_) if folder.symlink_metadata().is_err() => {}
                Err(error) => return Err(error),
            }
        };
        let begun = begin(&folder);
        if begun.is_err() {
            // The first error is the one to tell.
            let _ = remove_folder(&folder);
        }
        begun?;
        let family = Self {
            root,
            members: open(&folder, map::FAMILY)?,
            tally: open(&folder, map::FAMILY_TALLY)?,
            events: ring(&folder)?,
            folder,
            _lock: lock,
        };
        family.enter(root)?;
        Ok(family)
    }

    /// Notes a process that was there already. `false`: it is noted, or has ended.
    ///
    /// # Errors
    /// The map is full.
    pub fn enter(&self, id: TargetId) -> Result<bool, DatabaseError> {
        let target = Target { id };
        let mut comm = [0; 16];
        let name = target.comm().unwrap_or_default();
        for (byte, letter) in comm.iter_mut().take(15).zip(name.bytes()) {
            *byte = letter;
        }
        let member = Member {
            born_ns: id.start_time.0.saturating_mul(TICK_NS),
            comm,
            ..Member::default()
        };
        let write = |error: std::io::Error| match error.raw_os_error() {
            Some(libc::E2BIG) => DatabaseError::FamilyFull(self.root),
            _ => DatabaseError::map("write", map::FAMILY)(error),
        };
        let entered = self.members.insert_new(id.pid.0, &member).map_err(write)?;
        // The kernel removes a member at its end; one that ended before it was entered is nobody's to remove but ours.
        if entered && !target.is_alive() {
            self.members.remove(id.pid.0).map_err(write)?;
            return Ok(false);
        }
        Ok(entered)
    }

    /// Removes members that ended unseen: while the programs that watch for it were not attached.
    ///
    /// # Errors
    /// The map cannot be read or written.
    pub fn forget_the_dead(&self) -> Result<(), DatabaseError> {
        for (id, _) in self.members()? {
            if !(Target { id }).is_alive() {
                self.members
                    .remove(id.pid.0)
                    .map_err(DatabaseError::map("write", map::FAMILY))?;
            }
        }
        Ok(())
    }

    /// The living members, in the order of their births.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn members(&self) -> Result<Vec<(TargetId, Member)>, DatabaseError> {
        let mut members = Vec::new();
        self.members
            .for_each(|pid, member| members.push((identity(pid, member), *member)))
            .map_err(DatabaseError::map("read", map::FAMILY))?;
        members.sort_unstable_by_key(|(id, member)| (member.born_ns, *id));
        Ok(members)
    }

    /// Empties the ring; gives the ends among what was in it.
    pub fn ends(&mut self) -> Vec<Ended> {
        let mut ends = Vec::new();
        while let Some(record) = self.events.next() {
            if let Some(event) = parse(&record)
                && event.kind == EventKind::Ended as u32
            {
                let id = identity(event.pid, &event.member);
                ends.push(Ended {
                    id,
                    member: event.member,
                });
            }
        }
        ends
    }

    /// Readable when something has happened.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring holds its descriptor open for as long as it is borrowed here.
        unsafe { BorrowedFd::borrow_raw(self.events.as_raw_fd()) }
    }

    /// Counts of what went untold since the family was begun.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn untold(&self) -> Result<Untold, DatabaseError> {
        let read = |element| {
            let count = self.tally.lookup(element);
            count.map_err(DatabaseError::map("read", map::FAMILY_TALLY))
        };
        Ok(Untold {
            children: read(UNNOTED)?.unwrap_or(0),
            ends: read(UNTOLD_ENDS)?.unwrap_or(0),
        })
    }

    /// Whether it is still pinned; `detach` of its first target removes it.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self._lock.still_at(&self.folder)
    }
}

/// Loads what of the family is not there yet.
fn begin(folder: &Path) -> Result<(), DatabaseError> {
    let links = folder.join(LINKS);
    let is_there = |(program, _): &(&str, &str)| links.join(program).symlink_metadata().is_ok();
    if load::FAMILY_TRACEPOINTS.iter().all(is_there) {
        return Ok(());
    }
    let layout = kernel_layout::task_layout().map_err(|error| DatabaseError::Load(error.to_string()))?;
    let mut object = load::family(folder, layout)?;
    folder::make_private(&links)?;
    for (program, tracepoint) in load::FAMILY_TRACEPOINTS {
        let pin = links.join(program);
        if pin.symlink_metadata().is_err() {
            attach(&mut object, program, tracepoint, &pin)
                .map_err(|error| DatabaseError::Load(format!("{tracepoint}: {}", with_causes(&*error))))?;
        }
    }
    Ok(())
}

fn attach(
    object: &mut aya::Ebpf,
    program: &str,
    tracepoint: &str,
    pin: &Path,
) -> Result<(), Box<dyn std::error::Error>> {
    let program = load::raw_tracepoint(object, program)?;
    let id = program.attach(tracepoint)?;
    let link: FdLink = program.take_link(id)?.into();
    link.pin(pin)?;
    Ok(())
}

fn open<K, V>(folder: &Path, name: &'static str) -> Result<KernelMap<K, V>, DatabaseError>
where
    K: super::kernel_map::Plain,
    V: super::kernel_map::Plain,
{
    KernelMap::open(&folder.join(name)).map_err(DatabaseError::map("open", name))
}

fn ring(folder: &Path) -> Result<RingBuf<MapData>, DatabaseError> {
    let data = MapData::from_pin(folder.join(map::FAMILY_EVENTS));
    data.and_then(|data| RingBuf::try_from(Map::RingBuf(data)))
        .map_err(|error| DatabaseError::Load(with_causes(&error)))
}

/// A record as the programs write it.
fn parse(record: &[u8]) -> Option<FamilyEvent> {
    let word = |at: usize| Some(u32::from_le_bytes(record.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_le_bytes(record.get(at..at + 8)?.try_into().ok()?));
    Some(FamilyEvent {
        kind: word(0)?,
        pid: word(4)?,
        member: Member {
            born_ns: long(8)?,
            exec_at_ns: long(16)?,
            parent: word(24)?,
            shares_memory: word(28)?,
            comm: record.get(32..48)?.try_into().ok()?,
        },
    })
}

fn identity(pid: u32, member: &Member) -> TargetId {
    TargetId {
        pid: Pid(pid),
        start_time: StartTime(born_tick(member.born_ns)),
    }
}

/// A member's command name; what another process chose, so not to be printed as it is.
pub struct Name<'a>(pub &'a Member);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.0.comm.iter().position(|byte| *byte == 0).unwrap_or(16);
        let text = String::from_utf8_lossy(&self.0.comm[..length]);
        write!(f, "{}", crate::report::Escaped(&text))
    }
}

/// Ends the following of a target's children; `false`: nobody followed them.
///
/// # Errors
/// Something cannot be removed.
pub fn remove(roots: &Roots, root: TargetId) -> Result<bool, DatabaseError> {
    let folder = roots.family(root);
    let is_there = folder.symlink_metadata().is_ok();
    remove_folder(&folder)?;
    Ok(is_there)
}

/// Links first: whoever takes up what a kill leaves of this must not find programs that write to maps no longer pinned.
fn remove_folder(folder: &Path) -> Result<(), DatabaseError> {
    folder::remove(&folder.join(LINKS))?;
    folder::remove(folder)
}

/// First targets of the families that are noted on this host.
///
/// # Errors
/// The folder cannot be read; one that is not there holds none.
pub fn list(roots: &Roots) -> Result<Vec<TargetId>, DatabaseError> {
    let entries = match std::fs::read_dir(&roots.bpf) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(DatabaseError::file("list", &roots.bpf)(error)),
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    Ok(names
        .filter_map(|name| TargetId::from_folder_name(name.to_str()?.strip_prefix(FAMILY_PREFIX)?))
        .collect())
}

/// Removes the families that nobody follows and that have no living member, or were left half made.
///
/// # Errors
/// Something cannot be removed.
pub fn collect_garbage(roots: &Roots) -> Result<(), DatabaseError> {
    for root in list(roots)? {
        let folder = roots.family(root);
        let Some(_lock) = FolderLock::try_acquire(&folder)? else {
            continue;
        };
        let mut living = false;
        if let Ok(members) = open::<u32, Member>(&folder, map::FAMILY) {
            // One whose end the kernel's programs did not see, because it was noted by a command that was killed then, is
            // still there.
            let lives = |pid, member: &Member| {
                (Target {
                    id: identity(pid, member),
                })
                .is_alive()
            };
            members
                .for_each(|pid, member| living = living || lives(pid, member))
                .map_err(DatabaseError::map("read", map::FAMILY))?;
        }
        if !living {
            remove_folder(&folder)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_is_laid_out_and_a_short_one_is_none() {
        let member = Member {
            born_ns: 123_456_789_012,
            exec_at_ns: 7,
            parent: 42,
            shares_memory: 1,
            comm: *b"worker\0\0\0\0\0\0\0\0\0\0",
        };
        let mut record = Vec::new();
        record.extend(3u32.to_le_bytes());
        record.extend(77u32.to_le_bytes());
        record.extend(member.born_ns.to_le_bytes());
        record.extend(member.exec_at_ns.to_le_bytes());
        record.extend(member.parent.to_le_bytes());
        record.extend(member.shares_memory.to_le_bytes());
        record.extend(member.comm);
        let event = parse(&record).unwrap();
        assert_eq!((event.kind, event.pid, event.member), (3, 77, member));
        assert_eq!(identity(77, &member).to_string(), "77-12345");
        assert_eq!(Name(&member).to_string(), "worker");
        assert_eq!(parse(&record[..47]), None);
    }

    #[test]
    fn a_familys_folder_is_no_sessions() {
        let id = TargetId::from_folder_name("12-34").unwrap();
        let roots = Roots {
            bpf: "/x".into(),
            run: "/y".into(),
        };
        let name = roots.family(id).file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(TargetId::from_folder_name(&name), None);
        assert_eq!(
            TargetId::from_folder_name(name.strip_prefix(FAMILY_PREFIX).unwrap()),
            Some(id)
        );
    }
}
