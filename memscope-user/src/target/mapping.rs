//! The target's mappings: `/proc/PID/maps` parsed, and the path by which a mapped file can really be opened.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::address::{FileOffset, RuntimeAddress};
use super::identity::Pid;

/// One line of `/proc/PID/maps` (proc_pid_maps(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: RuntimeAddress,
    /// One past the last address.
    pub end: RuntimeAddress,
    /// Executable.
    pub executable: bool,
    /// Writable.
    pub writable: bool,
    /// Where in the file the mapping begins.
    pub offset: FileOffset,
    /// Device, major and minor.
    pub device: (u32, u32),
    /// Inode; 0 for memory without a file.
    pub inode: u64,
    /// Path as the target sees it, `[vdso]` and the like, or empty; `\n` unescaped, ` (deleted)` taken off.
    pub path: OsString,
    /// The file has been unlinked or replaced since it was mapped.
    pub deleted: bool,
}

/// What makes two mappings parts of the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileKey {
    /// Device, major and minor.
    pub device: (u32, u32),
    /// Inode on it.
    pub inode: u64,
}

impl Mapping {
    /// The file behind the mapping; `None` for anonymous memory and the kernel's own pages.
    #[must_use]
    pub fn file(&self) -> Option<FileKey> {
        (self.inode != 0).then_some(FileKey {
            device: self.device,
            inode: self.inode,
        })
    }

    /// A path that opens the mapped file itself, whatever its name now is and whichever mount namespace it is in.
    #[must_use]
    pub fn open_path(&self, pid: Pid) -> PathBuf {
        PathBuf::from(format!("/proc/{pid}/map_files/{:x}-{:x}", self.start, self.end))
    }

    /// The last component of the path, for `[module] + 0xoffset`.
    #[must_use]
    pub fn module_name(&self) -> String {
        Path::new(&self.path).file_name().map_or_else(
            || self.path.to_string_lossy().into_owned(),
            |name| name.to_string_lossy().into_owned(),
        )
    }
}

/// Parses the text of `/proc/PID/maps`. Lines that do not parse are passed over: the kernel writes none.
#[must_use]
pub fn parse_maps(text: &[u8]) -> Vec<Mapping> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mapping> {
    let mut rest = line;
    let range = field(&mut rest)?;
    let permissions = field(&mut rest)?;
    let offset = field(&mut rest)?;
    let device = field(&mut rest)?;
    let inode = field(&mut rest)?;
    let (start, end) = split_once(range, b'-')?;
    let (major, minor) = split_once(device, b':')?;
    let path_at = rest.iter().position(|byte| *byte != b' ').unwrap_or(rest.len());
    let mut path = unescape(&rest[path_at..]);
    let deleted = path.ends_with(b" (deleted)");
    if deleted {
        path.truncate(path.len() - b" (deleted)".len());
    }
    Some(Mapping {
        start: RuntimeAddress(hex(start)?),
        end: RuntimeAddress(hex(end)?),
        executable: permissions.get(2) == Some(&b'x'),
        writable: permissions.get(1) == Some(&b'w'),
        offset: FileOffset(hex(offset)?),
        device: (u32::try_from(hex(major)?).ok()?, u32::try_from(hex(minor)?).ok()?),
        inode: std::str::from_utf8(inode).ok()?.parse().ok()?,
        path: OsString::from_vec(path),
        deleted,
    })
}

fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
    let (head, tail) = rest.split_at(end);
    *rest = tail.strip_prefix(b" ").unwrap_or(tail);
    (!head.is_empty()).then_some(head)
}

fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let position = bytes.iter().position(|byte| *byte == at)?;
    Some((&bytes[..position], &bytes[position + 1..]))
}

fn hex(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The kernel escapes only the newline in paths, as `\012` (seq_file_path in fs/seq_file.c).
fn unescape(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, tail)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(b"\\012") {
            out.push(b'\n');
            rest = after;
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_and_a_deleted_one_with_a_space() {
        let text = b"7f00-7f10 r-xp 00002000 fe:00 42  /usr/lib/libc.so.6\n\
            8000-9000 rw-p 00000000 00:1f 7 /tmp/a b\\012c (deleted)\n\
            9000-a000 r-xp 00000000 00:00 0                          [vdso]\nrubbish\n";
        let maps = parse_maps(text);
        assert_eq!(maps.len(), 3);
        assert_eq!(maps[0].offset, FileOffset(0x2000));
        assert!(maps[0].executable && !maps[0].writable && !maps[0].deleted);
        assert_eq!(maps[0].module_name(), "libc.so.6");
        assert_eq!(maps[1].path, "/tmp/a b\nc");
        assert!(maps[1].deleted && maps[1].writable);
        assert_eq!(
            maps[1].file(),
            Some(FileKey {
                device: (0, 0x1f),
                inode: 7
            })
        );
        assert_eq!(maps[2].file(), None);
        assert_eq!(maps[2].path, "[vdso]");
    }
}
