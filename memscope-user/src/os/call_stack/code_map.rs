//! The target's executable mappings, each with its image's call frame information, read when a walk comes to it.

use std::cell::OnceCell;

use super::frame_info::{Caller, FrameInfo};
use super::registers::Registers;
use super::walk::WalkEnd;
use crate::target::address::{ElfAddress, FileOffset, RuntimeAddress};
use crate::target::elf::{ElfImage, ImageBytes as _};
use crate::target::files::open_mapped;
use crate::target::identity::Pid;
use crate::target::mapping::Mapping;
use crate::target::memory::{ProcessMemory, TargetMemory};

/// The longest image that is read whole, for want of section headers.
const LONGEST_IMAGE: u64 = 1 << 30;
/// No kernel's vDSO is nearly as long.
const MAX_VDSO: u64 = 1 << 16;

/// Executable mappings by address.
pub struct CodeMap {
    pid: Pid,
    code: Vec<Code>,
}

struct Code {
    mapping: Mapping,
    image: OnceCell<Option<MappedInfo>>,
}

struct MappedInfo {
    info: FrameInfo,
    /// Runtime address less the image's own.
    bias: u64,
}

/// Code at an address.
pub struct CodeAt<'a> {
    image: Option<&'a MappedInfo>,
    at: RuntimeAddress,
    is_trampoline: bool,
}

impl CodeMap {
    /// Of a process's mappings.
    pub fn new(pid: Pid, mappings: &[Mapping]) -> Self {
        let code = mappings.iter().filter(|mapping| mapping.executable);
        Self {
            pid,
            code: code
                .map(|mapping| Code {
                    mapping: mapping.clone(),
                    image: OnceCell::new(),
                })
                .collect(),
        }
    }

    /// The code at an address; `None` where there is none.
    pub fn at(&self, address: RuntimeAddress) -> Option<CodeAt<'_>> {
        let next = self.code.partition_point(|code| code.mapping.start <= address);
        let code = self.code.get(next.checked_sub(1)?)?;
        if address >= code.mapping.end {
            return None;
        }
        let image = code.image.get_or_init(|| load(self.pid, &code.mapping)).as_ref();
        Some(CodeAt {
            image,
            at: address,
            is_trampoline: code.mapping.path == "[uprobes]",
        })
    }
}

impl CodeAt<'_> {
    /// The kernel's trampolines of return probes.
    pub fn is_trampoline(&self) -> bool {
        self.is_trampoline
    }

    /// The caller of a frame that stands here; `None` when nothing is said about this code.
    pub fn caller(&self, registers: &Registers, memory: &dyn TargetMemory) -> Result<Option<Caller>, WalkEnd> {
        let Some(image) = self.image else { return Ok(None) };
        let code = ElfAddress(self.at.0.wrapping_sub(image.bias));
        image.info.caller(registers, code, image.bias, memory)
    }
}

fn load(pid: Pid, mapping: &Mapping) -> Option<MappedInfo> {
    let image = if mapping.path == "[vdso]" {
        let length = (mapping.end.0 - mapping.start.0).min(MAX_VDSO);
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        let memory = ProcessMemory::open(pid).ok()?;
        memory.read_into(mapping.start, &mut bytes).ok()?;
        ElfImage::parse(bytes).ok()?
    } else {
        ElfImage::parse(open_mapped(pid, mapping).ok()?).ok()?
    };
    let bias = image.segments().bias_of(mapping)?;
    let mut info = FrameInfo::of_image(&image);
    if info.is_empty() {
        // Stripped of its section headers: the program headers lead to it too.
        info = whole_file(pid, mapping).map_or(info, |bytes| FrameInfo::of_file(&bytes));
    }
    Some(MappedInfo {
        info,
        bias: bias.to_runtime(ElfAddress(0)).0,
    })
}

fn whole_file(pid: Pid, mapping: &Mapping) -> Option<Vec<u8>> {
    let file = open_mapped(pid, mapping).ok()?;
    let length = Some(file.size()).filter(|length| *length <= LONGEST_IMAGE)?;
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    file.read_into(FileOffset(0), &mut bytes).ok()?;
    Some(bytes)
}
