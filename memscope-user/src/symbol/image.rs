//! Finds the files that can name a module's addresses, and makes sure that they are that module's and hold still.

use std::fs::{File, Metadata};
use std::io::{self, Seek as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::MemfdFlags;

use super::elf::{ElfFacts, read_facts};
use super::open::{open_in_root, open_regular};
use super::saved::{FileStamp, SavedModule};
use super::symbolizer::Places;
use super::vdso;
use crate::target::address::BuildId;
use crate::target::identity::Pid;

/// A file proven to be of the module's build.
pub(super) struct Image {
    /// Keeps `path` valid.
    _file: File,
    /// Leads to the very file that was proven, whatever its name means by now.
    pub(super) path: PathBuf,
    pub(super) facts: ElfFacts,
    /// Its DWARF may be read.
    pub(super) with_debug_info: bool,
}

/// Files larger than this are not read: their symbol tables alone would be the cost of the whole report.
const SIZE_LIMIT: u64 = 8 << 30;

/// Files that others can change are copied before they are mapped, up to this size: a mapped file that is truncated
/// kills its reader. Larger ones are mapped as they are; that risk is only this command's own.
const COPY_LIMIT: u64 = 256 << 20;

/// The images to ask for names, best first: the separate debug file, then the module itself.
pub(super) fn find(module: &SavedModule, live: Option<Pid>, places: &Places) -> Vec<Image> {
    let separate = module.build_id.as_ref().and_then(|id| separate_debug_file(id, places));
    separate.into_iter().chain(module_itself(module, live)).collect()
}

fn separate_debug_file(id: &BuildId, places: &Places) -> Option<Image> {
    let (first, rest) = id.as_hex().split_at_checked(2)?;
    let name = PathBuf::from(format!(".build-id/{first}/{rest}.debug"));
    places.debug_roots.iter().find_map(|root| {
        let file = open_regular(&root.join(&name)).ok()?;
        // It may send us on to a supplementary file, so it has to be from someone we believe.
        let metadata = file.metadata().ok().filter(is_trusted)?;
        let facts = read_facts(&file)
            .ok()
            .filter(|facts| facts.build_id.as_ref() == Some(id))?;
        image(file, &metadata, facts, true)
    })
}

fn module_itself(module: &SavedModule, live: Option<Pid>) -> Option<Image> {
    if module.path.as_os_str() == vdso::NAME {
        return prove(vdso::of_this_process().ok()?, module);
    }
    if !module.has_file() {
        return None;
    }
    let mapped = live.into_iter().flat_map(|pid| {
        module.segments.iter().map(move |segment| {
            open_regular(&PathBuf::from(format!(
                "/proc/{pid}/map_files/{:x}-{:x}",
                segment.start, segment.end
            )))
        })
    });
    let in_root = live
        .into_iter()
        .map(|pid| open_in_root(Path::new(&format!("/proc/{pid}/root")), &module.path));
    let on_host = std::iter::once_with(|| open_regular(&module.path));
    let candidates = mapped.chain(in_root).chain(on_host);
    candidates.flatten().find_map(|file| prove(file, module))
}

/// The file, if it is the one that was mapped.
fn prove(file: File, module: &SavedModule) -> Option<Image> {
    let metadata = file.metadata().ok()?;
    let facts = read_facts(&file).ok()?;
    let proven = match &module.build_id {
        Some(_) => facts.build_id == module.build_id,
        None => facts.build_id.is_none() && module.file == Some(FileStamp::from(&metadata)),
    };
    // A file that names another file to read would choose what we open.
    let with_debug_info = facts.has_debug_info && !facts.links_elsewhere;
    if proven {
        image(file, &metadata, facts, with_debug_info)
    } else {
        None
    }
}

fn image(file: File, metadata: &Metadata, facts: ElfFacts, with_debug_info: bool) -> Option<Image> {
    if metadata.len() > SIZE_LIMIT {
        return None;
    }
    let (file, facts) = if is_trusted(metadata) || metadata.len() > COPY_LIMIT {
        (file, facts)
    } else {
        let copy = copy(&file).ok()?;
        // The copy is what will be read, so it is the copy that has to be of the same build.
        let copied = read_facts(&copy).ok().filter(|copied| *copied == facts)?;
        (copy, copied)
    };
    Some(Image {
        path: PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())),
        _file: file,
        facts,
        with_debug_info,
    })
}

/// Only root or we ourselves can change it.
fn is_trusted(metadata: &Metadata) -> bool {
    let owner = metadata.uid();
    (owner == 0 || owner == rustix::process::geteuid().as_raw()) && metadata.mode() & 0o022 == 0
}

fn copy(file: &File) -> io::Result<File> {
    let mut copy = memory_file()?;
    let mut from = file;
    // Reading the facts has moved the position.
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
