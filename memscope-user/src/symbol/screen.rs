//! Whether debug information that a stranger can have written is fit to be handed to a reader without limits.
//!
//! blazesym recurses once for every level of inlined functions and keeps every address range of every function it reads:
//! a file of some megabytes can nest millions deep, or let a million functions share one list of a million ranges. The
//! first ends in a stack overflow, the second in no memory, and neither can be caught. So both are counted first.

use gimli::{EndianSlice, LittleEndian, SectionId};

use crate::target::elf::{ElfError, ElfImage};

/// Levels of inlined functions in each other; compilers stop at some tens.
const NESTING_LIMIT: usize = 256;

/// Address ranges of all functions together; the largest browsers have some millions.
const RANGE_LIMIT: u64 = 8 << 20;

/// Bytes of the sections that are looked through. Larger debug information of strangers is not read.
const SIZE_LIMIT: u64 = 512 << 20;

/// The image's debug information keeps within the limits. Compressed sections do not: how much they hold is known only
/// when they have been decompressed.
#[must_use]
pub fn debug_information_is_tame(image: &ElfImage) -> bool {
    let mut sections = image.sections().iter();
    if sections.any(|section| section.compressed && section.name.starts_with(".debug_")) {
        return false;
    }
    let mut left = SIZE_LIMIT;
    let sections = gimli::DwarfSections::load(|id| load(image, id, &mut left));
    sections.is_ok_and(|sections| {
        let dwarf = sections.borrow(|bytes| EndianSlice::new(bytes, LittleEndian));
        keeps_limits(&dwarf).unwrap_or(false)
    })
}

/// The sections that the shape of functions depends on; the others stay empty.
fn load(image: &ElfImage, id: SectionId, left: &mut u64) -> Result<Vec<u8>, ElfError> {
    let wanted = [
        SectionId::DebugAbbrev,
        SectionId::DebugAddr,
        SectionId::DebugInfo,
        SectionId::DebugLine,
        SectionId::DebugRanges,
        SectionId::DebugRngLists,
    ];
    let Some(section) = image.section(id.name()).filter(|_| wanted.contains(&id)) else {
        return Ok(Vec::new());
    };
    *left = left.checked_sub(section.size).ok_or(ElfError::TooLarge {
        what: "debug information",
        size: section.size,
        limit: SIZE_LIMIT,
    })?;
    image.section_bytes(section)
}

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// `Err`: broken in a way that ends this reader, and perhaps not the other.
fn keeps_limits(dwarf: &gimli::Dwarf<Slice<'_>>) -> gimli::Result<bool> {
    let mut ranges_left = RANGE_LIMIT;
    let mut units = dwarf.units();
    while let Some(header) = units.next()? {
        // blazesym passes over such units too.
        let Ok(unit) = dwarf.unit(header) else { continue };
        if !unit_keeps_limits(unit.unit_ref(dwarf), &mut ranges_left)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn unit_keeps_limits(unit: gimli::UnitRef<'_, Slice<'_>>, ranges_left: &mut u64) -> gimli::Result<bool> {
    let mut entries = unit.entries_raw(None)?;
    // Depths of the inlined functions around the entry that is being read.
    let mut inlined: Vec<isize> = Vec::new();
    while !entries.is_empty() {
        let depth = entries.next_depth();
        let Some(abbreviation) = entries.read_abbreviation()? else {
            continue;
        };
        while inlined.last().is_some_and(|outer| *outer >= depth) {
            inlined.pop();
        }
        let is_inlined = abbreviation.tag() == gimli::DW_TAG_inlined_subroutine;
        if !is_inlined && abbreviation.tag() != gimli::DW_TAG_subprogram {
            entries.skip_attributes(abbreviation.attributes())?;
            continue;
        }
        if is_inlined {
            inlined.push(depth);
            if inlined.len() > NESTING_LIMIT {
                return Ok(false);
            }
        }
        for specification in abbreviation.attributes() {
            let attribute = entries.read_attribute(*specification)?;
            if attribute.name() == gimli::DW_AT_ranges && !count_ranges(unit, attribute.value(), ranges_left)? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn count_ranges<'a>(
    unit: gimli::UnitRef<'_, Slice<'a>>,
    list: gimli::AttributeValue<Slice<'a>>,
    left: &mut u64,
) -> gimli::Result<bool> {
    let Some(offset) = unit.attr_ranges_offset(list)? else {
        return Ok(true);
    };
    // Raw: entries that only set a base make work too.
    let mut ranges = unit.raw_ranges(offset)?;
    while ranges.next()?.is_some() {
        let Some(fewer) = left.checked_sub(1) else {
            return Ok(false);
        };
        *left = fewer;
    }
    Ok(true)
}
