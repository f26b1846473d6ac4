//! Where functions that may throw return: each is probed at its exits, since no exception can pass a return probe.
//!
//! [`walk`] proves that the exits found are all there are; where it cannot, the function keeps its return probe and the
//! preflight refuses the target.

mod frames;
mod landing_pads;
mod obstacle;
mod walk;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use memscope_ebpf::call::CallKind;
use serde::{Deserialize, Serialize};

use crate::allocator::discovery::throwing::MayThrow;
use crate::allocator::discovery::{Discovery, FoundFunction};
use crate::target::address::{ElfAddress, FileOffset, RuntimeAddress};
use crate::target::elf::{ElfImage, SlotValue};
use crate::target::loaded::{Content, LoadedImage};
use crate::target::memory::TargetMemory;

use frames::{Frame, Frames};
use walk::{Code, JumpsTo};

pub use obstacle::ExitObstacle;

/// One exit, in its function's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Its address in the image.
    pub address: ElfAddress,
    /// Where it is in the file.
    pub offset: FileOffset,
}

/// How the return of a call is seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Returns {
    /// By a return probe: the function never throws, or that danger is accepted.
    #[default]
    ByReturnProbe,
    /// By probes on all its exits.
    ByExits(Vec<Exit>),
    /// By a return probe, although it may throw, for this reason.
    InDanger(String),
}

impl Returns {
    /// The exits that are probed.
    #[must_use]
    pub fn exits(&self) -> &[Exit] {
        match self {
            Self::ByExits(exits) => exits,
            Self::ByReturnProbe | Self::InDanger(_) => &[],
        }
    }
}

/// How the returns of a discovery's functions are seen: an entry for each that may throw.
#[derive(Debug, Default)]
pub struct SeenReturns(BTreeMap<(usize, ElfAddress), Returns>);

impl SeenReturns {
    /// Return probes for all, which is a danger to those that may throw.
    #[must_use]
    pub fn in_accepted_danger(discovery: &Discovery, images: &[LoadedImage]) -> Self {
        let may_throw = MayThrow::of(images);
        let throwing = discovery
            .functions()
            .filter(|function| may_throw.is_so_of(discovery, function));
        let why = "return probes were asked for, not probes on its exits";
        Self(
            throwing
                .map(|function| ((function.module, function.address), Returns::InDanger(why.to_owned())))
                .collect(),
        )
    }

    /// How this function's are.
    #[must_use]
    pub fn of(&self, function: &FoundFunction) -> Returns {
        self.0
            .get(&(function.module, function.address))
            .cloned()
            .unwrap_or_default()
    }

    /// Whether any function is probed at its exits.
    #[must_use]
    pub fn any_by_exits(&self) -> bool {
        self.0.values().any(|returns| matches!(returns, Returns::ByExits(_)))
    }

    /// Whether this function would be in danger.
    #[must_use]
    pub fn in_danger(&self, function: &FoundFunction) -> bool {
        matches!(self.of(function), Returns::InDanger(_))
    }
}

/// Finds the exits of all functions that may throw.
#[must_use]
pub fn find(discovery: &Discovery, images: &[LoadedImage], memory: &dyn TargetMemory) -> SeenReturns {
    let may_throw = MayThrow::of(images);
    let throwing: Vec<&FoundFunction> = discovery
        .functions()
        .filter(|function| may_throw.is_so_of(discovery, function))
        .collect();
    if throwing.is_empty() {
        return SeenReturns::default();
    }
    let probed: BTreeSet<RuntimeAddress> = discovery
        .functions()
        .filter(|function| matches!(function.call.kind, CallKind::Alloc | CallKind::Realloc))
        .filter_map(|function| {
            let content = images.get(function.module)?.content.as_ref().ok()?;
            Some(content.bias.to_runtime(function.address))
        })
        .collect();
    let mut codes: BTreeMap<usize, Result<ImageCode<'_>, ExitObstacle>> = BTreeMap::new();
    let mut seen = SeenReturns::default();
    for function in throwing {
        let Some(Ok(content)) = images.get(function.module).map(|image| &image.content) else {
            continue;
        };
        let code = codes
            .entry(function.module)
            .or_insert_with(|| ImageCode::read(content, images, memory, &probed));
        let exits = match code {
            Ok(code) => exits_of(code, function.address),
            Err(obstacle) => Err(obstacle.clone()),
        };
        let returns = match exits {
            Ok(exits) => Returns::ByExits(exits),
            Err(obstacle) => Returns::InDanger(format!("its exits are not all known: {obstacle}")),
        };
        seen.0.insert((function.module, function.address), returns);
    }
    seen
}

fn exits_of(code: &ImageCode<'_>, entry: ElfAddress) -> Result<Vec<Exit>, ExitObstacle> {
    let segments = code.content.image.segments();
    walk::exits(code, entry)?
        .into_iter()
        .map(|address| {
            let offset = segments
                .to_offset(address)
                .ok_or(ExitObstacle::OutsideCode { to: address })?;
            Ok(Exit { address, offset })
        })
        .collect()
}

/// The code of one image of the target.
struct ImageCode<'a> {
    content: &'a Content,
    images: &'a [LoadedImage],
    memory: &'a dyn TargetMemory,
    probed: &'a BTreeSet<RuntimeAddress>,
    frames: Frames,
    /// Executable segments: address and bytes.
    text: Vec<(ElfAddress, Vec<u8>)>,
    /// The words that the loader fills in with the address of a function by name.
    slots: BTreeMap<ElfAddress, String>,
}

impl<'a> ImageCode<'a> {
    fn read(
        content: &'a Content,
        images: &'a [LoadedImage],
        memory: &'a dyn TargetMemory,
        probed: &'a BTreeSet<RuntimeAddress>,
    ) -> Result<Self, ExitObstacle> {
        let image = &content.image;
        let executable = image.segments().as_slice().iter().filter(|segment| segment.executable);
        let text = executable.filter_map(|segment| {
            let bytes = image.code(segment.address, segment.file_size).ok()?;
            Some((segment.address, bytes))
        });
        let mut slots = BTreeMap::new();
        // Slots that cannot be read make the jumps through them obstacles.
        let _unreadable = image.visit_slots(&mut |slot| {
            if let SlotValue::Named(name) = slot.value {
                slots.insert(slot.address, name.to_owned());
            }
        });
        Ok(Self {
            content,
            images,
            memory,
            probed,
            frames: Frames::read(image)?,
            text: text.collect(),
            slots,
        })
    }

    /// Where the loader would lead a name, while it has not yet: there is one answer only if all definitions are one.
    fn by_name(&self, name: &str) -> JumpsTo {
        let mut found: BTreeSet<RuntimeAddress> = BTreeSet::new();
        for content in self.images.iter().filter_map(|image| image.content.as_ref().ok()) {
            let _unreadable = content.image.visit_functions(&mut |function| {
                if function.name == name {
                    found.insert(content.bias.to_runtime(function.address));
                }
            });
        }
        let mut goals = found.into_iter().map(|address| self.goal(address, name));
        match (goals.next(), goals.next()) {
            (Some(one), None) => one,
            (None, _) => JumpsTo::Unknown,
            (Some(first), Some(second)) => {
                let all_probed = [&first, &second]
                    .into_iter()
                    .chain(goals.collect::<Vec<_>>().iter())
                    .all(|goal| *goal == JumpsTo::Probed);
                if all_probed {
                    JumpsTo::Probed
                } else {
                    JumpsTo::Elsewhere(name.to_owned())
                }
            }
        }
    }

    fn goal(&self, address: RuntimeAddress, name: &str) -> JumpsTo {
        if self.probed.contains(&address) {
            return JumpsTo::Probed;
        }
        let here = self.content.bias.to_elf(address);
        if is_code(&self.content.image, here) {
            JumpsTo::Here(here)
        } else {
            JumpsTo::Elsewhere(name.to_owned())
        }
    }
}

impl Code for ImageCode<'_> {
    fn bytes(&self, at: ElfAddress) -> &[u8] {
        self.text
            .iter()
            .find_map(|(start, bytes)| {
                let offset = usize::try_from(at.0.checked_sub(start.0)?).ok()?;
                bytes.get(offset..).filter(|rest| !rest.is_empty())
            })
            .unwrap_or_default()
    }

    fn frame(&self, at: ElfAddress) -> Option<&Frame> {
        self.frames.at(at)
    }

    fn landing_pads(&self, frame: &Frame) -> Result<Vec<ElfAddress>, ExitObstacle> {
        /// No table of one function is larger.
        const MOST: u64 = 1 << 20;
        let Some(table) = frame.catch_table else {
            return Ok(Vec::new());
        };
        let bytes = self.content.image.code(table, MOST).unwrap_or_default();
        landing_pads::landing_pads(&bytes, table, frame.start)
    }

    fn jump_through(&self, slot: ElfAddress) -> JumpsTo {
        // A word that nobody but the loader fills in: others may change.
        let Some(name) = self.slots.get(&slot) else {
            return JumpsTo::Unknown;
        };
        let Ok(value) = self.memory.read_word(self.content.bias.to_runtime(slot)) else {
            return JumpsTo::Unknown;
        };
        // Until the first call the word leads back into the image's own procedure linkage table.
        let here = self.content.bias.to_elf(RuntimeAddress(value));
        if is_stub(&self.content.image, here) {
            return self.by_name(name);
        }
        self.goal(RuntimeAddress(value), name)
    }

    fn takes_over(&self, at: ElfAddress) -> bool {
        self.probed.contains(&self.content.bias.to_runtime(at))
    }
}

fn is_code(image: &ElfImage, address: ElfAddress) -> bool {
    image
        .segments()
        .holding(address)
        .is_some_and(|segment| segment.executable)
}

/// `push $n`, after an `endbr64` where the image has them: the second half of a stub of the procedure linkage table.
fn is_stub(image: &ElfImage, address: ElfAddress) -> bool {
    let code = image.code(address, 8).unwrap_or_default();
    let code = code.strip_prefix(&[0xf3, 0x0f, 0x1e, 0xfa]).unwrap_or(&code);
    is_code(image, address) && code.starts_with(&[0x68])
}
