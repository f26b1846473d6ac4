//! An ELF image as unwinding sees it: executable segments and call frame sections. The bytes are the target's: hostile.

use std::borrow::Cow;

use gimli::{BaseAddresses, EhFrameHdr};
use memscope_ebpf::unwind::row::PAGE_SHIFT;
use object::elf::{EM_X86_64, PF_X, PT_GNU_EH_FRAME, PT_LOAD, ProgramHeader64};
use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _};
use object::{CompressionFormat, LittleEndian, Object as _, ObjectSection as _};
use thiserror::Error;

use super::error::UnwindError;
use super::table::MAX_PAGES;

/// A compressed `.debug_frame` is not unpacked past this.
const MAX_UNCOMPRESSED: u64 = 256 << 20;
/// No real image has more executable segments.
const MAX_SEGMENTS: usize = 64;

/// Why a file is no image of ours.
#[derive(Debug, Error)]
pub enum ImageError {
    /// Not ELF, or broken.
    #[error("not a readable ELF file: {0}")]
    Elf(#[from] object::read::Error),
    /// For another machine.
    #[error("built for ELF machine {0}, not for x86-64")]
    Machine(u16),
}

/// One executable segment, as far as the file backs it.
#[derive(Clone, Copy, Debug)]
pub struct CodeSegment<'data> {
    /// `p_vaddr`.
    pub address: u64,
    /// `p_offset`.
    pub offset: u64,
    /// Its bytes.
    pub bytes: &'data [u8],
}

impl CodeSegment<'_> {
    /// One past its last address.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.address + self.bytes.len() as u64
    }
}

/// A call frame section.
#[derive(Clone, Debug)]
pub struct FrameSection<'data> {
    /// ELF address of its first byte; pc-relative pointers count from it.
    pub address: u64,
    /// Its bytes.
    pub bytes: Cow<'data, [u8]>,
}

/// What unwinding needs of an ELF file.
#[derive(Debug)]
pub struct CodeImage<'data> {
    /// Executable segments, sorted by address, not overlapping.
    pub code: Vec<CodeSegment<'data>>,
    /// `.eh_frame`, found by section or, without section headers, through `PT_GNU_EH_FRAME`.
    pub eh_frame: Option<FrameSection<'data>>,
    /// `.debug_frame`, uncompressed.
    pub debug_frame: Option<FrameSection<'data>>,
    /// Address of `.text`, for text-relative pointers.
    pub text: u64,
    /// Address of `.got`, for data-relative pointers.
    pub got: u64,
}

impl<'data> CodeImage<'data> {
    /// Reads an ELF file, or an image of one in memory whose layout is the file's (the vDSO).
    pub fn parse(bytes: &'data [u8]) -> Result<Self, UnwindError> {
        let file = ElfFile64::<LittleEndian>::parse(bytes).map_err(ImageError::Elf)?;
        let machine = file.elf_header().e_machine(LittleEndian);
        if machine != EM_X86_64 {
            return Err(ImageError::Machine(machine.0).into());
        }
        let segments = file.elf_program_headers();
        let section = |name: &str| file.section_by_name(name);
        let eh_frame = section(".eh_frame")
            .and_then(|section| {
                Some(FrameSection {
                    address: section.address(),
                    bytes: Cow::Borrowed(section.data().ok().filter(|data| !data.is_empty())?),
                })
            })
            .or_else(|| eh_frame_by_segment(segments, bytes));
        let debug_frame = section(".debug_frame").and_then(|section| {
            let data = section.compressed_data().ok()?;
            if data.format != CompressionFormat::None && data.uncompressed_size > MAX_UNCOMPRESSED {
                return None;
            }
            Some(FrameSection {
                address: section.address(),
                bytes: data.decompress().ok()?,
            })
        });
        let address_of = |name: &str| section(name).map_or(0, |section| section.address());
        Ok(Self {
            code: code_segments(segments, bytes)?,
            eh_frame,
            debug_frame,
            text: address_of(".text"),
            got: address_of(".got"),
        })
    }
}

fn code_segments<'data>(
    segments: &[ProgramHeader64<LittleEndian>],
    bytes: &'data [u8],
) -> Result<Vec<CodeSegment<'data>>, UnwindError> {
    let mut code: Vec<CodeSegment<'data>> = Vec::new();
    for segment in segments {
        if segment.p_type(LittleEndian) != PT_LOAD || segment.p_flags(LittleEndian).0 & PF_X.0 == 0 {
            continue;
        }
        let address = segment.p_vaddr(LittleEndian);
        let Ok(data) = segment.data(LittleEndian, bytes) else {
            continue;
        };
        // The upper half of the address space is the kernel's; below it, no sum of ours overflows.
        if data.is_empty() || address > i64::MAX as u64 - data.len() as u64 {
            continue;
        }
        code.push(CodeSegment {
            address,
            offset: segment.p_offset(LittleEndian),
            bytes: data,
        });
    }
    if code.len() > MAX_SEGMENTS {
        return Err(UnwindError::TooMuch {
            what: "executable segments",
            limit: MAX_SEGMENTS as u64,
        });
    }
    code.sort_by_key(|segment| segment.address);
    code.dedup_by(|next, kept| next.address < kept.end());
    let span = match (code.first(), code.last()) {
        (Some(first), Some(last)) => last.end() - first.address,
        _ => 0,
    };
    if span >> PAGE_SHIFT >= MAX_PAGES {
        return Err(UnwindError::TooMuch {
            what: "bytes of code",
            limit: MAX_PAGES << PAGE_SHIFT,
        });
    }
    Ok(code)
}

/// Files stripped of their section headers keep `.eh_frame_hdr`, which says where `.eh_frame` begins.
fn eh_frame_by_segment<'data>(
    segments: &[ProgramHeader64<LittleEndian>],
    bytes: &'data [u8],
) -> Option<FrameSection<'data>> {
    let header = segments
        .iter()
        .find(|segment| segment.p_type(LittleEndian) == PT_GNU_EH_FRAME)?;
    let bases = BaseAddresses::default().set_eh_frame_hdr(header.p_vaddr(LittleEndian));
    let parsed = EhFrameHdr::new(header.data(LittleEndian, bytes).ok()?, gimli::LittleEndian)
        .parse(&bases, 8)
        .ok()?;
    let address = parsed.eh_frame_ptr().direct().ok()?;
    segments
        .iter()
        .filter(|segment| segment.p_type(LittleEndian) == PT_LOAD)
        .find_map(|segment| {
            let data = segment.data(LittleEndian, bytes).ok()?;
            let at = usize::try_from(address.checked_sub(segment.p_vaddr(LittleEndian))?).ok()?;
            let rest = data.get(at..).filter(|rest| !rest.is_empty())?;
            Some(FrameSection {
                address,
                bytes: Cow::Borrowed(rest),
            })
        })
}
