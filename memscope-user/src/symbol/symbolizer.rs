//! Names addresses, each once.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolizer as Blazesym};

use super::demangle::demangle;
use super::image::{self, Image};
use super::module_map::{Located, ModuleMap};
use super::saved::SavedModule;
use crate::report::model::{Frame, SourceLine};
use crate::target::address::{ElfAddress, FileOffset, RuntimeAddress};
use crate::target::identity::Pid;

/// Where files are looked for.
#[derive(Clone, Debug)]
pub struct Places {
    /// Folders with `.build-id/xx/….debug` in them.
    pub debug_roots: Vec<PathBuf>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            debug_roots: vec![PathBuf::from("/usr/lib/debug")],
        }
    }
}

/// Names the addresses of one session. Nothing is opened before the first address of a module is asked for.
pub struct Symbolizer {
    map: ModuleMap,
    live: Option<Pid>,
    places: Places,
    /// One cell a module.
    images: Vec<OnceCell<Vec<Image>>>,
    blazesym: Blazesym,
    named: HashMap<(RuntimeAddress, bool), Vec<Arc<Frame>>>,
}

impl Symbolizer {
    /// A symbolizer for addresses in these modules. `live`: the target, if it still runs and is the same process (PID
    /// and start time): then the mapped files themselves can be read, deleted and replaced ones too.
    #[must_use]
    pub fn new(modules: Vec<SavedModule>, live: Option<Pid>) -> Self {
        Self::with_places(modules, live, Places::default())
    }

    /// The same, looking for files in other places.
    #[must_use]
    pub fn with_places(modules: Vec<SavedModule>, live: Option<Pid>, places: Places) -> Self {
        let images = modules.iter().map(|_| OnceCell::new()).collect();
        let blazesym = Blazesym::builder()
            // The files are held open and proven; asking for their time again at every address gains nothing.
            .enable_auto_reload(false)
            .set_debug_dirs(Some(&places.debug_roots))
            .build();
        Self {
            map: ModuleMap::new(modules),
            live,
            places,
            images,
            blazesym,
            named: HashMap::new(),
        }
    }

    /// The modules by address, for site ids.
    #[must_use]
    pub fn modules(&self) -> &ModuleMap {
        &self.map
    }

    /// The frames at an address, innermost inlined function first; always at least one.
    ///
    /// A return address is the instruction after the call, which may be another line's or even another function's: the
    /// name is that of the byte before, while address and offset stay those of the return address.
    pub fn name(&mut self, address: RuntimeAddress, is_return_address: bool) -> &[Arc<Frame>] {
        // Not `entry`: naming needs the rest of `self`.
        if !self.named.contains_key(&(address, is_return_address)) {
            let frames = self
                .frames(address, is_return_address)
                .into_iter()
                .map(Arc::new)
                .collect();
            self.named.insert((address, is_return_address), frames);
        }
        self.named.get(&(address, is_return_address)).map_or(&[], Vec::as_slice)
    }

    fn frames(&self, address: RuntimeAddress, is_return_address: bool) -> Vec<Frame> {
        let back = u64::from(is_return_address && address.0 > 0);
        let Some(found) = self.map.locate(RuntimeAddress(address.0 - back)) else {
            return vec![Frame {
                address,
                function: None,
                offset: address.0,
                module: String::new(),
                build_id: None,
                file_offset: None,
                source: None,
                inlined: false,
            }];
        };
        let file_offset = FileOffset(found.offset.0.wrapping_add(back));
        let bare = Frame {
            address,
            function: None,
            offset: file_offset.0,
            module: found.module.name(),
            build_id: found.module.build_id.clone(),
            file_offset: found.module.is_stored().then_some(file_offset),
            source: None,
            inlined: false,
        };
        let Some(names) = self.ask_images(&found) else {
            return vec![bare];
        };
        let offset = names.offset.saturating_add(back);
        let frames = names.functions.into_iter().map(|(function, source, inlined)| Frame {
            function: Some(function),
            offset,
            source,
            inlined,
            ..bare.clone()
        });
        frames.collect()
    }

    fn ask_images(&self, found: &Located<'_>) -> Option<Names> {
        let images = self.images.get(found.index)?;
        let images = images.get_or_init(|| image::find(found.module, self.live, &self.places));
        let address = found.elf_address?;
        images.iter().find_map(|image| self.ask_image(image, address))
    }

    /// DWARF knows lines and inlined functions, the symbol table where every function begins; blazesym cannot say the
    /// latter of a function in several pieces (`DW_AT_ranges`, as GCC splits off `.cold` ones): it then answers 0.
    fn ask_image(&self, image: &Image, address: ElfAddress) -> Option<Names> {
        let detailed = if image.with_debug_info {
            self.ask(image, address, true)
        } else {
            None
        };
        if let Some(symbol) = &detailed
            && (symbol.addr != 0 || symbol.size.is_some())
            && image.facts.in_one_segment(ElfAddress(symbol.addr), address)
        {
            return Some(Names::new(symbol, symbol));
        }
        // Broken debug information does not spoil the symbol table either.
        let plain = self.ask(image, address, false)?;
        let in_one_segment = image.facts.in_one_segment(ElfAddress(plain.addr), address);
        in_one_segment.then(|| Names::new(&plain, detailed.as_ref().unwrap_or(&plain)))
    }

    fn ask(&self, image: &Image, address: ElfAddress, debug_syms: bool) -> Option<Sym<'_>> {
        let mut elf = Elf::new(&image.path);
        elf.debug_syms = debug_syms;
        let source = Source::Elf(elf);
        // The file's bytes are the target's. Should the reader trip over them, this address has no name, and that is all:
        // nothing of the reader's that a panic may leave half done is a value we use.
        let answer = catch_unwind(AssertUnwindSafe(|| {
            self.blazesym.symbolize_single(&source, Input::VirtOffset(address.0))
        }));
        let symbol = answer.ok()?.ok()?.into_sym()?;
        (!symbol.name.is_empty() && symbol.addr <= address.0).then_some(symbol)
    }
}

/// What a file says about one address.
struct Names {
    /// From the start of the function that holds the code.
    offset: u64,
    /// Name, place, and whether it was inlined into the next; innermost first.
    functions: Vec<(String, Option<SourceLine>, bool)>,
}

impl Names {
    /// Name and offset of one answer, lines and inlined functions of the other.
    fn new(function: &Sym<'_>, detailed: &Sym<'_>) -> Self {
        let inlined = detailed.inlined.iter().rev();
        let inlined = inlined.map(|function| (demangle(&function.name), source(function.code_info.as_ref()), true));
        let own = (demangle(&function.name), source(detailed.code_info.as_deref()), false);
        Self {
            offset: function.offset as u64,
            functions: inlined.chain([own]).collect(),
        }
    }
}

fn source(place: Option<&CodeInfo<'_>>) -> Option<SourceLine> {
    let place = place?;
    Some(SourceLine {
        file: place.to_path().to_string_lossy().into_owned(),
        // DWARF's line 0 is "no line".
        line: place.line.filter(|line| *line > 0),
    })
}
