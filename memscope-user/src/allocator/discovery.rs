//! Which functions of a target allocate and free: found in every image it has loaded, with the reason for whatever was
//! left out.
//!
//! Every definition found is probed, also one that another allocator has taken the place of (LD_PRELOAD): the C
//! library's is still there for callers that ask for it by another way (`dlsym(RTLD_NEXT)`, `__libc_malloc`, another
//! link namespace), and a probe that is never hit costs nothing. A call inside a probed call is not counted again.

mod definitions;
mod indirect;
mod owner;
mod plan;
mod reach;
mod text;
pub mod throwing;

use std::collections::BTreeMap;

use memscope_ebpf::call::{CallIndex, CallSpec};

use super::catalogue::AllocatorName;
use super::spec::{self, CustomSpec, ResolveError, Resolved};
use crate::target::address::{BuildId, ElfAddress, FileOffset};
use crate::target::loaded::{Content, LoadedImage};
use crate::target::memory::TargetMemory;

use definitions::Definitions;
pub(crate) use definitions::MAX_DEFINITIONS;
pub(super) use indirect::Indirect;

/// The index of a call before all are known.
const UNNUMBERED: CallIndex = CallIndex(u16::MAX);

const UNNUMBERABLE: &str = "more functions than can be numbered";

/// A function to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFunction {
    /// What it does, for the probe's cookie. Its index counts all functions of a [`Discovery`] from 0.
    pub call: CallSpec,
    /// The name a report shows.
    pub name: String,
    /// Other names of the same code.
    pub aliases: Vec<String>,
    /// Index of its image in [`Discovery::looked_at`], which has the order of the images given.
    pub module: usize,
    /// Its first instruction.
    pub address: ElfAddress,
    /// The same in the file: where the kernel is told to put the probe.
    pub offset: FileOffset,
    /// Bytes of code; 0 when the symbols do not say.
    pub size: u64,
}

/// A function that was found and is not probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

impl LeftOut {
    fn new(name: &str, reason: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            reason: reason.into(),
        }
    }
}

/// One allocator in one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocatorFound {
    /// Whose functions they are.
    pub name: AllocatorName,
    /// Index of the image in [`Discovery::looked_at`].
    pub module: usize,
    /// The functions to probe, by address.
    pub functions: Vec<FoundFunction>,
    /// What it defines and is not probed.
    pub left_out: Vec<LeftOut>,
    /// What else a person should know of it.
    pub notes: Vec<String>,
}

/// One image that was looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleLooked {
    /// Its path as the target sees it.
    pub path: String,
    /// The file has been unlinked or replaced since it was loaded.
    pub deleted: bool,
    /// Its build id.
    pub build_id: Option<BuildId>,
    /// What came of it.
    pub outcome: Outcome,
}

/// What looking into an image came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It implements these allocators.
    Allocators(Vec<AllocatorName>),
    /// It defines no function of the catalogue.
    Nothing {
        /// It has lost its symbols, so functions that it does not export would not be seen.
        stripped: bool,
    },
    /// It defines functions of the catalogue that are not probed.
    Ignored {
        /// Why.
        reason: String,
    },
    /// It could not be looked into, or not wholly.
    Unreadable {
        /// Why.
        reason: String,
    },
    /// It defines more functions with the names of allocators' than are looked at.
    TooMany,
}

/// What was found in a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovery {
    /// The allocators, in the order of the images.
    pub found: Vec<AllocatorFound>,
    /// Every image looked into, in the order given.
    pub looked_at: Vec<ModuleLooked>,
}

impl Outcome {
    /// This, and functions named by hand besides.
    fn and(self, name: AllocatorName) -> Self {
        match self {
            Self::Allocators(mut names) => {
                names.push(name);
                Self::Allocators(names)
            }
            // Said of some by hand or not, the others would be missed.
            Self::TooMany => self,
            Self::Nothing { .. } | Self::Ignored { .. } | Self::Unreadable { .. } => Self::Allocators(vec![name]),
        }
    }
}

impl Discovery {
    /// The functions to probe, in the order of their call indices.
    pub fn functions(&self) -> impl Iterator<Item = &FoundFunction> {
        self.found.iter().flat_map(|allocator| &allocator.functions)
    }

    /// Whether blocks can be seen to be born at all: an allocator of which only `free` is found is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        use memscope_ebpf::call::CallKind;
        !self
            .functions()
            .any(|function| matches!(function.call.kind, CallKind::Alloc | CallKind::Realloc))
    }

    /// The image with more functions than can be looked at, or that has the first that cannot be numbered. Blocks would be
    /// missed: its process is not to be traced.
    #[must_use]
    pub fn overfull(&self) -> Option<&ModuleLooked> {
        let unnumbered =
            |allocator: &&AllocatorFound| allocator.left_out.iter().any(|left| left.reason == UNNUMBERABLE);
        let too_many = |module: &&ModuleLooked| module.outcome == Outcome::TooMany;
        let by_number = || self.looked_at.get(self.found.iter().find(unnumbered)?.module);
        self.looked_at.iter().find(too_many).or_else(by_number)
    }

    /// Numbers the calls anew. Those past the last number are left out; see [`Self::overfull`].
    pub(super) fn number(&mut self) {
        let mut next = 0;
        for allocator in &mut self.found {
            let room = usize::from(UNNUMBERED.0 - next);
            for function in allocator.functions.drain(room.min(allocator.functions.len())..) {
                allocator.left_out.push(LeftOut::new(&function.name, UNNUMBERABLE));
            }
            for function in &mut allocator.functions {
                function.call.index = CallIndex(next);
                next += 1;
            }
        }
    }
}

/// Finds the allocation functions of a target in the images it has loaded.
#[must_use]
pub fn discover(images: &[LoadedImage], memory: &dyn TargetMemory) -> Discovery {
    find(&Indirect { images, memory }, &BTreeMap::new(), false)
}

/// The same, with functions named by hand. What is said of a function by hand holds against the catalogue.
///
/// # Errors
/// When a specification names nothing in these images.
pub fn discover_with(
    images: &[LoadedImage],
    memory: &dyn TargetMemory,
    specs: &[CustomSpec],
) -> Result<Discovery, ResolveError> {
    discover_wanted(
        images,
        memory,
        Wanted {
            by_hand: specs,
            regions: false,
            accept_exceptions: false,
        },
    )
}

/// What is looked for besides the allocators known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// Functions named by hand.
    pub by_hand: &'a [CustomSpec],
    /// mmap and its kin.
    pub regions: bool,
    /// Functions that may throw get return probes all the same.
    pub accept_exceptions: bool,
}

/// The same, with all that can be wanted.
///
/// # Errors
/// As [`discover_with`].
pub fn discover_wanted(
    images: &[LoadedImage],
    memory: &dyn TargetMemory,
    wanted: Wanted<'_>,
) -> Result<Discovery, ResolveError> {
    let indirect = Indirect { images, memory };
    let by_hand = spec::resolve(wanted.by_hand, &indirect)?;
    Ok(find(&indirect, &by_hand, wanted.regions))
}

fn find(indirect: &Indirect<'_>, by_hand: &BTreeMap<(usize, ElfAddress), Resolved<'_>>, regions: bool) -> Discovery {
    let mut discovery = Discovery::default();
    for (module, loaded) in indirect.images.iter().enumerate() {
        let (build_id, outcome) = match &loaded.content {
            Ok(content) => {
                let first = discovery.found.len();
                let mut outcome = look(module, content, indirect, regions, &mut discovery.found);
                let custom = take_by_hand(module, content, by_hand, &mut discovery.found[first..]);
                if !custom.functions.is_empty() {
                    outcome = outcome.and(custom.name.clone());
                    discovery.found.push(custom);
                }
                (content.image.build_id().cloned(), outcome)
            }
            Err(error) => {
                let reason = error.to_string();
                (None, Outcome::Unreadable { reason })
            }
        };
        discovery.looked_at.push(ModuleLooked {
            path: loaded.path().to_string_lossy().into_owned(),
            deleted: loaded.mapping.deleted,
            build_id,
            outcome,
        });
    }
    reach::note(indirect, &mut discovery);
    discovery.number();
    discovery
}

/// The functions of one image that were named by hand, taken away from the allocators that had them.
fn take_by_hand(
    module: usize,
    content: &Content,
    by_hand: &BTreeMap<(usize, ElfAddress), Resolved<'_>>,
    found: &mut [AllocatorFound],
) -> AllocatorFound {
    let mut custom = AllocatorFound {
        name: AllocatorName::Custom,
        module,
        functions: Vec::new(),
        left_out: Vec::new(),
        notes: Vec::new(),
    };
    let own = by_hand.range((module, ElfAddress(0))..=(module, ElfAddress(u64::MAX)));
    for (resolved, offset) in own.filter_map(|(_, resolved)| {
        let offset = content.image.segments().to_offset(resolved.address)?;
        Some((resolved, offset))
    }) {
        let zero_size_frees = custom.name.zero_size_frees();
        custom.functions.push(FoundFunction {
            call: resolved.spec.role.to_spec(zero_size_frees, UNNUMBERED),
            name: resolved.name.clone(),
            aliases: Vec::new(),
            module,
            address: resolved.address,
            offset,
            size: resolved.size,
        });
        for allocator in &mut *found {
            let taken = allocator
                .functions
                .extract_if(.., |function| function.address == resolved.address);
            let taken = taken.map(|function| LeftOut::new(&function.name, "as said of it by hand"));
            allocator.left_out.extend(taken);
        }
    }
    custom
}

fn look(
    module: usize,
    content: &Content,
    indirect: &Indirect<'_>,
    regions: bool,
    found: &mut Vec<AllocatorFound>,
) -> Outcome {
    let image = &content.image;
    let defined = Definitions::of(image);
    if defined.too_many {
        return Outcome::TooMany;
    }
    // glibc's loader brings a minimal allocator for the time before libc's is in place; older ones export it.
    if image.soname().is_some_and(|name| name.starts_with("ld-linux")) {
        return Outcome::Ignored {
            reason: "the dynamic loader: its own minimal allocator serves no one else".into(),
        };
    }
    let mut owners = owner::owners(&defined, image.soname());
    if regions {
        owners.extend(owner::of_regions(&defined));
    }
    let planned = plan::plan(module, image, &defined, &owners, indirect);
    if !planned.is_empty() {
        let names = planned.iter().map(|planned| planned.name.clone()).collect();
        found.extend(planned.into_iter().map(|planned| AllocatorFound {
            name: planned.name,
            module,
            functions: planned.functions,
            left_out: planned.left_out,
            notes: defined.problems.iter().map(ToString::to_string).collect(),
        }));
        return Outcome::Allocators(names);
    }
    if let Some(problem) = defined.problems.first().or_else(|| image.problems().first()) {
        let reason = problem.to_string();
        return Outcome::Unreadable { reason };
    }
    nothing(&defined, image.has_full_symbols())
}

/// Why an image without an allocator has none, when it does define functions with the names of one.
fn nothing(defined: &Definitions, full_symbols: bool) -> Outcome {
    let ignored = |reason: &str| Outcome::Ignored { reason: reason.into() };
    if defined.has("_Znwm") || defined.has("_ZdlPv") {
        return ignored("its C++ operators call malloc");
    }
    if defined.has("__rust_alloc") {
        return ignored("its Rust allocation functions call malloc");
    }
    if defined.has("malloc") != defined.has("free") {
        return ignored("defines only one of malloc and free, which must call another's");
    }
    Outcome::Nothing {
        stripped: !full_symbols,
    }
}

#[cfg(test)]
mod tests;
