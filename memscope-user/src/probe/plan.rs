//! What is to be probed: the functions found, and the site each probe will sit on.

use std::collections::BTreeMap;

use memscope_ebpf::call::{CallIndex, CallKind, CallSpec};
use serde::{Deserialize, Serialize};

use super::exits::{Returns, SeenReturns};
use super::site::{Module, ProbeSite, SiteClass, SiteNeed, choose_site_in_module};
use crate::allocator::discovery::{Discovery, FoundFunction};
use crate::target::address::{BuildId, ElfAddress, FileOffset, RuntimeAddress};
use crate::target::loaded::{Content, LoadedImage};
use crate::target::mapping::FileKey;

/// Bytes of a function looked at when its symbol does not say how long it is.
const UNKNOWN_LENGTH: u64 = 512;
/// The longest function looked at whole; sites lie within the first few instructions.
const LONGEST_FUNCTION: u64 = 1 << 16;

/// A function to be probed. A call index is a position in the session's list of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedCall {
    /// What it does, as the cookie of its probes: arguments in the registers that hold them at the site.
    pub cookie: u64,
    /// Its name, the first of its aliases.
    pub function: String,
    /// Which allocator it belongs to.
    pub allocator: String,
    /// Its module, as the target sees it, lossy.
    pub module: String,
    /// The module's build id.
    pub build_id: Option<BuildId>,
    /// The file itself: the one a probe sits in, whatever its name now leads to.
    pub file: Option<FileKey>,
    /// Where it begins in the target.
    pub entry: RuntimeAddress,
    /// Where it begins in the module's file.
    pub entry_offset: FileOffset,
    /// Bytes of its code, as its symbol says; 0: unknown.
    pub length: u64,
    /// The site in the module's file.
    pub site_offset: FileOffset,
    /// The site.
    pub site: ProbeSite,
    /// How its returns are seen.
    #[serde(default)]
    pub returns: Returns,
}

impl PlannedCall {
    /// The same function under another number.
    #[must_use]
    pub fn numbered(mut self, index: CallIndex) -> Self {
        if let Some(spec) = self.spec() {
            self.cookie = CallSpec { index, ..spec }.to_cookie();
        }
        self
    }

    /// Whether both are the same function of the same file, doing the same: one probe serves them.
    #[must_use]
    pub fn is_same_function(&self, other: &Self) -> bool {
        let row = |call: &Self| call.clone().numbered(CallIndex(0)).cookie;
        self.file == other.file
            && self.module == other.module
            && self.build_id == other.build_id
            && self.site_offset == other.site_offset
            && self.function == other.function
            && row(self) == row(other)
    }

    /// The row in the cookie; `None` for a session file that was tampered with.
    #[must_use]
    pub fn spec(&self) -> Option<CallSpec> {
        CallSpec::from_cookie(self.cookie)
    }

    /// Where the program of one of its probes sits in the module's file.
    #[must_use]
    pub fn offsets_of(&self, program: Program) -> Vec<FileOffset> {
        match program {
            Program::CallExit => self.returns.exits().iter().map(|exit| exit.offset).collect(),
            _ => vec![self.site_offset],
        }
    }

    /// The programs that it runs. The return comes first: a call whose entry was seen then always has a return that
    /// will be.
    #[must_use]
    pub fn programs(&self) -> &'static [Program] {
        match self.spec().map(|spec| spec.kind) {
            Some(CallKind::Free) => &[Program::FreeEnter],
            Some(CallKind::Exception) => &[Program::ExceptionSeen],
            Some(kind) if kind.is_of_regions() => &[Program::RegionReturn, Program::RegionEnter],
            Some(_) if matches!(self.returns, Returns::ByExits(_)) => &[Program::CallExit, Program::CallEnter],
            Some(_) => &[Program::CallReturn, Program::CallEnter],
            None => &[],
        }
    }
}

/// A BPF program that probes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// A block ends.
    FreeEnter,
    /// A call returns, by uretprobe.
    CallReturn,
    /// A call returns: on each of its exits.
    CallExit,
    /// A call begins.
    CallEnter,
    /// An exception passes.
    ExceptionSeen,
    /// mmap or one of its kin returns, by uretprobe.
    RegionReturn,
    /// mmap or one of its kin begins.
    RegionEnter,
    /// Nothing, at an entry: see [`Program::empty`].
    EmptyEnter,
    /// Nothing, at a return.
    EmptyReturn,
}

impl Program {
    /// Its name in the object.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FreeEnter => "free_enter",
            Self::CallReturn => "call_return",
            Self::CallExit => "call_exit",
            Self::CallEnter => "call_enter",
            Self::ExceptionSeen => "exception_seen",
            Self::RegionReturn => "region_return",
            Self::RegionEnter => "region_enter",
            Self::EmptyEnter => "empty_enter",
            Self::EmptyReturn => "empty_return",
        }
    }

    /// Whether it runs when a function returns, by a return probe.
    #[must_use]
    pub const fn is_at_return(self) -> bool {
        matches!(self, Self::CallReturn | Self::RegionReturn | Self::EmptyReturn)
    }

    /// The program of the same kind that does nothing: what its probe costs without it.
    #[must_use]
    pub const fn empty(self) -> Self {
        match self {
            Self::FreeEnter
            | Self::CallEnter
            | Self::CallExit
            | Self::ExceptionSeen
            | Self::RegionEnter
            | Self::EmptyEnter => Self::EmptyEnter,
            Self::CallReturn | Self::RegionReturn | Self::EmptyReturn => Self::EmptyReturn,
        }
    }
}

/// Chooses a site for every function of a discovery.
#[must_use]
pub fn plan(discovery: &Discovery, images: &[LoadedImage], returns: &SeenReturns) -> Vec<PlannedCall> {
    let mut surroundings: BTreeMap<usize, Surroundings> = BTreeMap::new();
    let mut calls = Vec::new();
    for allocator in &discovery.found {
        for function in &allocator.functions {
            let Some(loaded) = images.get(function.module) else {
                continue;
            };
            let Ok(content) = &loaded.content else { continue };
            let around = surroundings
                .entry(function.module)
                .or_insert_with(|| Surroundings::of(content, function.address));
            let looked = &discovery.looked_at[function.module];
            calls.push(plan_call(
                function,
                content,
                around,
                &allocator.name.to_string(),
                &looked.path,
                loaded.mapping.file(),
                returns.of(function),
            ));
        }
    }
    calls
}

/// The text around a module's functions, and where its functions begin; read once a module.
struct Surroundings {
    text: Vec<u8>,
    text_address: ElfAddress,
    entries: Vec<ElfAddress>,
}

impl Surroundings {
    fn of(content: &Content, function: ElfAddress) -> Self {
        let segment = content.image.segments().holding(function);
        let text_address = segment.map_or(function, |segment| segment.address);
        let length = segment.map_or(0, |segment| segment.file_size);
        let mut entries = Vec::new();
        // Tables that cannot be read hold entries that stay unknown, as a stripped file's do.
        let _ = content
            .image
            .visit_functions(&mut |function| entries.push(function.address));
        entries.sort_unstable();
        entries.dedup();
        Self {
            text: content.image.code(text_address, length).unwrap_or_default(),
            text_address,
            entries,
        }
    }
}

fn plan_call(
    function: &FoundFunction,
    content: &Content,
    around: &Surroundings,
    allocator: &str,
    module: &str,
    file: Option<FileKey>,
    returns: Returns,
) -> PlannedCall {
    let length = if function.size == 0 {
        UNKNOWN_LENGTH
    } else {
        function.size.min(LONGEST_FUNCTION)
    };
    let code = content.image.code(function.address, length).unwrap_or_default();
    let first = around.entries.partition_point(|entry| *entry < function.address);
    let last = around
        .entries
        .partition_point(|entry| entry.0 < function.address.0.saturating_add(length));
    let surroundings = Module {
        text: &around.text,
        text_address: around.text_address,
        other_entries: around.entries.get(first..last).unwrap_or_default(),
    };
    let site = choose_site_in_module(&code, function.address, SiteNeed::of(&function.call), surroundings);
    PlannedCall {
        cookie: CallSpec {
            by_exits: matches!(returns, Returns::ByExits(_)),
            stepped: site.class == SiteClass::SingleStepped,
            ..site.spec_at_site(function.call)
        }
        .to_cookie(),
        function: function.name.clone(),
        allocator: allocator.to_owned(),
        module: module.to_owned(),
        build_id: content.image.build_id().cloned(),
        file,
        entry: content.bias.to_runtime(function.address),
        entry_offset: function.offset,
        length: function.size,
        site_offset: FileOffset(function.offset.0 + u64::from(site.offset)),
        site,
        returns,
    }
}
