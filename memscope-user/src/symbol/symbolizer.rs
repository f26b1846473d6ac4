//! Names addresses, each once.

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use blazesym::symbolize::source::{Elf, Source};
use blazesym::symbolize::{CodeInfo, Input, Sym, Symbolizer as Blazesym};

use super::demangle::{LONGEST, demangle, shortened};
use super::image::{self, Image};
use super::module_map::{Located, ModuleMap};
use super::places::Places;
use super::saved::SavedModule;
use crate::report::model::{Frame, SourceLine};
use crate::target::address::{ElfAddress, FileOffset, RuntimeAddress};
use crate::target::identity::Pid;

/// What frames may take of memory, those of all addresses together. Past it they are bare: the target chooses how long names
/// are, how many functions are inlined into each other, and how many addresses there are.
#[derive(Clone, Debug)]
pub struct NameRoom {
    left: Rc<Cell<usize>>,
    refused: Rc<Cell<u64>>,
}

impl NameRoom {
    /// Bytes.
    pub const MOST: usize = 256 << 20;

    /// As much as this.
    #[must_use]
    pub fn of(bytes: usize) -> Self {
        Self {
            left: Rc::new(Cell::new(bytes)),
            refused: Rc::default(),
        }
    }

    /// How many addresses have no name because those before them took all the room.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// There may still be room for a name; else none is worth asking for.
    fn has_some(&self) -> bool {
        self.left.get() > LONGEST
    }

    fn take(&self, bytes: usize) -> bool {
        let left = self.left.get().checked_sub(bytes);
        self.left.set(left.unwrap_or(self.left.get()));
        left.is_some()
    }
}

impl Default for NameRoom {
    fn default() -> Self {
        Self::of(Self::MOST)
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
    room: NameRoom,
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
            room: NameRoom::default(),
        }
    }

    /// The same, with the room for names that others have a part of, too.
    #[must_use]
    pub fn sharing(self, room: &NameRoom) -> Self {
        Self {
            room: room.clone(),
            ..self
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
            let asked = self.room.has_some();
            let mut frames = self.frames(address, is_return_address, asked);
            if !asked || !self.room.take(size_of_frames(&frames)) {
                frames = self.frames(address, is_return_address, false);
                self.room.refused.set(self.room.refused.get() + 1);
            }
            let frames = frames.into_iter().map(Arc::new).collect();
            self.named.insert((address, is_return_address), frames);
        }
        self.named.get(&(address, is_return_address)).map_or(&[], Vec::as_slice)
    }

    fn frames(&self, address: RuntimeAddress, is_return_address: bool, named: bool) -> Vec<Frame> {
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
        let Some(names) = named.then(|| self.ask_images(&found)).flatten() else {
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
            self.ask(image, address, true).ok().flatten()
        } else {
            None
        };
        if let Some(symbol) = &detailed
            && !symbol.name.is_empty()
            && (symbol.addr != 0 || symbol.size.is_some())
            && image.in_one_piece(ElfAddress(symbol.addr), address)
        {
            return Some(Names::new(&symbol.name, symbol.offset as u64, Some(symbol)));
        }
        // Broken debug information does not spoil the symbol table either.
        let (name, start) = match self.ask(image, address, false) {
            Ok(symbol) => symbol
                .filter(|symbol| !symbol.name.is_empty())
                .map(|symbol| (symbol.name, ElfAddress(symbol.addr)))?,
            Err(Unreadable) => image
                .functions()
                .at(address)
                .map(|(name, start)| (name.into(), start))?,
        };
        let offset = address
            .0
            .checked_sub(start.0)
            .filter(|_| image.in_one_piece(start, address))?;
        // The name as the source has it, as other functions have theirs; but a piece split off goes by its own.
        let name: &str = match &detailed {
            Some(symbol) if !symbol.name.is_empty() && !name.contains(".cold") => &symbol.name,
            _ => &name,
        };
        Some(Names::new(name, offset, detailed.as_ref()))
    }

    fn ask(&self, image: &Image, address: ElfAddress, debug_syms: bool) -> Result<Option<Sym<'_>>, Unreadable> {
        let mut elf = Elf::new(&image.path);
        elf.debug_syms = debug_syms;
        let source = Source::Elf(elf);
        // The file's bytes are the target's. Should the reader trip over them, this address has no name from it, and
        // that is all: nothing of the reader's that a panic may leave half done is a value we use.
        let answer = catch_unwind(AssertUnwindSafe(|| {
            self.blazesym.symbolize_single(&source, Input::VirtOffset(address.0))
        }));
        let symbol = answer.map_err(|_| Unreadable)?.map_err(|_| Unreadable)?.into_sym();
        Ok(symbol.filter(|symbol| symbol.addr <= address.0))
    }
}

/// What frames take in memory.
fn size_of_frames(frames: &[Frame]) -> usize {
    let text = |frame: &Frame| {
        frame.function.as_ref().map_or(0, String::len)
            + frame.module.len()
            + frame.build_id.as_ref().map_or(0, |id| id.as_hex().len())
            + frame.source.as_ref().map_or(0, |source| source.file.len())
    };
    frames.iter().map(|frame| size_of::<Frame>() + text(frame)).sum()
}

/// blazesym gave up on a file.
struct Unreadable;

/// What a file says about one address.
struct Names {
    /// From the start of the function that holds the code.
    offset: u64,
    /// Name, place, and whether it was inlined into the next; innermost first.
    functions: Vec<(String, Option<SourceLine>, bool)>,
}

impl Names {
    /// A function's name, the address's offset in it, and what is known of lines and inlined functions.
    fn new(name: &str, offset: u64, detailed: Option<&Sym<'_>>) -> Self {
        let inlined = detailed.map_or(&[][..], |symbol| &symbol.inlined).iter().rev();
        let inlined = inlined.filter(|function| !function.name.is_empty());
        let inlined = inlined.map(|function| (demangle(&function.name), source(function.code_info.as_ref()), true));
        let own = source(detailed.and_then(|symbol| symbol.code_info.as_deref()));
        Self {
            offset,
            functions: inlined.chain([(demangle(name), own, false)]).collect(),
        }
    }
}

fn source(place: Option<&CodeInfo<'_>>) -> Option<SourceLine> {
    let place = place?;
    Some(SourceLine {
        file: shortened(place.to_path().to_string_lossy().into_owned()),
        // DWARF's line 0 is "no line".
        line: place.line.filter(|line| *line > 0),
    })
}
