//! Loadable segments: the conversions between what the file says, where the file holds it, and where it runs.

use object::LittleEndian as LE;
use object::elf::{PF_X, PT_LOAD, ProgramHeader64};

use crate::target::address::{ElfAddress, FileOffset, RuntimeAddress};
use crate::target::mapping::Mapping;

const PAGE: u64 = 4096;

/// One `PT_LOAD` program header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First address.
    pub address: ElfAddress,
    /// Where in the file its bytes begin.
    pub offset: FileOffset,
    /// Bytes taken from the file.
    pub file_size: u64,
    /// Bytes in memory; those past `file_size` are zero.
    pub memory_size: u64,
    /// Executable.
    pub executable: bool,
}

/// Runtime address less ELF address: the same for the whole image. Wraps, as the loader's own arithmetic does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LoadBias(pub u64);

impl LoadBias {
    /// Where the address is in the running target.
    #[must_use]
    pub fn to_runtime(self, address: ElfAddress) -> RuntimeAddress {
        RuntimeAddress(address.0.wrapping_add(self.0))
    }

    /// Which address of the image runs there.
    #[must_use]
    pub fn to_elf(self, address: RuntimeAddress) -> ElfAddress {
        ElfAddress(address.0.wrapping_sub(self.0))
    }
}

/// The segments of an image in the order of its program headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segments(Vec<Segment>);

impl Segments {
    /// Takes the `PT_LOAD` headers; those whose ends overflow, which no kernel would load, are passed over.
    pub(super) fn new(headers: &[ProgramHeader64<LE>]) -> Self {
        let loads = headers.iter().filter(|header| header.p_type.get(LE) == PT_LOAD);
        let segments = loads.map(|header| Segment {
            address: ElfAddress(header.p_vaddr.get(LE)),
            offset: FileOffset(header.p_offset.get(LE)),
            file_size: header.p_filesz.get(LE),
            memory_size: header.p_memsz.get(LE),
            executable: header.p_flags.get(LE).contains(PF_X),
        });
        Self(
            segments
                .filter(|segment| {
                    segment.address.0.checked_add(segment.memory_size).is_some()
                        && segment.address.0.checked_add(segment.file_size).is_some()
                        && segment.offset.0.checked_add(segment.file_size).is_some()
                })
                .collect(),
        )
    }

    /// The segments.
    #[must_use]
    pub fn as_slice(&self) -> &[Segment] {
        &self.0
    }

    /// The segment whose file bytes hold the address.
    #[must_use]
    pub fn holding(&self, address: ElfAddress) -> Option<&Segment> {
        self.0
            .iter()
            .find(|segment| within(address.0, segment.address.0, segment.file_size))
    }

    /// Where the file holds the byte at this address; `None` for addresses that no file byte backs.
    #[must_use]
    pub fn to_offset(&self, address: ElfAddress) -> Option<FileOffset> {
        let segment = self.holding(address)?;
        Some(FileOffset(segment.offset.0 + (address.0 - segment.address.0)))
    }

    /// The address at which the byte of the file is loaded, an executable one if it is loaded twice.
    #[must_use]
    pub fn to_address(&self, offset: FileOffset) -> Option<ElfAddress> {
        let holds = |segment: &&Segment| within(offset.0, segment.offset.0, segment.file_size);
        let segment = self.executable().find(holds).or_else(|| self.0.iter().find(holds))?;
        Some(ElfAddress(segment.address.0 + (offset.0 - segment.offset.0)))
    }

    /// The load bias that a mapping of this image implies; `None` when the mapping is of no segment of it.
    ///
    /// The kernel maps whole pages, so the first page of a mapping may begin before its segment does.
    #[must_use]
    pub fn bias_of(&self, mapping: &Mapping) -> Option<LoadBias> {
        let holds = |segment: &&Segment| {
            let first = segment.offset.0 / PAGE * PAGE;
            within(mapping.offset.0, first, segment.offset.0 - first + segment.file_size)
        };
        let same_kind = self.0.iter().filter(|segment| segment.executable == mapping.executable);
        let segment = same_kind.clone().find(holds).or_else(|| self.0.iter().find(holds))?;
        let address = segment
            .address
            .0
            .wrapping_sub(segment.offset.0)
            .wrapping_add(mapping.offset.0);
        Some(LoadBias(mapping.start.0.wrapping_sub(address)))
    }

    fn executable(&self) -> impl Iterator<Item = &Segment> {
        self.0.iter().filter(|segment| segment.executable)
    }
}

fn within(value: u64, start: u64, size: u64) -> bool {
    value.checked_sub(start).is_some_and(|distance| distance < size)
}
