//! Key `z`: how much of the target's files is in the page cache, and the CPU's caches.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::OsError;
use super::page_cache::resident_bytes;
use super::process_files::ProcessFiles;
use super::quantity::Bytes;
use crate::report::Escaped;

/// What the line at the end says.
pub const MEANS: &str = "page cache is given back when memory is short, so it is no leak; a file far from wholly cached is \
                         read from disk again and again";

/// Files asked about; a target may have very many open.
const MAX_FILES: usize = 4096;
/// Files shown, largest in the cache first.
const SHOWN: usize = 20;

/// The answer.
#[derive(Debug, Serialize)]
pub struct Cache {
    /// Regular files the target has mapped or open, by bytes in the page cache.
    pub files: Vec<CachedFile>,
    /// Bytes of all of them.
    pub total_size: u64,
    /// Of these, bytes in the page cache.
    pub total_cached: u64,
    /// Caches of the first CPU.
    pub cpu: Vec<CpuCache>,
    /// What could not be read, and why.
    pub notes: Vec<String>,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CachedFile {
    /// As the target sees it, lossy.
    pub path: String,
    /// Its length.
    pub size: u64,
    /// Of it in the page cache.
    pub cached: u64,
}

/// A CPU cache (/sys/devices/system/cpu/cpu0/cache).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CpuCache {
    /// 1, 2, 3 …
    pub level: String,
    /// Data, Instruction or Unified.
    pub kind: String,
    /// As the kernel writes it: `32K`.
    pub size: String,
    /// CPUs that share it.
    pub shared_by: String,
}

/// Gathers it.
pub(super) fn gather(files: &ProcessFiles) -> Result<Cache, OsError> {
    let mut found = BTreeMap::new();
    let mut unreadable = 0;
    for (path, opening) in candidates(files)? {
        if found.len() >= MAX_FILES {
            break;
        }
        match measure(&opening) {
            Ok(Some((key, size, cached))) => {
                let path = path.to_string_lossy().into_owned();
                found.entry(key).or_insert(CachedFile { path, size, cached });
            }
            Ok(None) => {}
            Err(_) => unreadable += 1,
        }
    }
    let mut notes = Vec::new();
    if unreadable > 0 {
        notes.push(format!(
            "{unreadable} files could not be asked about: closed meanwhile, or not for this user"
        ));
    }
    if found.len() >= MAX_FILES {
        notes.push(format!("only the first {MAX_FILES} files were asked about"));
    }
    let mut list: Vec<CachedFile> = found.into_values().collect();
    list.sort_by(|a, b| b.cached.cmp(&a.cached).then_with(|| a.path.cmp(&b.path)));
    Ok(Cache {
        total_size: list.iter().map(|file| file.size).sum(),
        total_cached: list.iter().map(|file| file.cached).sum(),
        files: list,
        cpu: cpu_caches(Path::new("/sys/devices/system/cpu/cpu0/cache")),
        notes,
    })
}

/// Name and opening path of every file mapped or open.
fn candidates(files: &ProcessFiles) -> Result<Vec<(PathBuf, PathBuf)>, OsError> {
    let pid = files.memory_pid();
    let mut found: Vec<(PathBuf, PathBuf)> = files
        .mappings()?
        .iter()
        .filter(|mapping| mapping.file().is_some())
        .map(|mapping| (PathBuf::from(&mapping.path), mapping.open_path(pid)))
        .collect();
    // A library has some five mappings, one after the other.
    found.dedup_by(|next, before| next.0 == before.0);
    let folder = PathBuf::from(format!("/proc/{pid}/fd"));
    let listed =
        std::fs::read_dir(&folder).map_err(|source| OsError::access("the descriptors", files.pid(), source))?;
    for entry in listed.flatten() {
        let path = entry.path();
        if let Ok(target) = std::fs::read_link(&path)
            && target.is_absolute()
        {
            found.push((target, path));
        }
    }
    Ok(found)
}

/// Device and inode, length, bytes in the page cache.
type Measured = ((u64, u64), u64, u64);

/// `None` for what is no regular file.
fn measure(opening: &Path) -> io::Result<Option<Measured>> {
    // Looked at first: opening a device may already do something to it.
    if !std::fs::metadata(opening)?.is_file() {
        return Ok(None);
    }
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(opening)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(None);
    }
    let cached = resident_bytes(&file, metadata.len())?;
    // The last page is counted whole.
    let key = (metadata.dev(), metadata.ino());
    Ok(Some((key, metadata.len(), cached.min(metadata.len()))))
}

fn cpu_caches(folder: &Path) -> Vec<CpuCache> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut places: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    places.retain(|place| {
        place
            .file_name()
            .and_then(OsStr::to_str)
            .is_some_and(|name| name.starts_with("index"))
    });
    places.sort();
    let caches = places.iter().filter_map(|place| {
        let text = |name: &str| Some(std::fs::read_to_string(place.join(name)).ok()?.trim().to_owned());
        Some(CpuCache {
            level: text("level")?,
            kind: text("type")?,
            size: text("size")?,
            shared_by: text("shared_cpu_list")?,
        })
    });
    caches.collect()
}

impl Cache {
    /// Shows it.
    pub(super) fn write_rows(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "  page cache     {} of {} in {} files of the target ({} %)",
            Bytes(self.total_cached),
            Bytes(self.total_size),
            self.files.len(),
            percent(self.total_cached, self.total_size)
        )?;
        for file in self.files.iter().take(SHOWN) {
            writeln!(
                out,
                "    {:>10} of {:>10} {:>4} %  {}",
                Bytes(file.cached).to_string(),
                Bytes(file.size).to_string(),
                percent(file.cached, file.size),
                Escaped(&file.path)
            )?;
        }
        if self.files.len() > SHOWN {
            writeln!(out, "    and {} files more", self.files.len() - SHOWN)?;
        }
        for cache in &self.cpu {
            writeln!(
                out,
                "  CPU cache      L{} {} {}, shared by CPUs {}",
                cache.level, cache.kind, cache.size, cache.shared_by
            )?;
        }
        Ok(())
    }
}

fn percent(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 100 / u128::from(whole.max(1))).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_shown_with_their_share_and_the_caches_after_them() {
        let file = |path: &str, size, cached| CachedFile {
            path: path.to_owned(),
            size,
            cached,
        };
        let cache = Cache {
            files: vec![file("/var/lib/data", 3 << 30, 1 << 30), file("/tmp/\x1bx", 0, 0)],
            total_size: 3 << 30,
            total_cached: 1 << 30,
            cpu: vec![CpuCache {
                level: "1".to_owned(),
                kind: "Data".to_owned(),
                size: "32K".to_owned(),
                shared_by: "0-1".to_owned(),
            }],
            notes: Vec::new(),
        };
        let mut text = Vec::new();
        cache.write_rows(&mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "  page cache     1.0 GiB of 3.0 GiB in 2 files of the target (33 %)
       1.0 GiB of    3.0 GiB   33 %  /var/lib/data
           0 B of        0 B    0 %  /tmp/\\x1bx
  CPU cache      L1 Data 32K, shared by CPUs 0-1
"
        );
    }

    #[test]
    fn only_regular_files_are_asked_about() {
        assert!(matches!(measure(Path::new("/dev/null")), Ok(None)));
        assert!(matches!(measure(Path::new("/proc/self/fd")), Ok(None)));
        let own = std::env::current_exe().unwrap();
        let (_, size, cached) = measure(&own).unwrap().unwrap();
        assert!(cached > 0 && cached <= size);
    }
}
