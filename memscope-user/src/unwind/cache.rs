//! Tables kept on disk, so that a second attach does not convert the same libraries again.
//!
//! A table is found by a keyed digest of everything it is made from: a file that only claims another's build id gets its
//! own entry, and cannot poison the other's. The key is random and never leaves the folder, which is ours alone (0700).
//! A torn, changed or foreign entry fails its checksum and is made again.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use thiserror::Error;

use super::error::UnwindError;
use super::image::{CodeImage, FrameSection};
use super::stored::{MAX_STORED, decode, encode};
use super::table::{UnwindTable, table_for_image};

/// Where the tables of this host are kept.
pub const DIRECTORY: &str = "/var/cache/memscope";
/// `O_NOFOLLOW` on x86-64 Linux (include/uapi/asm-generic/fcntl.h).
const O_NOFOLLOW: i32 = 0o400_000;
const KEY_FILE: &str = "key";
const KEY_BYTES: usize = 16;
const SUFFIX: &str = ".unwind";
/// Entries kept, and their bytes in all; the oldest go first. Some 20 MB in practice, but one hostile image can make 35.
const MAX_ENTRIES: usize = 2048;
const MAX_BYTES: u64 = 128 << 20;
const NEW_SUFFIX: &str = ".new";

/// Why the cache cannot be used; tables can still be made without it.
#[derive(Debug, Error)]
pub enum CacheError {
    /// A file operation failed.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Somebody else could write into it.
    #[error(
        "{path} is not a folder that only its owner can enter and that belongs to us: remove it, or chmod 700 and chown it"
    )]
    NotOurs {
        /// The folder or file.
        path: PathBuf,
    },
}

/// A folder of tables.
#[derive(Debug)]
pub struct TableCache {
    /// Leads to it as long as it is held open.
    folder: PathBuf,
    key: [u8; KEY_BYTES],
    _held: File,
}

/// Whether a table was found or had to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It was in the cache.
    Warm,
    /// It was made, and kept if the folder could be written.
    Cold,
}

impl TableCache {
    /// Opens the cache in a folder, which is made if it is missing.
    ///
    /// # Errors
    /// When the folder cannot be made or read, or is not ours alone.
    pub fn open(folder: &Path) -> Result<Self, CacheError> {
        let io_error = |action| {
            let path = folder.to_owned();
            move |source| CacheError::Io { action, path, source }
        };
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io_error("make folder")(error)),
            _ => {}
        }
        let held = open_own(folder)?;
        // Through the descriptor: whatever the path leads to by now, this is the folder that was looked at.
        let cache = Self {
            folder: PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd())),
            key: [0; KEY_BYTES],
            _held: held,
        };
        cache.sweep();
        let key = cache.read_or_make_key().map_err(io_error("read or make the key of"))?;
        Ok(Self { key, ..cache })
    }

    /// The table of an ELF image: kept, or made and then kept. That it cannot be kept is no error.
    ///
    /// # Errors
    /// As [`super::table_for_elf`].
    pub fn table(&self, elf: &[u8]) -> Result<(UnwindTable, Found), UnwindError> {
        let image = CodeImage::parse(elf)?;
        let path = self.folder.join(format!("{:016x}{SUFFIX}", self.digest_of(&image)));
        if let Some(table) = self.read(&path) {
            return Ok((table, Found::Warm));
        }
        let table = table_for_image(&image)?;
        if self.write(&path, &encode(&table, |bytes| self.checksum(bytes))).is_ok() {
            self.drop_oldest();
        }
        Ok((table, Found::Cold))
    }

    fn read(&self, path: &Path) -> Option<UnwindTable> {
        let file = open(path).ok()?;
        let metadata = file.metadata().ok()?;
        if !metadata.is_file() || metadata.len() > MAX_STORED {
            return None;
        }
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).ok()? + 1);
        file.take(MAX_STORED).read_to_end(&mut bytes).ok()?;
        decode(&bytes, |bytes| self.checksum(bytes))
    }

    /// Whole or not at all: readers see the old file until the rename. Not synced: a torn file after a power cut fails its
    /// checksum.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.temporary();
        let written = create(&temporary)
            .and_then(|mut file| file.write_all(bytes))
            .and_then(|()| std::fs::rename(&temporary, path));
        if written.is_err() {
            // It may not even exist; what counts is the first error.
            let _ = std::fs::remove_file(&temporary);
        }
        written
    }

    /// A name that is this process's alone. What is there by that name was left by a killed one with the same PID.
    fn temporary(&self) -> PathBuf {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = self
            .folder
            .join(format!(".{}-{number}{NEW_SUFFIX}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    /// Removes what killed processes began to write: nobody goes on with it. A failure leaves a file too many, which the next
    /// time finds.
    fn sweep(&self) {
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(writer) else {
                continue;
            };
            if !Path::new("/proc").join(pid.to_string()).exists() {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    fn read_or_make_key(&self) -> io::Result<[u8; KEY_BYTES]> {
        let path = self.folder.join(KEY_FILE);
        let mut key = [0; KEY_BYTES];
        if let Ok(mut file) = open(&path)
            && file.metadata()?.mode() & 0o077 == 0
            && file.read_exact(&mut key).is_ok()
        {
            return Ok(key);
        }
        File::open("/dev/urandom")?.read_exact(&mut key)?;
        // Two that start at once may each write one; the loser's entries are made again later.
        self.write(&path, &key)?;
        Ok(key)
    }

    fn checksum(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.keyed(b"file");
        hasher.write(bytes);
        hasher.finish()
    }

    /// Digest of all that a table is made from.
    fn digest_of(&self, image: &CodeImage<'_>) -> u64 {
        let mut hasher = self.keyed(b"elf ");
        hasher.write_u64(image.text);
        hasher.write_u64(image.got);
        for segment in &image.code {
            hasher.write_u64(segment.address);
            hasher.write_u64(segment.offset);
            hasher.write_usize(segment.bytes.len());
            hasher.write(segment.bytes);
        }
        for section in [&image.eh_frame, &image.debug_frame] {
            if let Some(FrameSection { address, bytes }) = section {
                hasher.write_u64(*address);
                hasher.write_usize(bytes.len());
                hasher.write(bytes);
            }
            hasher.write_u8(0xff);
        }
        hasher.finish()
    }

    /// Today's SipHash; if the standard library changes it, every entry is made again once.
    fn keyed(&self, purpose: &[u8; 4]) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.key);
        hasher.write(purpose);
        hasher
    }

    /// Keeps the folder bounded. Any failure leaves a file too many, which the next time finds.
    fn drop_oldest(&self) {
        let Ok(folder) = std::fs::read_dir(&self.folder) else {
            return;
        };
        let mut entries: Vec<_> = folder
            .flatten()
            .filter(|entry| entry.file_name().as_encoded_bytes().ends_with(SUFFIX.as_bytes()))
            .filter_map(|entry| {
                let metadata = entry.metadata().ok()?;
                Some((metadata.modified().ok()?, entry.path(), metadata.len()))
            })
            .collect();
        entries.sort();
        let mut bytes = 0;
        for (kept, (_, path, length)) in entries.iter().rev().enumerate() {
            bytes += length;
            if kept >= MAX_ENTRIES || bytes > MAX_BYTES {
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// Who writes a file of this name, if it is one that is being written.
fn writer(name: &str) -> Option<u32> {
    let (pid, _) = name.strip_suffix(NEW_SUFFIX)?.strip_prefix('.')?.split_once('-')?;
    pid.parse().ok()
}

/// Opens a folder that nobody else can have put anything into. Nothing in it is touched before that is known.
fn open_own(path: &Path) -> Result<File, CacheError> {
    let not_ours = || CacheError::NotOurs { path: path.to_owned() };
    let io_error = |action, source| CacheError::Io {
        action,
        path: path.to_owned(),
        source,
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(folder) => File::from(folder),
        // What is there is a symbolic link or no folder.
        Err(Errno::LOOP | Errno::NOTDIR) => return Err(not_ours()),
        Err(error) => return Err(io_error("open", error.into())),
    };
    let metadata = folder.metadata().map_err(|error| io_error("look at", error))?;
    if metadata.mode() & 0o077 != 0 || metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(not_ours());
    }
    Ok(folder)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(O_NOFOLLOW).open(path)
}

fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(O_NOFOLLOW)
        .open(path)?;
    // The mode above is subject to the umask; a strange one must not lock us out.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

#[cfg(test)]
mod tests;
