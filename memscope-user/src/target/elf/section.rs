//! The section table: names, addresses and file ranges.

use object::LittleEndian as LE;
use object::elf::{FileHeader64, SHF_ALLOC, SHF_COMPRESSED, SHN_XINDEX, SHT_NOBITS, SectionHeader64};
use object::pod;

use super::ElfError;
use super::bytes::Checked;
use crate::target::address::{ElfAddress, FileOffset};

/// No linker writes nearly as many (one a function, with `-ffunction-sections` and no merging, in relocatable files only).
const MAX_SECTIONS: u64 = 1 << 17;

/// Linkers' own names have some twenty letters.
const MAX_NAME: usize = 255;

/// One section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name; bytes that are not UTF-8 are replaced.
    pub name: String,
    /// `sh_type` (elf(5)).
    pub kind: u32,
    /// Its address when it is loaded, 0 when it is not.
    pub address: ElfAddress,
    /// Where the file holds it.
    pub offset: FileOffset,
    /// Bytes; in the file too, except for `SHT_NOBITS`.
    pub size: u64,
    /// Index of a section it refers to, such as a symbol table's strings.
    pub link: usize,
    /// Part of the running image.
    pub loaded: bool,
    /// Holds no bytes in this file: zeroed memory, or what a separate debug file leaves out.
    pub absent: bool,
    /// Compressed by the linker.
    pub compressed: bool,
}

/// Reads the section table; an image without one has none.
pub(super) fn read(bytes: &Checked, header: &FileHeader64<LE>) -> Result<Vec<Section>, ElfError> {
    let table = FileOffset(header.e_shoff.get(LE));
    if table.0 == 0 {
        return Ok(Vec::new());
    }
    let entry = size_of::<SectionHeader64<LE>>() as u64;
    if u64::from(header.e_shentsize.get(LE)) != entry {
        return Err(ElfError::Malformed("section header size (e_shentsize)"));
    }
    // More than 0xff00 sections: the count and the index of the name table are in the first header.
    let mut count = u64::from(header.e_shnum.get(LE));
    let mut names_at = u64::from(header.e_shstrndx.get(LE).0);
    if count == 0 || names_at == u64::from(SHN_XINDEX.0) {
        let first = bytes.read("the first section header", table, entry)?;
        let (first, _) =
            pod::from_bytes::<SectionHeader64<LE>>(&first).map_err(|()| ElfError::Malformed("first section header"))?;
        if count == 0 {
            count = first.sh_size.get(LE);
        }
        if names_at == u64::from(SHN_XINDEX.0) {
            names_at = u64::from(first.sh_link.get(LE));
        }
    }
    if count > MAX_SECTIONS {
        return Err(ElfError::TooLarge {
            what: "the section table",
            size: count.saturating_mul(entry),
            limit: MAX_SECTIONS * entry,
        });
    }
    let raw = bytes.read("the section table", table, count * entry)?;
    let headers =
        pod::slice_from_all_bytes::<SectionHeader64<LE>>(&raw).map_err(|()| ElfError::Malformed("section table"))?;
    let names = match usize::try_from(names_at).ok().and_then(|index| headers.get(index)) {
        Some(section) if section.sh_type.get(LE) != SHT_NOBITS => bytes.read(
            "the section names",
            FileOffset(section.sh_offset.get(LE)),
            section.sh_size.get(LE),
        )?,
        _ => Vec::new(),
    };
    Ok(headers.iter().map(|header| section(header, &names)).collect())
}

fn section(header: &SectionHeader64<LE>, names: &[u8]) -> Section {
    let flags = header.sh_flags.get(LE);
    Section {
        name: String::from_utf8_lossy(text_at(names, header.sh_name.get(LE), MAX_NAME).unwrap_or_default())
            .into_owned(),
        kind: header.sh_type.get(LE).0,
        address: ElfAddress(header.sh_addr.get(LE)),
        offset: FileOffset(header.sh_offset.get(LE)),
        size: header.sh_size.get(LE),
        link: header.sh_link.get(LE) as usize,
        loaded: flags.contains(SHF_ALLOC),
        absent: header.sh_type.get(LE) == SHT_NOBITS,
        compressed: flags.contains(SHF_COMPRESSED),
    }
}

/// The zero-terminated text at an offset of a string table, at most `longest` bytes of it; `None` past its end, without
/// a terminator, or when it is longer. The limit keeps a table of nothing but letters from being walked once a symbol.
pub(super) fn text_at(table: &[u8], offset: u32, longest: usize) -> Option<&[u8]> {
    let text = table.get(offset as usize..)?;
    let text = text.get(..=longest).unwrap_or(text);
    let end = text.iter().position(|byte| *byte == 0)?;
    Some(&text[..end])
}
