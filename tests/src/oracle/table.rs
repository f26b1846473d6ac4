//! The recorder's table, read from outside: how many calls, and which blocks live. Layout as in oracle/oracle.c.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::deadline::{EXIT, until};
use crate::process;

const MAGIC: u64 = 0x3145_4c43_4152_4f4d;
const HEADER: usize = 64;
const SLOT: usize = 24;

/// Where a process under the recorder writes. Its file is removed on drop.
#[derive(Debug)]
pub struct TableFile {
    stem: PathBuf,
}

/// The counters of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Slots of the table.
    pub slots: u64,
    /// Calls so far.
    pub events: u64,
    /// Threads inside the recorder's functions.
    pub inside: u64,
    /// Blocks that found no slot.
    pub overflow: u64,
    /// Blocks given out though they were live.
    pub twice: u64,
}

/// A live block as the recorder saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Bytes asked for.
    pub size: u64,
    /// Number of the call that made it.
    pub sequence: u64,
}

/// The whole truth at one instant.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Counters.
    pub header: Header,
    /// Live blocks by address.
    pub live: BTreeMap<u64, Recorded>,
}

/// A process that stands still outside its allocator. It goes on when this is dropped.
#[derive(Debug)]
pub struct Standstill {
    pid: u32,
}

impl TableFile {
    /// A name nobody else uses, in shared memory.
    pub fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            stem: PathBuf::from(format!("/dev/shm/memscope-oracle-{}-{number}", std::process::id())),
        }
    }

    /// The value of `MEMSCOPE_ORACLE_FILE`.
    pub fn variable(&self) -> &Path {
        &self.stem
    }

    /// The counters of process `pid`.
    pub fn header(&self, pid: u32) -> Header {
        header(&self.open(pid))
    }

    /// Every live block of process `pid`, which must stand still.
    pub fn snapshot(&self, pid: u32) -> Snapshot {
        let file = self.open(pid);
        let header = header(&file);
        assert_eq!(header.overflow, 0, "the recorder's table was too small");
        assert_eq!(
            header.twice, 0,
            "some call of this program's allocator bypasses the recorder"
        );
        let mut live = BTreeMap::new();
        let mut chunk = vec![0; SLOT * 65_536];
        let mut at = HEADER as u64;
        let end = HEADER as u64 + header.slots * SLOT as u64;
        while at < end {
            let length = chunk.len().min(usize::try_from(end - at).expect("a table fits memory"));
            file.read_exact_at(&mut chunk[..length], at)
                .expect("the table has the length its header says");
            for slot in chunk[..length].chunks_exact(SLOT) {
                let sequence = word(slot, 2);
                if sequence != 0 {
                    live.insert(
                        word(slot, 0),
                        Recorded {
                            size: word(slot, 1),
                            sequence,
                        },
                    );
                }
            }
            at += length as u64;
        }
        Snapshot { header, live }
    }

    /// Stops `pid` at a moment when no thread is inside a call: each waits in the kernel, and none in the recorder.
    pub fn stand_still(&self, pid: u32) -> Standstill {
        until(EXIT, "a moment without calls in flight", || {
            process::signal(pid, libc::SIGSTOP);
            let stopped = Standstill { pid };
            until(EXIT, "all threads to stop", || {
                threads(pid).iter().all(|thread| thread.stopped).then_some(())
            });
            let quiet = self.header(pid).inside == 0 && threads(pid).iter().all(|thread| thread.in_kernel);
            quiet.then_some(stopped)
        })
    }

    fn open(&self, pid: u32) -> File {
        let path = self.stem.with_extension(pid.to_string());
        File::open(&path).unwrap_or_else(|error| panic!("the recorder's table {}: {error}", path.display()))
    }
}

impl Default for TableFile {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TableFile {
    fn drop(&mut self) {
        let prefix = self
            .stem
            .file_name()
            .expect("the stem has a name")
            .to_string_lossy()
            .into_owned()
            + ".";
        let folder = self.stem.parent().expect("the stem has a folder");
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                // A file that is gone already needs no removing.
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

impl Drop for Standstill {
    fn drop(&mut self) {
        process::signal(self.pid, libc::SIGCONT);
    }
}

struct Thread {
    stopped: bool,
    in_kernel: bool,
}

fn threads(pid: u32) -> Vec<Thread> {
    let tasks =
        std::fs::read_dir(format!("/proc/{pid}/task")).unwrap_or_else(|error| panic!("threads of {pid}: {error}"));
    let look = |path: PathBuf| {
        let stat = std::fs::read_to_string(path.join("stat")).ok()?;
        let state = stat.rsplit_once(") ")?.1.chars().next()?;
        let call = std::fs::read_to_string(path.join("syscall")).ok()?;
        let in_kernel = call
            .split(' ')
            .next()
            .and_then(|number| number.parse::<i64>().ok())
            .is_some_and(|n| n >= 0);
        Some(Thread {
            stopped: matches!(state, 'T' | 't' | 'Z'),
            in_kernel: in_kernel || state == 'Z',
        })
    };
    tasks.flatten().filter_map(|task| look(task.path())).collect()
}

fn header(file: &File) -> Header {
    let mut bytes = [0; HEADER];
    file.read_exact_at(&mut bytes, 0).expect("a table has a header");
    assert_eq!(word(&bytes, 0), MAGIC, "not a table of the recorder");
    Header {
        slots: word(&bytes, 1),
        events: word(&bytes, 2),
        inside: word(&bytes, 3),
        overflow: word(&bytes, 4),
        twice: word(&bytes, 5),
    }
}

fn word(bytes: &[u8], index: usize) -> u64 {
    let bytes = bytes[index * 8..index * 8 + 8]
        .try_into()
        .expect("eight bytes are a word");
    u64::from_ne_bytes(bytes)
}
