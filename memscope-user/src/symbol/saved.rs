//! What a session keeps of the target's executable mappings, so that addresses can be named when the target is gone.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::target::address::{BuildId, ElfAddress, FileOffset, RuntimeAddress};
use crate::target::mapping::FileKey;

/// One file with executable mappings, or one executable mapping without a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedModule {
    /// Path as the target sees it; `[vdso]` and the like for the kernel's own; empty for memory without a name.
    #[serde(with = "path_or_bytes")]
    pub path: PathBuf,
    /// The build id read from the mapped file itself; `None` when it has none or could not be read.
    pub build_id: Option<BuildId>,
    /// What the mapped file was when it was saved; `None` without a file or when it could not be opened.
    pub file: Option<FileStamp>,
    /// Which file it is by the kernel's word, whether it could be opened or not; `None` without a file.
    #[serde(default)]
    pub mapped: Option<FileKey>,
    /// Its executable mappings.
    pub segments: Vec<SavedSegment>,
}

impl SavedModule {
    /// The last component of the path, lossy, as reports show it; `[anon]` for memory without a name.
    #[must_use]
    pub fn name(&self) -> String {
        if self.path.as_os_str().is_empty() {
            return "[anon]".to_owned();
        }
        self.path
            .file_name()
            .unwrap_or(self.path.as_os_str())
            .to_string_lossy()
            .into_owned()
    }

    /// It is an image with positions in it that mean something: a file, or the vDSO.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.has_file() || self.build_id.is_some()
    }

    /// It has a place in a file system.
    #[must_use]
    pub fn has_file(&self) -> bool {
        self.path.is_absolute()
    }
}

/// One executable mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedSegment {
    /// First address.
    pub start: RuntimeAddress,
    /// One past the last address.
    pub end: RuntimeAddress,
    /// Where in the file the mapping begins.
    pub offset: FileOffset,
    /// What the file's program headers call the mapping's first byte; `None` when the file could not be read or is no
    /// ELF file. A separate debug file is asked by this address: its file offsets are other ones.
    pub elf_address: Option<ElfAddress>,
}

/// What makes a file without build id the same file: nothing else can have its device, inode, size and time of change
/// unless someone sets out to forge it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    /// `st_dev`. Not the device in `/proc/PID/maps`, which differs on btrfs and overlayfs.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Last change of the content, seconds since the Unix epoch.
    pub modified_s: i64,
    /// Nanoseconds of that second.
    pub modified_ns: i64,
}

impl From<&Metadata> for FileStamp {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
        }
    }
}

/// Paths in JSON: a string where they are UTF-8, else their bytes, so that every path survives and most can be read.
mod path_or_bytes {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Path, PathBuf};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        match path.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => path.as_os_str().as_bytes().serialize(serializer),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        Ok(match Form::deserialize(deserializer)? {
            Form::Text(text) => PathBuf::from(text),
            Form::Bytes(bytes) => PathBuf::from(OsString::from_vec(bytes)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn modules_survive_the_session_file_whatever_their_path() {
        for path in [b"/usr/lib/libc.so.6".as_slice(), b"/tmp/\xff\xfe\n", b"[vdso]", b""] {
            let module = SavedModule {
                path: PathBuf::from(OsStr::from_bytes(path)),
                build_id: BuildId::from_bytes(&[1, 2, 3]),
                file: Some(FileStamp {
                    device: u64::MAX,
                    inode: 2,
                    size: 3,
                    modified_s: -4,
                    modified_ns: 5,
                }),
                mapped: Some(FileKey {
                    device: (8, 1),
                    inode: 6,
                }),
                segments: vec![SavedSegment {
                    start: RuntimeAddress(0x7f00_0000_0000),
                    end: RuntimeAddress(0x7f00_0000_1000),
                    offset: FileOffset(0x1000),
                    elf_address: Some(ElfAddress(0x2000)),
                }],
            };
            let text = serde_json::to_string(&module).unwrap();
            assert_eq!(serde_json::from_str::<SavedModule>(&text).unwrap(), module, "{text}");
        }
    }

    #[test]
    fn every_module_has_a_name() {
        for (path, name) in [
            ("/a/b.so", "b.so"),
            ("[vdso]", "[vdso]"),
            ("", "[anon]"),
            ("//anon", "anon"),
            ("/", "/"),
        ] {
            let module = SavedModule {
                path: PathBuf::from(path),
                build_id: None,
                file: None,
                mapped: None,
                segments: Vec::new(),
            };
            assert_eq!(module.name(), name);
        }
    }
}
