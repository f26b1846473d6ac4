//! Where a look at a target finds other code than was mapped before.

use std::collections::BTreeMap;

use crate::database::generations::Range;
use crate::symbol::{FileStamp, SavedModule, SavedSegment};
use crate::target::address::{FileOffset, RuntimeAddress};
use crate::unwind::CodeMapping;

/// Where something else is mapped now, by address, than one of the modules that were. `mappings` are all of now, with code
/// that no file names. Where nothing is, nothing is known to have taken its place.
pub(super) fn replaced(were: &[SavedModule], are: &[SavedModule], mappings: &[CodeMapping]) -> Vec<Range> {
    let mut now: BTreeMap<RuntimeAddress, &SavedModule> = BTreeMap::new();
    for is in are {
        now.extend(is.segments.iter().map(|segment| (segment.start, is)));
    }
    let mut ranges = Vec::new();
    for was in were {
        for segment in &was.segments {
            let first = mappings.partition_point(|mapping| mapping.end <= segment.start);
            for mapping in mappings[first..]
                .iter()
                .take_while(|mapping| mapping.start < segment.end)
            {
                let is = now.get(&mapping.start);
                if !is.is_some_and(|is| same_file(was, is) && same_place(segment, mapping)) {
                    ranges.push(Range {
                        start: segment.start.max(mapping.start),
                        end: segment.end.min(mapping.end),
                    });
                }
            }
        }
    }
    ranges
}

fn same_place(was: &SavedSegment, is: &CodeMapping) -> bool {
    let origin = |at: RuntimeAddress, offset: FileOffset| at.0.wrapping_sub(offset.0);
    origin(was.start, was.offset) == origin(is.start, is.offset)
}

/// What was read of a file tells it from every other. Of one that could not be opened at either look, such as one deleted
/// since, the kernel says which it is: no other file has its inode while it is mapped.
fn same_file(was: &SavedModule, is: &SavedModule) -> bool {
    match (key_of(was), key_of(is)) {
        (Some(was), Some(is)) => was == is,
        _ => was.mapped.is_some() && was.mapped == is.mapped && was.path == is.path,
    }
}

/// What tells a module's file from every other.
pub(super) fn key_of(module: &SavedModule) -> Option<String> {
    match (&module.build_id, &module.file) {
        (Some(build_id), _) => Some(build_id.as_hex().to_owned()),
        (None, Some(stamp)) => Some(stamp_key(stamp)),
        _ => None,
    }
}

/// A file without build id is known by what makes it this very file.
fn stamp_key(stamp: &FileStamp) -> String {
    let FileStamp {
        device,
        inode,
        size,
        modified_s,
        modified_ns,
    } = stamp;
    format!("{device:x}:{inode:x}:{size:x}:{modified_s:x}.{modified_ns:x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::address::BuildId;
    use crate::target::mapping::FileKey;
    use crate::unwind::CodeSource;

    fn library(id: u8, start: u64, offset: u64) -> SavedModule {
        SavedModule {
            path: "/lib/plugin.so".into(),
            build_id: BuildId::from_bytes(&[id]),
            file: None,
            mapped: None,
            segments: vec![SavedSegment {
                start: RuntimeAddress(start),
                end: RuntimeAddress(start + 0x2000),
                offset: FileOffset(offset),
                elf_address: None,
            }],
        }
    }

    /// One whose file could not be opened.
    fn closed(path: &str, inode: u64, offset: u64) -> SavedModule {
        SavedModule {
            path: path.into(),
            build_id: None,
            mapped: Some(FileKey { device: (8, 1), inode }),
            ..library(0, 0x5000, offset)
        }
    }

    fn mappings(modules: &[SavedModule]) -> Vec<CodeMapping> {
        let segments = modules.iter().flat_map(|module| &module.segments);
        let mappings = segments.map(|segment| CodeMapping {
            start: segment.start,
            end: segment.end,
            offset: segment.offset,
            source: CodeSource::Bare,
        });
        mappings.collect()
    }

    fn ranges(were: &[SavedModule], are: &[SavedModule], mappings: &[CodeMapping]) -> Vec<(u64, u64)> {
        let ranges = replaced(were, are, mappings);
        ranges.iter().map(|range| (range.start.0, range.end.0)).collect()
    }

    #[test]
    fn what_another_file_has_taken_is_told_and_what_has_gone_is_not() {
        let were = [library(1, 0x5000, 0x1000), library(2, 0x9000, 0)];
        let of = |are: &[SavedModule]| ranges(&were, are, &mappings(are));
        assert_eq!(of(&[]), []);
        assert_eq!(of(&were), []);
        // A part of the file is the file still, as after mprotect of the rest.
        assert_eq!(of(&[library(1, 0x6000, 0x2000)]), []);
        assert_eq!(of(&[library(3, 0x5000, 0x1000)]), [(0x5000, 0x7000)]);
        assert_eq!(of(&[library(1, 0x6000, 0x1000)]), [(0x6000, 0x7000)], "elsewhere in it");
        let bare = mappings(&[library(0, 0xa000, 0)]);
        assert_eq!(ranges(&were, &[], &bare), [(0xa000, 0xb000)]);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_the_same_where_the_kernel_says_so() {
        let path = "/lib/plugin.so";
        let known = SavedModule {
            build_id: BuildId::from_bytes(&[7]),
            ..closed(path, 42, 0x1000)
        };
        let was = closed(path, 42, 0x1000);
        let of = |was: &SavedModule, is: SavedModule| {
            let are = [is];
            ranges(std::slice::from_ref(was), &are, &mappings(&are))
        };
        assert_eq!(of(&was, was.clone()), []);
        assert_eq!(of(&known, was.clone()), [], "deleted since");
        assert_eq!(of(&was, known.clone()), []);
        let all = [(0x5000, 0x7000)];
        assert_eq!(of(&was, closed(path, 43, 0x1000)), all, "another inode");
        assert_eq!(of(&was, closed(path, 42, 0x2000)), all, "elsewhere in it");
        assert_eq!(of(&was, closed("/lib/other.so", 42, 0x1000)), all, "another name");
        let unknown = SavedModule { mapped: None, ..was };
        assert_eq!(of(&unknown, unknown.clone()), all, "nothing tells what it is");
    }
}
