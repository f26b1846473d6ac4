//! One ELF image of the target: what it is, where its parts are, and which functions it defines.
//!
//! Every byte of it belongs to the target and may lie: ranges are checked against the file before memory is taken for
//! them, tables have limits, nothing recurses. An image whose program headers cannot be read is refused; anything else
//! that is wrong makes the answer poorer and is said in [`ElfImage::problems`] or by the call that met it.

mod bytes;
mod dynamic;
mod error;
mod function;
mod minidebug;
mod note;
mod section;
mod segment;
mod slot;

use object::LittleEndian as LE;
use object::elf::{self as format, FileHeader64, ProgramHeader64};
use object::pod;

pub use bytes::{FileBytes, ImageBytes, MAX_PIECE};
pub use error::ElfError;
pub use function::{Function, FunctionKind, SymbolTable};
pub use section::Section;
pub use segment::{LoadBias, Segment, Segments};
pub use slot::{Slot, SlotValue};

use bytes::Checked;
use dynamic::Dynamic;
use section::text_at;

use super::address::{BuildId, ElfAddress, FileOffset};

/// `e_machine` of x86-64.
const X86_64: u16 = 62;

/// Note sections and segments in which the build id is looked for; linkers write some five.
const MAX_NOTE_PARTS: usize = 64;

/// No linker writes more than some twenty program headers.
const MAX_PROGRAM_HEADERS: u16 = 1024;

/// Whether the image is loaded where it says, or anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKind {
    /// A program at fixed addresses (`ET_EXEC`).
    FixedAddress,
    /// A library or a position-independent program (`ET_DYN`).
    PositionIndependent,
}

/// A parsed image. Its tables are read when they are asked for.
pub struct ElfImage {
    bytes: Checked,
    kind: ImageKind,
    interpreter: bool,
    segments: Segments,
    sections: Vec<Section>,
    dynamic: Dynamic,
    build_id: Option<BuildId>,
    problems: Vec<ElfError>,
    debug_file: Option<Box<ElfImage>>,
}

impl ElfImage {
    /// Reads the headers of an image.
    ///
    /// # Errors
    /// When it is no 64-bit x86-64 program or library, or its program headers cannot be read.
    pub fn parse(bytes: impl ImageBytes + 'static) -> Result<Self, ElfError> {
        let bytes = Checked::new(bytes);
        let header = file_header(&bytes)?;
        let kind = match header.e_type.get(LE) {
            format::ET_EXEC => ImageKind::FixedAddress,
            format::ET_DYN => ImageKind::PositionIndependent,
            other => return Err(ElfError::NotLoadable(other.0)),
        };
        let raw = program_headers(&bytes, &header)?;
        let headers = pod::slice_from_all_bytes::<ProgramHeader64<LE>>(&raw)
            .map_err(|()| ElfError::Malformed("program header table"))?;
        let segments = Segments::new(headers);
        let mut problems = Vec::new();
        let sections = section::read(&bytes, &header).unwrap_or_else(|error| {
            problems.push(error);
            Vec::new()
        });
        let dynamic = match headers
            .iter()
            .find(|header| header.p_type.get(LE) == format::PT_DYNAMIC)
        {
            Some(at) if at.p_filesz.get(LE) > 0 => {
                let (offset, size) = (FileOffset(at.p_offset.get(LE)), at.p_filesz.get(LE));
                dynamic::read(&bytes, &segments, offset, size).unwrap_or_else(|error| {
                    problems.push(error);
                    Dynamic::default()
                })
            }
            _ => Dynamic::default(),
        };
        let build_id = find_build_id(&bytes, headers, &sections);
        Ok(Self {
            kind,
            interpreter: headers.iter().any(|header| header.p_type.get(LE) == format::PT_INTERP),
            bytes,
            segments,
            sections,
            dynamic,
            build_id,
            problems,
            debug_file: None,
        })
    }

    /// Fixed or position-independent.
    #[must_use]
    pub fn kind(&self) -> ImageKind {
        self.kind
    }

    /// Names a dynamic loader (`PT_INTERP`): a dynamically linked program.
    #[must_use]
    pub fn has_interpreter(&self) -> bool {
        self.interpreter
    }

    /// The loadable segments and their conversions.
    #[must_use]
    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    /// The GNU build id, if the linker wrote one.
    #[must_use]
    pub fn build_id(&self) -> Option<&BuildId> {
        self.build_id.as_ref()
    }

    /// What the library calls itself (`DT_SONAME`).
    #[must_use]
    pub fn soname(&self) -> Option<&str> {
        self.dynamic.soname.as_deref()
    }

    /// What could not be read of it.
    #[must_use]
    pub fn problems(&self) -> &[ElfError] {
        &self.problems
    }

    /// The sections in the order of the file.
    #[must_use]
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The first section of this name.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The bytes of a section; none for one that the file leaves out.
    ///
    /// # Errors
    /// When they are not in the file, too many ([`MAX_PIECE`]), or compressed.
    pub fn section_bytes(&self, section: &Section) -> Result<Vec<u8>, ElfError> {
        if section.compressed {
            return Err(ElfError::Malformed("section: compressed sections are not read"));
        }
        if section.absent {
            return Ok(Vec::new());
        }
        self.bytes.read("a section", section.offset, section.size)
    }

    /// Up to `length` bytes of the loaded image from `address`, less at the end of its segment.
    ///
    /// # Errors
    /// When no byte of the file backs the address, or the file is shorter than it says.
    pub fn code(&self, address: ElfAddress, length: u64) -> Result<Vec<u8>, ElfError> {
        let segment = self.segments.holding(address).ok_or(ElfError::NotMapped(address.0))?;
        let distance = address.0 - segment.address.0;
        let offset = FileOffset(segment.offset.0 + distance);
        let left_in_file = self.bytes.size().saturating_sub(offset.0);
        let length = length.min(segment.file_size - distance).min(left_in_file);
        self.bytes.read("code", offset, length)
    }

    /// Whether it carries the symbols that `strip` removes, itself or in a debug file that was added.
    #[must_use]
    pub fn has_full_symbols(&self) -> bool {
        let full = |image: &Self| {
            let tables = function::tables(&image.sections, &image.dynamic, SymbolTable::Full);
            tables.iter().any(|table| table.table == SymbolTable::Full)
        };
        full(self) || self.debug_file.as_deref().is_some_and(full)
    }

    /// Takes the symbols of a separate debug file as its own.
    ///
    /// # Errors
    /// Gives the debug file back when its build id is not this image's.
    pub fn add_debug_file(&mut self, debug: Self) -> Result<(), Box<Self>> {
        if self.build_id.is_none() || self.build_id != debug.build_id {
            return Err(Box::new(debug));
        }
        self.debug_file = Some(Box::new(debug));
        Ok(())
    }

    /// Gives every function that the image defines to `visit`: `.dynsym`, `.symtab`, `.gnu_debugdata`, then the debug
    /// file. The same function may come more than once, under several names and from several tables.
    ///
    /// Returns what could not be read; the other tables are visited all the same.
    pub fn visit_functions(&self, visit: &mut dyn FnMut(Function<'_>)) -> Vec<ElfError> {
        let mut problems = Vec::new();
        self.visit_own(SymbolTable::Full, visit, &mut problems);
        match self.mini_debug() {
            Ok(Some(mini)) => mini.visit_own(SymbolTable::MiniDebug, visit, &mut problems),
            Ok(None) => {}
            Err(error) => problems.push(error),
        }
        if let Some(debug) = &self.debug_file {
            debug.visit_own(SymbolTable::DebugFile, visit, &mut problems);
        }
        problems
    }

    /// Gives every word that the loader fills with a function's address to `visit`.
    ///
    /// # Errors
    /// When a relocation table cannot be read.
    pub fn visit_slots(&self, visit: &mut dyn FnMut(Slot<'_>)) -> Result<(), ElfError> {
        slot::visit(&self.bytes, &self.sections, &self.dynamic, visit)
    }

    fn visit_own(&self, full: SymbolTable, visit: &mut dyn FnMut(Function<'_>), problems: &mut Vec<ElfError>) {
        for table in function::tables(&self.sections, &self.dynamic, full) {
            // The dynamic table of a debug file repeats its program's, or is left out.
            if full == SymbolTable::Full || table.table == full {
                problems.extend(table.visit(&self.bytes, visit).err());
            }
        }
    }

    /// The image in `.gnu_debugdata`. It is not looked into for another.
    fn mini_debug(&self) -> Result<Option<Self>, ElfError> {
        let Some(section) = self.section(".gnu_debugdata").filter(|section| !section.absent) else {
            return Ok(None);
        };
        if section.size > minidebug::MAX_INPUT {
            return Err(ElfError::TooLarge {
                what: ".gnu_debugdata",
                size: section.size,
                limit: minidebug::MAX_INPUT,
            });
        }
        let image = minidebug::decompress(&self.section_bytes(section)?)?;
        Self::parse(image).map(Some)
    }
}

fn file_header(bytes: &Checked) -> Result<FileHeader64<LE>, ElfError> {
    let size = size_of::<FileHeader64<LE>>() as u64;
    let ident = bytes.read("the ELF identification", FileOffset(0), size.min(bytes.size()))?;
    if !ident.starts_with(b"\x7fELF") {
        return Err(ElfError::NotElf);
    }
    match (ident.get(4), ident.get(5)) {
        (Some(1), _) => return Err(ElfError::Not64Bit),
        (_, Some(2)) => return Err(ElfError::NotLittleEndian),
        _ => {}
    }
    let raw = bytes.read("the ELF header", FileOffset(0), size)?;
    let (header, _) = pod::from_bytes::<FileHeader64<LE>>(&raw).map_err(|()| ElfError::Malformed("ELF header"))?;
    let machine = header.e_machine.get(LE).0;
    if machine != X86_64 {
        return Err(ElfError::OtherMachine(machine));
    }
    Ok(*header)
}

fn program_headers(bytes: &Checked, header: &FileHeader64<LE>) -> Result<Vec<u8>, ElfError> {
    let count = header.e_phnum.get(LE);
    let entry = size_of::<ProgramHeader64<LE>>() as u64;
    if count == 0 {
        return Ok(Vec::new());
    }
    if u64::from(header.e_phentsize.get(LE)) != entry {
        return Err(ElfError::Malformed("program header size (e_phentsize)"));
    }
    if count > MAX_PROGRAM_HEADERS {
        return Err(ElfError::TooLarge {
            what: "the program header table",
            size: u64::from(count) * entry,
            limit: u64::from(MAX_PROGRAM_HEADERS) * entry,
        });
    }
    let at = FileOffset(header.e_phoff.get(LE));
    bytes.read("the program header table", at, u64::from(count) * entry)
}

fn find_build_id(bytes: &Checked, headers: &[ProgramHeader64<LE>], sections: &[Section]) -> Option<BuildId> {
    let in_segments = headers
        .iter()
        .filter(|header| header.p_type.get(LE) == format::PT_NOTE)
        .map(|header| (header.p_offset.get(LE), header.p_filesz.get(LE), header.p_align.get(LE)));
    let in_sections = sections
        .iter()
        .filter(|section| section.kind == format::SHT_NOTE.0 && !section.absent)
        .map(|section| (section.offset.0, section.size, 4));
    // A debug file keeps its program's headers but not always the notes' bytes where they point; its sections do.
    let mut parts = in_sections.take(MAX_NOTE_PARTS).chain(in_segments.take(MAX_NOTE_PARTS));
    parts.find_map(|(offset, size, align)| {
        let notes = bytes
            .read("a note", FileOffset(offset), size.min(note::MAX_NOTES))
            .ok()?;
        note::build_id(&notes, align)
    })
}

#[cfg(test)]
mod tests;
