//! The reference's table, read from outside: each distinct stack and how often. Layout as in oracle/stacks.h.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: u64 = 0x3153_4b43_4154_5321;
const HEADER: u64 = 32;
const SLOT: usize = 32;

/// A stack: return addresses, innermost first, from the caller of the allocator on.
pub type Frames = Vec<u64>;

/// How often each stack was seen.
pub type Counted = BTreeMap<Frames, u64>;

/// Where a process under the recorder counts its stacks. Its files are removed on drop.
#[derive(Debug)]
pub struct StackFile {
    stem: PathBuf,
}

impl StackFile {
    /// A name nobody else uses, in shared memory.
    pub fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            stem: PathBuf::from(format!("/dev/shm/memscope-stacks-{}-{number}", std::process::id())),
        }
    }

    /// The value of `MEMSCOPE_STACKS_FILE`.
    pub fn variable(&self) -> &Path {
        &self.stem
    }

    /// Every stack of process `pid` so far; the process must not be inside its allocator.
    pub fn read(&self, pid: u32) -> Counted {
        let path = self.stem.with_extension(pid.to_string());
        let file = File::open(&path).unwrap_or_else(|error| panic!("the stacks' table {}: {error}", path.display()));
        let header = words(&file, 0, 4);
        assert_eq!(header[0], MAGIC, "not a table of stacks");
        assert_eq!(header[3], 0, "the table of stacks was too small");
        let slots = words(&file, HEADER, header[1] as usize * SLOT / 8);
        let frames = words(&file, HEADER + header[1] * SLOT as u64, header[2] as usize);
        let used = slots.chunks_exact(SLOT / 8).filter(|slot| slot[0] != 0);
        used.map(|slot| {
            let from = slot[2] as usize;
            (frames[from..from + slot[3] as usize].to_vec(), slot[1])
        })
        .collect()
    }
}

impl Default for StackFile {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for StackFile {
    fn drop(&mut self) {
        let name = self.stem.file_name().expect("the stem has a name").to_string_lossy();
        let prefix = format!("{name}.");
        let folder = self.stem.parent().expect("the stem has a folder");
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                // A file that is gone already needs no removing.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// What was counted after `before`.
pub fn since(before: &Counted, now: Counted) -> Counted {
    now.into_iter()
        .map(|(frames, count)| {
            let earlier = before.get(&frames).copied().unwrap_or(0);
            (frames, count - earlier)
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}

fn words(file: &File, at: u64, count: usize) -> Vec<u64> {
    let mut bytes = vec![0; count * 8];
    file.read_exact_at(&mut bytes, at)
        .expect("the table has the length its header says");
    let (chunks, _) = bytes.as_chunks::<8>();
    chunks.iter().map(|chunk| u64::from_ne_bytes(*chunk)).collect()
}
