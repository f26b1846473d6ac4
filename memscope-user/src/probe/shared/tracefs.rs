//! Trace events on uprobes, made and removed in the kernel's tracefs (Documentation/trace/uprobetracer.rst).

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, mount};

use crate::symbol::site_id::Fnv1a;
use crate::target::address::FileOffset;

/// TRACEFS_MAGIC, include/uapi/linux/magic.h.
const TRACEFS_MAGIC: u64 = 0x7472_6163;
/// Where it belongs.
const STANDARD: &str = "/sys/kernel/tracing";
/// Where it was before Linux 4.1, and is beside.
const OLD: &str = "/sys/kernel/debug/tracing";

/// The trace events that one folder of shared probes is about.
pub struct TraceEvents {
    tracefs: PathBuf,
    group: String,
}

impl TraceEvents {
    /// Those of the probes pinned below `root`.
    ///
    /// # Errors
    /// There is no tracefs, or no such folder.
    pub fn of(root: &Path) -> io::Result<Self> {
        let is_tracefs =
            |path: &&str| rustix::fs::statfs(*path).is_ok_and(|found| found.f_type as u64 == TRACEFS_MAGIC);
        let [standard, old] = [STANDARD, OLD].map(|path| Some(path).filter(is_tracefs));
        let tracefs = standard.or(old);
        let tracefs = tracefs.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "tracefs is not mounted"))?;
        // One tracefs serves all; of BPF file systems there may be several, each with such a folder.
        let mut hash = Fnv1a::new();
        hash.bytes(&root.metadata()?.dev().to_le_bytes());
        hash.bytes(root.canonicalize()?.as_os_str().as_encoded_bytes());
        Ok(Self {
            tracefs: tracefs.into(),
            group: format!("memscope_{:016x}", hash.0),
        })
    }

    /// The same; mounts tracefs where it belongs if it is nowhere.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub fn mounted(root: &Path) -> io::Result<Self> {
        match Self::of(root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
                mount("tracefs", STANDARD, "tracefs", flags, Some(c"mode=0700"))?;
                Self::of(root)
            }
            outcome => outcome,
        }
    }

    /// Makes an event that is hit at an instruction of a file, or when the function that begins there returns. There must be none of that
    /// name: the kernel would add the place to it.
    ///
    /// # Errors
    /// The kernel refused it.
    pub fn make(&self, name: &str, at_return: bool, module: &Path, offset: FileOffset) -> io::Result<()> {
        let kind = if at_return { 'r' } else { 'p' };
        let module = module.to_str().filter(|path| !path.contains(char::is_whitespace));
        let module =
            module.ok_or_else(|| io::Error::other("the path of its file has letters that tracefs does not take"))?;
        self.command(&format!("{kind}:{}/{name} {module}:{:#x}", self.group, offset.0))
    }

    /// Its number, by which perf events are opened on it.
    ///
    /// # Errors
    /// There is none.
    pub fn number(&self, name: &str) -> io::Result<u64> {
        let path = self.tracefs.join("events").join(&self.group).join(name).join("id");
        fs::read_to_string(path)?.trim().parse().map_err(io::Error::other)
    }

    /// The names of those that are there.
    ///
    /// # Errors
    /// The list cannot be read.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let list = fs::read_to_string(self.list())?;
        Ok(names_in(&list, &self.group))
    }

    /// Removes one; `false`: a perf event is open on it still. One that is not there is removed.
    ///
    /// # Errors
    /// The kernel refused it.
    pub fn remove(&self, name: &str) -> io::Result<bool> {
        match self.command(&format!("-:{}/{name}", self.group)) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Opened to append: what truncates the list removes the events of everybody.
    fn command(&self, text: &str) -> io::Result<()> {
        OpenOptions::new()
            .append(true)
            .open(self.list())?
            .write_all(text.as_bytes())
    }

    fn list(&self) -> PathBuf {
        self.tracefs.join("uprobe_events")
    }
}

/// Lines are `p:group/name path:offset`.
fn names_in(list: &str, group: &str) -> Vec<String> {
    let name = |line: &str| {
        let (_, event) = line.split_ascii_whitespace().next()?.split_once(':')?;
        Some(event.strip_prefix(group)?.strip_prefix('/')?.to_owned())
    };
    list.lines().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_list_only_the_events_of_the_group_are_ours() {
        let list = "p:memscope_1/a_1_2 /usr/lib/x:0x10\nr:memscope_1/b_1 /y:0x1 arg=%ax\np:memscope_12/c /z:0x1\np:uprobes/d /z:0x2\n\nodd\n";
        assert_eq!(names_in(list, "memscope_1"), ["a_1_2", "b_1"]);
    }
}
