//! Relocated words: where the loader writes the addresses that indirect functions resolve to.

use object::LittleEndian as LE;
use object::elf::{self, Rela64, SHT_RELA, Sym64};
use object::pod;

use super::bytes::Checked;
use super::dynamic::Dynamic;
use super::function::MAX_NAME;
use super::section::Section;
use super::{ElfError, text_at};
use crate::target::address::{ElfAddress, FileOffset};

/// The most relocations of one image that are looked at, over all its tables: sections may repeat one.
const MAX_RELOCATIONS: u64 = 8 << 20;

/// What the loader writes into a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotValue<'a> {
    /// The address of the function of this name, in whichever image defines it.
    Named(&'a str),
    /// What the resolver at this address of the same image returns (`R_X86_64_IRELATIVE`).
    ResolvedBy(ElfAddress),
}

/// One word the loader fills in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot<'a> {
    /// Where it is.
    pub address: ElfAddress,
    /// What it holds.
    pub value: SlotValue<'a>,
}

/// Gives every slot of the image to `visit`.
pub(super) fn visit(
    bytes: &Checked,
    sections: &[Section],
    dynamic: &Dynamic,
    visit: &mut dyn FnMut(Slot<'_>),
) -> Result<(), ElfError> {
    let entry = size_of::<Rela64<LE>>() as u64;
    let of_sections: Vec<_> = sections
        .iter()
        .filter(|section| section.loaded && section.kind == SHT_RELA.0)
        .map(|section| (section.offset, section.size))
        .collect();
    let tables = if of_sections.is_empty() {
        dynamic
            .relocations
            .iter()
            .map(|table| (table.offset, table.size))
            .collect()
    } else {
        of_sections
    };
    let names = Names::read(bytes, sections, dynamic)?;
    // Tables that share their bytes could be more than the file holds.
    let mut left = (MAX_RELOCATIONS * entry).min(bytes.size());
    for (at, size) in tables {
        left = left.checked_sub(size).ok_or(ElfError::TooLarge {
            what: "a relocation table",
            size,
            limit: left,
        })?;
        let raw = bytes.read("a relocation table", at, size - size % entry)?;
        let relocations =
            pod::slice_from_all_bytes::<Rela64<LE>>(&raw).map_err(|()| ElfError::Malformed("relocation table"))?;
        for relocation in relocations {
            if let Some(slot) = slot(relocation, &names) {
                visit(slot);
            }
        }
    }
    Ok(())
}

fn slot<'a>(relocation: &Rela64<LE>, names: &'a Names) -> Option<Slot<'a>> {
    let info = relocation.r_info.get(LE);
    let addend = relocation.r_addend.get(LE);
    let (symbol, kind) = ((info >> 32) as u32, (info & 0xffff_ffff) as u32);
    let value = if kind == elf::R_X86_64_IRELATIVE.0 {
        SlotValue::ResolvedBy(ElfAddress(addend.cast_unsigned()))
    } else if [elf::R_X86_64_JUMP_SLOT.0, elf::R_X86_64_GLOB_DAT.0].contains(&kind)
        || (kind == elf::R_X86_64_64.0 && addend == 0)
    {
        SlotValue::Named(names.of(symbol)?)
    } else {
        return None;
    };
    Some(Slot {
        address: ElfAddress(relocation.r_offset.get(LE)),
        value,
    })
}

/// The dynamic symbols' names, by index.
#[derive(Default)]
struct Names {
    symbols: Vec<u8>,
    strings: Vec<u8>,
}

impl Names {
    fn read(bytes: &Checked, sections: &[Section], dynamic: &Dynamic) -> Result<Self, ElfError> {
        let by_section = sections
            .iter()
            .find(|section| section.kind == elf::SHT_DYNSYM.0 && !section.absent)
            .and_then(|section| {
                let strings = sections.get(section.link)?;
                Some(((section.offset, section.size), (strings.offset, strings.size)))
            });
        let by_dynamic = || {
            let (symbols, strings) = (dynamic.symbols?, dynamic.strings?);
            Some(((symbols.offset, symbols.size), (strings.offset, strings.size)))
        };
        let Some((symbols, strings)): Option<((FileOffset, u64), (FileOffset, u64))> = by_section.or_else(by_dynamic)
        else {
            return Ok(Self::default());
        };
        Ok(Self {
            symbols: bytes.read("the dynamic symbols", symbols.0, symbols.1)?,
            strings: bytes.read("the dynamic strings", strings.0, strings.1)?,
        })
    }

    fn of(&self, index: u32) -> Option<&str> {
        let start = (index as usize).checked_mul(size_of::<Sym64<LE>>())?;
        let (symbol, _) = pod::from_bytes::<Sym64<LE>>(self.symbols.get(start..)?).ok()?;
        std::str::from_utf8(text_at(&self.strings, symbol.st_name.get(LE), MAX_NAME)?).ok()
    }
}
