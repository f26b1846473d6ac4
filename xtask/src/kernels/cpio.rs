//! A cpio archive in the form `newc`, as the kernel unpacks its initial file system from (Documentation/driver-api/early-userspace).

use std::collections::BTreeSet;

const REGULAR: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;
/// The name that ends an archive.
const TRAILER: &str = "TRAILER!!!";

/// An archive that is being written.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    inodes: u32,
    folders: BTreeSet<String>,
}

impl Archive {
    /// A regular file that everybody may run, and the folders it lies in. The path is absolute.
    pub fn file(&mut self, path: &str, content: &[u8]) {
        self.folders_of(path);
        self.entry(path, REGULAR | 0o755, content);
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, to: &str) {
        self.folders_of(path);
        self.entry(path, LINK | 0o777, to.as_bytes());
    }

    /// A folder, and those it lies in; one that is there already stays as it is.
    pub fn folder(&mut self, path: &str) {
        self.folders_of(path);
        if self.folders.insert(path.to_owned()) {
            self.entry(path, FOLDER | 0o755, &[]);
        }
    }

    /// The archive, whole.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry(TRAILER, 0, &[]);
        self.bytes
    }

    fn folders_of(&mut self, path: &str) {
        let ends = path.match_indices('/').map(|(end, _)| end).filter(|&end| end > 0);
        for end in ends.collect::<Vec<_>>() {
            let folder = &path[..end];
            if self.folders.insert(folder.to_owned()) {
                self.entry(folder, FOLDER | 0o755, &[]);
            }
        }
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        let name = path.trim_start_matches('/');
        self.inodes += 1;
        let length = u32::try_from(content.len()).expect("a file of less than 4 GiB");
        // Inode, mode, user, group, links, time, length, device (2), device of a special file (2), name length, checksum.
        let name_length = name.len() as u32 + 1;
        let fields = [self.inodes, mode, 0, 0, 1, 0, length, 0, 0, 0, 0, name_length, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08X}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    /// Headers and contents begin at multiples of four bytes.
    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (name, mode, content) of every entry, read as the kernel reads them.
    fn read(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let (mut at, mut entries) = (0, Vec::new());
        loop {
            assert_eq!(at % 4, 0, "a header begins at a multiple of four");
            assert_eq!(&archive[at..at + 6], b"070701");
            let field = |index: usize| {
                let digits = &archive[at + 6 + index * 8..at + 14 + index * 8];
                u32::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap()
            };
            let (mode, length, name_length) = (field(1), field(6) as usize, field(11) as usize);
            let name = &archive[at + 110..at + 110 + name_length];
            assert_eq!(name.last(), Some(&0));
            let name = String::from_utf8(name[..name_length - 1].to_vec()).unwrap();
            let content = (at + 110 + name_length).next_multiple_of(4);
            if name == TRAILER {
                assert_eq!(content, archive.len());
                return entries;
            }
            entries.push((name, mode, archive[content..content + length].to_vec()));
            at = (content + length).next_multiple_of(4);
        }
    }

    #[test]
    fn files_lie_in_folders_that_come_before_them_and_once() {
        let mut archive = Archive::default();
        archive.file("/init", b"#!/bin/sh\n");
        archive.file("/usr/lib/one", b"1");
        archive.file("/usr/lib/three", b"333");
        archive.folder("/usr/lib");
        archive.folder("/proc");
        archive.link("/lib", "usr/lib");
        let entries = read(&archive.finish());
        let names: Vec<&str> = entries.iter().map(|(name, ..)| name.as_str()).collect();
        assert_eq!(
            names,
            ["init", "usr", "usr/lib", "usr/lib/one", "usr/lib/three", "proc", "lib"]
        );
        assert_eq!(entries[0].1, REGULAR | 0o755);
        assert_eq!(entries[2].1, FOLDER | 0o755);
        assert_eq!(
            (entries[4].2.as_slice(), entries[6].2.as_slice()),
            (&b"333"[..], &b"usr/lib"[..])
        );
        assert_eq!(entries[6].1, LINK | 0o777);
    }

    #[test]
    fn an_empty_archive_is_its_trailer() {
        assert!(read(&Archive::default().finish()).is_empty());
    }
}
