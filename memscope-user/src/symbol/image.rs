//! Finds the files that can name a module's addresses, and makes sure that they are that module's and hold still.

use std::cell::OnceCell;
use std::fs::{File, Metadata};
use std::io::{self, Seek as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::MemfdFlags;

use super::functions::Functions;
use super::places::Places;
use super::saved::{FileStamp, SavedModule};
use super::screen::debug_information_is_tame;
use super::vdso;
use crate::target::address::{BuildId, ElfAddress};
use crate::target::elf::{ElfImage, FileBytes};
use crate::target::identity::Pid;
use crate::target::open::{open_in_root, open_regular, root_of};

/// A file proven to be of the module's build.
pub(super) struct Image {
    /// Keeps `path` valid.
    _file: File,
    /// Leads to the very file that was proven, whatever its name means by now.
    pub(super) path: PathBuf,
    elf: ElfImage,
    /// Its DWARF may be read.
    pub(super) with_debug_info: bool,
    functions: OnceCell<Functions>,
}

impl Image {
    /// Whether both addresses are in one section, or, without sections, in one segment. A symbol elsewhere cannot be the
    /// function around an address: blazesym lets one without a size reach as far as the next symbol, `_init` over the
    /// whole PLT.
    pub(super) fn in_one_piece(&self, a: ElfAddress, b: ElfAddress) -> bool {
        let holds = |start: ElfAddress, size: u64, x: ElfAddress| x.0.checked_sub(start.0).is_some_and(|at| at < size);
        let mut sections = self.elf.sections().iter().filter(|section| section.loaded);
        if let Some(section) = sections.find(|section| holds(section.address, section.size, b)) {
            return holds(section.address, section.size, a);
        }
        let mut segments = self.elf.segments().as_slice().iter();
        segments.any(|segment| [a, b].iter().all(|x| holds(segment.address, segment.memory_size, *x)))
    }

    /// Its functions as we read them ourselves.
    pub(super) fn functions(&self) -> &Functions {
        self.functions.get_or_init(|| Functions::of(&self.elf))
    }
}

/// Files that others can change are copied before they are mapped, up to this size: a mapped file that is truncated
/// kills its reader. Larger ones are mapped as they are, without their debug information; that risk is only this
/// command's own.
const COPY_LIMIT: u64 = 512 << 20;

/// The images to ask for names, best first: the separate debug file, then the module itself.
pub(super) fn find(module: &SavedModule, live: Option<Pid>, places: &Places) -> Vec<Image> {
    let separate = module.build_id.as_ref().and_then(|id| separate_debug_file(id, places));
    separate
        .into_iter()
        .chain(module_itself(module, live, places))
        .collect()
}

fn separate_debug_file(id: &BuildId, places: &Places) -> Option<Image> {
    let (first, rest) = id.as_hex().split_at_checked(2)?;
    let name = PathBuf::from(format!(".build-id/{first}/{rest}.debug"));
    places.debug_roots.iter().find_map(|root| {
        let file = open_regular(&root.join(&name)).ok()?;
        // It may send us on to a supplementary file, so it has to be from someone we believe.
        file.metadata().ok().filter(|metadata| places.believes(metadata))?;
        let elf = parse(&file).ok().filter(|elf| elf.build_id() == Some(id))?;
        Some(Image::of(file, elf, true))
    })
}

fn module_itself(module: &SavedModule, live: Option<Pid>, places: &Places) -> Option<Image> {
    if module.path.as_os_str() == vdso::NAME {
        let file = vdso::of_this_process().ok()?;
        let elf = parse(&file)
            .ok()
            .filter(|elf| elf.build_id().is_some() && elf.build_id() == module.build_id.as_ref())?;
        return Some(Image::of(file, elf, false));
    }
    if !module.has_file() {
        return None;
    }
    let mapped = live.into_iter().flat_map(|pid| {
        let of_segment = move |segment: &super::SavedSegment| {
            open_regular(&PathBuf::from(format!(
                "/proc/{pid}/map_files/{:x}-{:x}",
                segment.start, segment.end
            )))
        };
        module.segments.iter().map(of_segment)
    });
    let in_root = live.into_iter().map(|pid| open_in_root(&root_of(pid), &module.path));
    let on_host = std::iter::once_with(|| open_regular(&module.path));
    let candidates = mapped.chain(in_root).chain(on_host);
    candidates.flatten().find_map(|file| prove(file, module, places))
}

/// The file, if it is the one that was mapped.
fn prove(file: File, module: &SavedModule, places: &Places) -> Option<Image> {
    let metadata = file.metadata().ok()?;
    let elf = parse(&file).ok()?;
    let proven = match &module.build_id {
        Some(id) => elf.build_id() == Some(id),
        None => elf.build_id().is_none() && module.file == Some(FileStamp::from(&metadata)),
    };
    if !proven {
        return None;
    }
    // A file that names another file to read would choose what we open.
    let links_elsewhere = [".gnu_debuglink", ".gnu_debugaltlink", ".debug_sup"];
    let with_debug_info = elf.section(".debug_info").is_some_and(|section| !section.absent)
        && !links_elsewhere.iter().any(|name| elf.section(name).is_some());
    if places.believes(&metadata) && is_the_hosts(&metadata, &module.path) {
        return Some(Image::of(file, elf, with_debug_info));
    }
    if metadata.len() > COPY_LIMIT {
        return Some(Image::of(file, elf, false));
    }
    let copy = copy(&file).ok()?;
    // The copy is what will be read, so it is the copy that has to be of the same build.
    let copied = parse(&copy)
        .ok()
        .filter(|copied| copied.build_id() == module.build_id.as_ref())?;
    let with_debug_info = with_debug_info && debug_information_is_tame(&copied);
    Some(Image::of(copy, copied, with_debug_info))
}

impl Image {
    fn of(file: File, elf: ElfImage, with_debug_info: bool) -> Self {
        Self {
            path: PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())),
            _file: file,
            elf,
            with_debug_info,
            functions: OnceCell::new(),
        }
    }
}

fn parse(file: &File) -> io::Result<ElfImage> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    ElfImage::parse(FileBytes::new(file.try_clone()?)?).map_err(invalid)
}

/// The path leads to this file on the host too. Root of a container is root of its own files only, and its files are
/// not the host's.
fn is_the_hosts(metadata: &Metadata, path: &Path) -> bool {
    let on_host = path.metadata();
    on_host.is_ok_and(|on_host| (on_host.dev(), on_host.ino()) == (metadata.dev(), metadata.ino()))
}

fn copy(file: &File) -> io::Result<File> {
    let mut copy = memory_file()?;
    let mut from = file;
    from.rewind()?;
    io::copy(&mut from, &mut copy)?;
    Ok(copy)
}

/// An empty file that exists in memory only and that nobody else can open.
pub(super) fn memory_file() -> io::Result<File> {
    Ok(File::from(rustix::fs::memfd_create(
        "memscope-elf",
        MemfdFlags::CLOEXEC,
    )?))
}
