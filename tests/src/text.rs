//! The executable text of a process, byte for byte: what differs from the files it was mapped from.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// Longest that the kernel may take to remove breakpoints of probes that are gone.
const RESTORED: Duration = Duration::from_secs(5);

/// A byte of text that is not what its file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlteredByte {
    /// File of the mapping, as the process sees it.
    pub file: String,
    /// Position in the file.
    pub offset: u64,
    /// Byte in the file.
    pub on_disk: u8,
    /// Byte in the process; a breakpoint is 0xcc.
    pub in_memory: u8,
}

/// An executable, file-backed mapping.
struct Mapping {
    start: u64,
    end: u64,
    offset: u64,
    file: String,
}

/// Every byte of executable file-backed memory of `pid` that differs from the file. Panics when there is none to compare.
pub fn altered(pid: u32) -> Vec<AlteredByte> {
    let maps = std::fs::read(format!("/proc/{pid}/maps")).unwrap_or_else(|error| panic!("maps of {pid}: {error}"));
    let maps = String::from_utf8_lossy(&maps);
    let mappings: Vec<Mapping> = maps.lines().filter_map(executable_mapping).collect();
    assert!(!mappings.is_empty(), "process {pid} maps no executable file:\n{maps}");
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap_or_else(|error| panic!("memory of {pid}: {error}"));
    mappings
        .iter()
        .flat_map(|mapping| altered_in(pid, &memory, mapping))
        .collect()
}

/// Demands that the text of `pid` becomes what it was in `before`: the kernel takes a removed probe's breakpoint out a
/// moment after the last reference to it is gone.
pub fn assert_restored(pid: u32, before: &[AlteredByte], context: &str) {
    let end = Instant::now() + RESTORED;
    loop {
        let now = altered(pid);
        if now == before {
            return;
        }
        assert!(
            Instant::now() < end,
            "{context}: text of {pid} still altered after {RESTORED:?}: {now:#?}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn altered_in(pid: u32, memory: &File, mapping: &Mapping) -> Vec<AlteredByte> {
    let length = usize::try_from(mapping.end - mapping.start).expect("a mapping fits the address space");
    // map_files opens the mapped file itself, also when its path is deleted or in another mount namespace.
    // Its names have no leading zeros, which maps has.
    let path = format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end);
    let file = File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut on_disk = vec![0; length];
    let held = file
        .read_at(&mut on_disk, mapping.offset)
        .unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut in_memory = vec![0; held];
    memory
        .read_exact_at(&mut in_memory, mapping.start)
        .unwrap_or_else(|error| panic!("memory of {pid}: {error}"));
    let pairs = on_disk
        .iter()
        .zip(&in_memory)
        .enumerate()
        .filter(|(_, (disk, memory))| disk != memory);
    pairs
        .map(|(index, (&on_disk, &in_memory))| AlteredByte {
            file: mapping.file.clone(),
            offset: mapping.offset + index as u64,
            on_disk,
            in_memory,
        })
        .collect()
}

fn executable_mapping(line: &str) -> Option<Mapping> {
    let mut words = line.splitn(6, ' ');
    let range = words.next()?;
    let permissions = words.next()?;
    let offset = u64::from_str_radix(words.next()?, 16).ok()?;
    let file = words.nth(2)?.trim_start();
    if !permissions.contains('x') || !file.starts_with('/') {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let hex = |text| u64::from_str_radix(text, 16).ok();
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        offset,
        file: file.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_executable_files_are_compared() {
        let text = "7f12a000-7f12b000 r-xp 00001000 08:01 42                       /tmp/a b (deleted)";
        let mapping = executable_mapping(text).expect("an executable mapping");
        assert_eq!(
            (mapping.start, mapping.end, mapping.offset),
            (0x7f12_a000, 0x7f12_b000, 0x1000)
        );
        assert_eq!(mapping.file, "/tmp/a b (deleted)");
        assert!(executable_mapping("7f12a000-7f12b000 rw-p 00001000 08:01 42 /tmp/a").is_none());
        assert!(executable_mapping("7ffd0000-7ffd2000 r-xp 00000000 00:00 0 [vdso]").is_none());
        assert!(executable_mapping("7ffd0000-7ffd2000 r-xp 00000000 00:00 0").is_none());
    }
}
