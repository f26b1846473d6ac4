//! Which saved module an address was in, and where in its file.

use std::ffi::OsStr;

use super::saved::{SavedModule, SavedSegment};
use super::site_id::FrameIdentity;
use crate::target::address::{ElfAddress, FileOffset, RuntimeAddress};

/// The executable mappings of one moment, searchable by address.
#[derive(Clone, Debug, Default)]
pub struct ModuleMap {
    modules: Vec<SavedModule>,
    /// Every segment and its module's index, by start address.
    segments: Vec<(SavedSegment, usize)>,
}

/// Where an address is.
#[derive(Clone, Copy, Debug)]
pub struct Located<'a> {
    /// The module.
    pub module: &'a SavedModule,
    /// Its place in the list the map was made from.
    pub index: usize,
    /// Position in the module's file.
    pub offset: FileOffset,
    /// What the file calls the byte; `None` when the session could not read the file.
    pub elf_address: Option<ElfAddress>,
}

impl ModuleMap {
    /// The map of these modules. Segments that end before they start are left out; of two that overlap, which no kernel
    /// writes, the later one holds the addresses from its start.
    #[must_use]
    pub fn new(modules: Vec<SavedModule>) -> Self {
        let segments = modules.iter().enumerate().flat_map(|(index, module)| {
            module
                .segments
                .iter()
                .filter(|segment| segment.start < segment.end)
                .map(move |segment| (*segment, index))
        });
        let mut segments: Vec<_> = segments.collect();
        segments.sort_by_key(|(segment, _)| segment.start);
        Self { modules, segments }
    }

    /// The modules, in the order given.
    #[must_use]
    pub fn modules(&self) -> &[SavedModule] {
        &self.modules
    }

    /// Where the address is; `None` outside every saved mapping.
    #[must_use]
    pub fn locate(&self, address: RuntimeAddress) -> Option<Located<'_>> {
        let next = self.segments.partition_point(|(segment, _)| segment.start <= address);
        let (segment, index) = self.segments.get(next.checked_sub(1)?)?;
        if address >= segment.end {
            return None;
        }
        let within = address.0 - segment.start.0;
        Some(Located {
            module: self.modules.get(*index)?,
            index: *index,
            offset: FileOffset(segment.offset.0.wrapping_add(within)),
            elf_address: segment
                .elf_address
                .map(|start| ElfAddress(start.0.wrapping_add(within))),
        })
    }

    /// What the address is, whatever its module's place in this run: a part of the site id.
    #[must_use]
    pub fn identity(&self, address: RuntimeAddress) -> FrameIdentity<'_> {
        let Some(Located { module, offset, .. }) = self.locate(address) else {
            return FrameIdentity::Nowhere;
        };
        match &module.build_id {
            Some(build_id) => FrameIdentity::Build(build_id, offset),
            None if module.has_file() => {
                FrameIdentity::Named(module.path.file_name().unwrap_or(OsStr::new("/")), offset)
            }
            None => FrameIdentity::Nowhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::site_id::site_id;
    use super::*;
    use crate::target::address::BuildId;

    fn module(path: &str, id: Option<&[u8]>, start: u64, offset: u64) -> SavedModule {
        SavedModule {
            path: PathBuf::from(path),
            build_id: id.and_then(BuildId::from_bytes),
            file: None,
            mapped: None,
            segments: vec![SavedSegment {
                start: RuntimeAddress(start),
                end: RuntimeAddress(start + 0x1000),
                offset: FileOffset(offset),
                elf_address: Some(ElfAddress(offset.wrapping_add(0x40_0000))),
            }],
        }
    }

    #[test]
    fn addresses_are_found_up_to_a_mappings_last_byte() {
        let map = ModuleMap::new(vec![module("/b", None, 0x9000, 0x100), module("/a", None, 0x5000, 0)]);
        for outside in [0, 0x4fff, 0x6000, 0x8fff, 0xa000, u64::MAX] {
            assert!(map.locate(RuntimeAddress(outside)).is_none(), "{outside:#x}");
        }
        let found = map.locate(RuntimeAddress(0x9fff)).unwrap();
        assert_eq!((found.index, found.offset), (0, FileOffset(0x10ff)));
        assert_eq!(found.elf_address, Some(ElfAddress(0x40_10ff)));
        assert_eq!(map.locate(RuntimeAddress(0x5000)).unwrap().index, 1);
    }

    #[test]
    fn hostile_segments_neither_panic_nor_answer() {
        let mut bad = module("/a", None, 0x5000, u64::MAX);
        bad.segments[0].end = RuntimeAddress(0x5000);
        assert!(
            ModuleMap::new(vec![bad.clone()])
                .locate(RuntimeAddress(0x5000))
                .is_none()
        );
        bad.segments[0].end = RuntimeAddress(u64::MAX);
        bad.segments[0].elf_address = Some(ElfAddress(u64::MAX));
        assert!(ModuleMap::new(vec![bad]).locate(RuntimeAddress(0x5001)).is_some());
        assert!(ModuleMap::default().locate(RuntimeAddress(0)).is_none());
    }

    #[test]
    fn a_stack_has_one_id_wherever_its_modules_are_loaded() {
        let at = |bias: u64| {
            let map = ModuleMap::new(vec![
                module("/usr/bin/gateway", Some(&[1, 2]), 0x5000 + bias, 0x3000),
                module("/opt/no-build-id.so", None, 0x7f_0000 + bias * 3, 0x1000),
                module("", None, 0x10_0000 + bias * 2, 0),
            ]);
            let frame = |address| map.identity(RuntimeAddress(address));
            let frames = [
                frame(0x7f_0010 + bias * 3),
                frame(0x10_0020 + bias * 2),
                frame(0xdead_0000 + bias),
                frame(0x5abc + bias),
            ];
            site_id(frame(0x5010 + bias), frames)
        };
        assert_eq!(at(0), at(0x5555_0000_0000));
        let moved = ModuleMap::new(vec![module("/usr/bin/gateway", Some(&[1, 2]), 0x5000, 0x4000)]);
        assert_ne!(site_id(moved.identity(RuntimeAddress(0x5010)), []), at(0));
    }
}
