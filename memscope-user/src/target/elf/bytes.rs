//! Where an image's bytes come from: memory, or an open file read piece by piece.
//!
//! A file is never mapped into our memory: it belongs to the target, and cutting a mapped file short kills its reader
//! with SIGBUS. Reading piece by piece also keeps the memory we use independent of the size of the debug information.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::ElfError;
use crate::target::address::FileOffset;

/// The most that one table or section may take in memory: the symbol names of the largest browsers fit. At most two are
/// held at a time.
pub const MAX_PIECE: u64 = 256 << 20;

/// Bytes of an image, by file offset.
pub trait ImageBytes: Send + Sync {
    /// Length of the whole in bytes.
    fn size(&self) -> u64;

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// When the file has become shorter, or cannot be read.
    fn read_into(&self, offset: FileOffset, buffer: &mut [u8]) -> io::Result<()>;
}

impl ImageBytes for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_into(&self, offset: FileOffset, buffer: &mut [u8]) -> io::Result<()> {
        let piece = usize::try_from(offset.0)
            .ok()
            .and_then(|start| self.get(start..)?.get(..buffer.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(piece);
        Ok(())
    }
}

/// An open file and the length it had when it was opened.
#[derive(Debug)]
pub struct FileBytes {
    file: File,
    size: u64,
}

impl FileBytes {
    /// The file as it is now.
    ///
    /// # Errors
    /// When its length cannot be asked for.
    pub fn new(file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }

    /// What the open file is.
    ///
    /// # Errors
    /// When it cannot be asked for.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }
}

impl ImageBytes for FileBytes {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_into(&self, offset: FileOffset, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset.0)
    }
}

/// Shared bytes with every range checked against the file's length and [`MAX_PIECE`] before memory is taken for it.
#[derive(Clone)]
pub(super) struct Checked(Arc<dyn ImageBytes>);

impl Checked {
    pub(super) fn new(bytes: impl ImageBytes + 'static) -> Self {
        Self(Arc::new(bytes))
    }

    pub(super) fn size(&self) -> u64 {
        self.0.size()
    }

    pub(super) fn read(&self, what: &'static str, offset: FileOffset, size: u64) -> Result<Vec<u8>, ElfError> {
        let file = self.size();
        if offset.0.checked_add(size).is_none_or(|end| end > file) {
            return Err(ElfError::Truncated {
                what,
                offset: offset.0,
                size,
                file,
            });
        }
        let length = usize::try_from(size).ok().filter(|_| size <= MAX_PIECE);
        let length = length.ok_or(ElfError::TooLarge {
            what,
            size,
            limit: MAX_PIECE,
        })?;
        let mut buffer = vec![0; length];
        self.0.read_into(offset, &mut buffer).map_err(|error| ElfError::Read {
            what,
            why: error.to_string(),
        })?;
        Ok(buffer)
    }
}
