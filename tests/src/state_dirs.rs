//! Folders of a test's own for memscope's state, so that tests neither see nor disturb other sessions of this host.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::deadline::COMMAND;
use crate::process::mount_bpffs;

const BPF_ROOT: &str = "/sys/fs/bpf";
const PREFIX: &str = "memscope-test-";

/// `MEMSCOPE_RUN_DIR` and `MEMSCOPE_BPF_DIR` of one test. Removed, with whatever is pinned there, on drop.
#[derive(Debug)]
pub struct StateDirs {
    run: PathBuf,
    bpf: PathBuf,
}

impl StateDirs {
    /// New folders, named for this process; memscope makes what it needs in them. Mounts bpffs if nobody has.
    pub fn new() -> Self {
        static ONCE: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        ONCE.call_once(|| {
            mount_bpffs();
            remove_leftovers(Path::new(BPF_ROOT));
            remove_leftovers(&std::env::temp_dir());
        });
        let name = format!(
            "{PREFIX}{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        Self {
            run: std::env::temp_dir().join(&name),
            bpf: Path::new(BPF_ROOT).join(&name),
        }
    }

    /// Where sessions are described.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// Where maps and links are pinned.
    pub fn bpf(&self) -> &Path {
        &self.bpf
    }

    /// Everything pinned below, folders not counted.
    pub fn pinned(&self) -> Vec<PathBuf> {
        files(&self.bpf)
    }

    /// Every trace event that belongs to the shared probes pinned below, as tracefs lists them.
    pub fn trace_events(&self) -> Vec<String> {
        let device = Path::new(BPF_ROOT).metadata().map_or(0, |root| root.dev());
        let bytes = [&device.to_le_bytes()[..], self.bpf.as_os_str().as_encoded_bytes()].concat();
        let group = format!(":memscope_{:016x}/", fnv1a(&bytes));
        // Where nobody has mounted tracefs, nobody has made an event.
        let list = std::fs::read_to_string("/sys/kernel/tracing/uprobe_events").unwrap_or_default();
        list.lines()
            .filter(|line| line.contains(&group))
            .map(str::to_owned)
            .collect()
    }

    /// Every file of the session folders.
    pub fn session_files(&self) -> Vec<PathBuf> {
        files(&self.run)
    }
}

impl Default for StateDirs {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for StateDirs {
    fn drop(&mut self) {
        // Removing what was never made is no failure, and a panic in drop would hide the test's own.
        let _ = std::fs::remove_dir_all(&self.bpf);
        let _ = std::fs::remove_dir_all(&self.run);
        remove_trace_events(&self.trace_events());
    }
}

/// What a test that failed left in tracefs, as soon as the kernel has let go of it.
fn remove_trace_events(events: &[String]) {
    let end = Instant::now() + COMMAND;
    for event in events {
        let name = event.split([':', ' ']).nth(1).unwrap_or_default();
        let remove = || {
            let mut list = OpenOptions::new()
                .append(true)
                .open("/sys/kernel/tracing/uprobe_events")?;
            list.write_all(format!("-:{name}").as_bytes())
        };
        while remove().is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// RFC 9923, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            _ => found.push(entry.path()),
        }
    }
    found.sort();
    found
}

/// Removes folders of test processes that were killed and so could not clean up.
fn remove_leftovers(root: &Path) {
    let Ok(entries) = std::fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('-'))
            .map(|(pid, _)| pid.to_owned());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_every_depth_and_a_missing_folder_holds_none() {
        let folder = std::env::temp_dir().join(format!("memscope-files-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("a/b")).unwrap();
        std::fs::write(folder.join("a/b/x"), "").unwrap();
        std::fs::write(folder.join("y"), "").unwrap();
        assert_eq!(files(&folder), [folder.join("a/b/x"), folder.join("y")]);
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(files(&folder).is_empty());
    }
}
