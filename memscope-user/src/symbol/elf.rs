//! The few facts of an ELF file that naming needs: build id, load segments, which debug sections it has.

use std::fs::File;
use std::io;

use object::elf::{ET_DYN, ET_EXEC, FileHeader64, NT_GNU_BUILD_ID, PF_X, PT_LOAD};
use object::read::elf::{FileHeader as _, NoteIterator, ProgramHeader as _, SectionHeader as _};
use object::{Endianness, ReadCache, ReadRef};

use crate::target::address::{BuildId, ElfAddress, FileOffset};

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ElfFacts {
    /// `.note.gnu.build-id`.
    pub build_id: Option<BuildId>,
    /// `PT_LOAD` segments, in file order.
    pub loads: Vec<Load>,
    /// It has DWARF of its own.
    pub has_debug_info: bool,
    /// It names another file to read debug information from (`.gnu_debuglink`, `.gnu_debugaltlink`, `.debug_sup`).
    pub links_elsewhere: bool,
}

/// One `PT_LOAD` segment, as far as it is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Where in the file it begins.
    pub offset: FileOffset,
    /// What its first byte is called.
    pub address: ElfAddress,
    /// Bytes in the file.
    pub file_size: u64,
    /// Bytes in memory.
    pub memory_size: u64,
    /// It holds code (`PF_X`).
    pub executable: bool,
}

impl ElfFacts {
    /// What the file calls the byte at this position; `None` when no segment holds it.
    #[must_use]
    pub fn address_of(&self, offset: FileOffset) -> Option<ElfAddress> {
        self.loads.iter().find_map(|load| {
            let within = offset
                .0
                .checked_sub(load.offset.0)
                .filter(|within| *within < load.file_size)?;
            load.address.0.checked_add(within).map(ElfAddress)
        })
    }

    /// What the file calls the first byte of an executable mapping of these file bytes.
    ///
    /// The kernel maps whole pages, so a mapping may begin before the segment it serves, with bytes that the file holds
    /// for the segment before (lld and `-z noseparate-code` lay files out so): only executable segments count.
    #[must_use]
    pub fn address_of_mapping(&self, offset: FileOffset) -> Option<ElfAddress> {
        const PAGE: u64 = 4096;
        let code = || self.loads.iter().filter(|load| load.executable);
        let holding = code().find_map(|load| {
            let within = offset
                .0
                .checked_sub(load.offset.0)
                .filter(|within| *within < load.file_size)?;
            load.address.0.checked_add(within)
        });
        let address = holding.or_else(|| {
            code().find_map(|load| {
                let before = load.offset.0.checked_sub(offset.0).filter(|before| *before < PAGE)?;
                load.address.0.checked_sub(before)
            })
        });
        address.map(ElfAddress)
    }

    /// Whether both addresses are in one segment: a symbol in another one cannot be the function around an address.
    #[must_use]
    pub fn in_one_segment(&self, a: ElfAddress, b: ElfAddress) -> bool {
        let holds =
            |load: &Load, x: ElfAddress| x.0.checked_sub(load.address.0).is_some_and(|at| at < load.memory_size);
        self.loads.iter().any(|load| holds(load, a) && holds(load, b))
    }
}

/// Reads the facts of a 64-bit ELF executable or library.
///
/// # Errors
/// `InvalidData` when it is no such file. Whatever the bytes, work and memory stay bounded: no read is larger than
/// [`READ_LIMIT`].
pub fn read_facts(file: &File) -> io::Result<ElfFacts> {
    let cache = ReadCache::new(file);
    facts(Bounded(&cache))
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("not a usable ELF file: {error}")))
}

/// Largest piece of a file that is read at once: header tables and notes, none of them near it in honest files.
const READ_LIMIT: u64 = 16 << 20;

/// Reads through to the file, but nothing as large as a hostile header may ask for.
#[derive(Clone, Copy)]
struct Bounded<'a>(&'a ReadCache<&'a File>);

impl<'a> ReadRef<'a> for Bounded<'a> {
    fn len(self) -> Result<u64, ()> {
        self.0.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        if size > READ_LIMIT {
            return Err(());
        }
        self.0.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: std::ops::Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        self.0.read_bytes_at_until(range, delimiter)
    }
}

fn facts<'a>(data: Bounded<'a>) -> Result<ElfFacts, object::read::Error> {
    let header = FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let mut facts = ElfFacts::default();
    if ![ET_EXEC, ET_DYN].contains(&header.e_type(endian)) {
        return Ok(facts);
    }
    for program in header.program_headers(endian, data)? {
        if program.p_type(endian) == PT_LOAD {
            facts.loads.push(Load {
                offset: FileOffset(program.p_offset(endian)),
                address: ElfAddress(program.p_vaddr(endian)),
                file_size: program.p_filesz(endian),
                memory_size: program.p_memsz(endian),
                executable: program.p_flags(endian) & PF_X == PF_X,
            });
        } else if facts.build_id.is_none()
            && let Ok(Some(notes)) = program.notes(endian, data)
        {
            facts.build_id = build_id(endian, notes);
        }
    }
    // A file whose section headers are gone or broken still has its segments.
    let Ok(sections) = header.sections(endian, data) else {
        return Ok(facts);
    };
    for section in sections.iter() {
        match sections.section_name(endian, section).unwrap_or_default() {
            b".debug_info" => facts.has_debug_info |= section.sh_type(endian) != object::elf::SHT_NOBITS,
            b".gnu_debuglink" | b".gnu_debugaltlink" | b".debug_sup" => facts.links_elsewhere = true,
            // Separate debug files have the note in the section only.
            b".note.gnu.build-id" if facts.build_id.is_none() => {
                if let Ok(Some(notes)) = section.notes(endian, data) {
                    facts.build_id = build_id(endian, notes);
                }
            }
            _ => {}
        }
    }
    Ok(facts)
}

fn build_id(endian: Endianness, mut notes: NoteIterator<'_, FileHeader64<Endianness>>) -> Option<BuildId> {
    while let Ok(Some(note)) = notes.next() {
        if note.name() == b"GNU" && note.n_type(endian) == NT_GNU_BUILD_ID {
            return BuildId::from_bytes(note.desc());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn file_of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn our_own_executable_is_read() {
        let facts = read_facts(&File::open("/proc/self/exe").unwrap()).unwrap();
        assert!(facts.loads.len() >= 2 && facts.has_debug_info, "{facts:?}");
        let code = facts.loads[1];
        assert_eq!(facts.address_of(code.offset), Some(code.address));
        assert!(facts.in_one_segment(code.address, ElfAddress(code.address.0 + code.memory_size - 1)));
        assert!(!facts.in_one_segment(code.address, ElfAddress(code.address.0 + code.memory_size)));
    }

    #[test]
    fn a_mapping_that_begins_in_the_segment_before_is_placed_by_its_code() {
        let load = |offset, address, file_size, executable| Load {
            offset: FileOffset(offset),
            address: ElfAddress(address),
            file_size,
            memory_size: file_size,
            executable,
        };
        let facts = ElfFacts {
            loads: vec![load(0, 0x40_0000, 0x1234, false), load(0x1234, 0x40_2234, 0x5000, true)],
            ..ElfFacts::default()
        };
        assert_eq!(
            facts.address_of_mapping(FileOffset(0x1000)),
            Some(ElfAddress(0x40_2000))
        );
        assert_eq!(
            facts.address_of_mapping(FileOffset(0x3000)),
            Some(ElfAddress(0x40_4000))
        );
        assert_eq!(facts.address_of(FileOffset(0x1000)), Some(ElfAddress(0x40_1000)));
        assert_eq!(facts.address_of_mapping(FileOffset(0)), None);
        assert_eq!(facts.address_of_mapping(FileOffset(0x9000)), None);
    }

    #[test]
    fn what_is_no_elf_file_is_an_error_and_never_a_panic() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        for bytes in [&b""[..], b"\x7fELF", b"#!/bin/sh\n", &own[..64], &own[..200]] {
            assert!(read_facts(&file_of(bytes)).is_err() || bytes.len() >= 64);
        }
    }

    #[test]
    fn hostile_headers_cost_bounded_work() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let head = &own[..own.len().min(64 << 10)];
        for at in 0..1024 {
            for value in [0x00, 0x7f, 0xff] {
                let mut bytes = head.to_vec();
                bytes[at] = value;
                let _ = read_facts(&file_of(&bytes)).map(|facts| facts.address_of(FileOffset(u64::MAX)));
            }
        }
    }
}
