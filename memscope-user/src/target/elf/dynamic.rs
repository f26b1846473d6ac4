//! The dynamic section: the library's own name, and the tables the loader uses when the section table is gone.

use object::LittleEndian as LE;
use object::elf::{self, Dyn64, DynamicTag};
use object::pod;

use super::bytes::Checked;
use super::function::MAX_NAME;
use super::segment::Segments;
use super::{ElfError, text_at};
use crate::target::address::{ElfAddress, FileOffset};

/// No dynamic section has more than some dozens of entries.
const MAX_ENTRIES: u64 = 4096;

/// A table the dynamic section points at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) offset: FileOffset,
    pub(super) size: u64,
}

/// What the dynamic section says, its addresses turned into file offsets.
#[derive(Clone, Debug, Default)]
pub(super) struct Dynamic {
    /// `DT_SONAME`: what a library calls itself, whatever its file is named.
    pub(super) soname: Option<String>,
    pub(super) strings: Option<Table>,
    /// The dynamic symbols, as many as the hash tables vouch for.
    pub(super) symbols: Option<Table>,
    /// Relocations, of data (`DT_RELA`) and of the PLT (`DT_JMPREL`).
    pub(super) relocations: Vec<Table>,
}

/// Reads the dynamic section at `offset`. Entries that lead nowhere are left out.
pub(super) fn read(bytes: &Checked, segments: &Segments, offset: FileOffset, size: u64) -> Result<Dynamic, ElfError> {
    let entry = size_of::<Dyn64<LE>>() as u64;
    let size = size.min(MAX_ENTRIES * entry);
    let raw = bytes.read("the dynamic section", offset, size - size % entry)?;
    let entries = pod::slice_from_all_bytes::<Dyn64<LE>>(&raw).map_err(|()| ElfError::Malformed("dynamic section"))?;
    let value = |tag: DynamicTag| {
        let mut live = entries.iter().take_while(|entry| entry.d_tag.get(LE) != elf::DT_NULL);
        live.find(|entry| entry.d_tag.get(LE) == tag)
            .map(|entry| entry.d_val.get(LE))
    };
    let place = |tag| segments.to_offset(ElfAddress(value(tag)?));
    let table = |at, size| {
        Some(Table {
            offset: place(at)?,
            size: value(size)?,
        })
    };
    let strings = table(elf::DT_STRTAB, elf::DT_STRSZ);
    let soname = strings.and_then(|table| {
        let index = u32::try_from(value(elf::DT_SONAME)?).ok()?;
        let text = bytes.read("the dynamic strings", table.offset, table.size).ok()?;
        String::from_utf8(text_at(&text, index, MAX_NAME)?.to_vec()).ok()
    });
    let count = place(elf::DT_HASH)
        .and_then(|at| sysv_count(bytes, at))
        .or_else(|| gnu_count(bytes, segments, place(elf::DT_GNU_HASH)?));
    let symbols = count.and_then(|count| {
        Some(Table {
            offset: place(elf::DT_SYMTAB)?,
            size: u64::from(count) * size_of::<elf::Sym64<LE>>() as u64,
        })
    });
    Ok(Dynamic {
        soname,
        strings,
        symbols,
        relocations: [(elf::DT_RELA, elf::DT_RELASZ), (elf::DT_JMPREL, elf::DT_PLTRELSZ)]
            .into_iter()
            .filter_map(|(at, size)| table(at, size))
            .collect(),
    })
}

/// The second word of a System V hash table is the number of symbols (gABI, "Hash Table").
fn sysv_count(bytes: &Checked, at: FileOffset) -> Option<u32> {
    word(&bytes.read("the symbol hash table", at, 8).ok()?, 1)
}

/// A GNU hash table names no count: it is one past the last symbol of the highest chain, whose end has its lowest bit set.
fn gnu_count(bytes: &Checked, segments: &Segments, at: FileOffset) -> Option<u32> {
    let header = bytes.read("the symbol hash table", at, 16).ok()?;
    let (bucket_count, first_symbol, bloom_count) = (word(&header, 0)?, word(&header, 1)?, word(&header, 2)?);
    let buckets_at = at.0.checked_add(16 + u64::from(bloom_count) * 8)?;
    let buckets_size = u64::from(bucket_count) * 4;
    let buckets = bytes
        .read("the symbol hash table", FileOffset(buckets_at), buckets_size)
        .ok()?;
    let highest = (0..bucket_count as usize)
        .filter_map(|index| word(&buckets, index))
        .max()?;
    let Some(skipped) = highest.checked_sub(first_symbol) else {
        return Some(first_symbol);
    };
    let chains_at = buckets_at + buckets_size;
    let from = chains_at.checked_add(u64::from(skipped) * 4)?;
    // The chain lies in the same segment; its end bounds the walk.
    let segment = segments.as_slice().iter().find(|segment| {
        from.checked_sub(segment.offset.0)
            .is_some_and(|distance| distance < segment.file_size)
    })?;
    let end = (segment.offset.0 + segment.file_size).min(bytes.size());
    let chain = bytes
        .read("the symbol hash table", FileOffset(from), end.checked_sub(from)?)
        .ok()?;
    let length = (0..chain.len() / 4).position(|index| word(&chain, index).is_some_and(|hash| hash & 1 == 1))?;
    highest.checked_add(u32::try_from(length).ok()?)?.checked_add(1)
}

fn word(bytes: &[u8], index: usize) -> Option<u32> {
    let start = index.checked_mul(4)?;
    let word = bytes.get(start..start.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}
