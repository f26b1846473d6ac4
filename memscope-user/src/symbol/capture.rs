//! Takes down what the target's executable mappings are, while it lives, for naming addresses at any later time.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::path::PathBuf;

use super::saved::{FileStamp, SavedModule, SavedSegment};
use super::vdso;
use crate::target::address::BuildId;
use crate::target::elf::{ElfImage, FileBytes, Segments};
use crate::target::files::open_mapped;
use crate::target::identity::Pid;
use crate::target::mapping::{FileKey, Mapping};

/// The executable mappings of a live target, one module a file. A file that cannot be opened is saved without proof of
/// what it was: its addresses will have no names, only places.
#[must_use]
pub fn save_modules(pid: Pid, mappings: &[Mapping]) -> Vec<SavedModule> {
    let mut modules: Vec<SavedModule> = Vec::new();
    let mut known: BTreeMap<(FileKey, &OsStr), (usize, Option<Facts>)> = BTreeMap::new();
    for mapping in mappings.iter().filter(|mapping| mapping.executable) {
        let key = mapping.file().map(|file| (file, mapping.path.as_os_str()));
        if let Some((index, facts)) = key.and_then(|key| known.get(&key)) {
            modules[*index].segments.push(segment(mapping, facts.as_ref()));
            continue;
        }
        let (file, facts) = read(pid, mapping);
        if let Some(key) = key {
            known.insert(key, (modules.len(), facts.clone()));
        }
        modules.push(SavedModule {
            path: PathBuf::from(&mapping.path),
            segments: vec![segment(mapping, facts.as_ref())],
            build_id: facts.and_then(|facts| facts.build_id),
            file,
            mapped: mapping.file(),
        });
    }
    modules
}

/// What is kept of an image while its mappings are gone through.
#[derive(Clone)]
struct Facts {
    build_id: Option<BuildId>,
    segments: Segments,
}

fn facts(file: FileBytes) -> Option<Facts> {
    let image = ElfImage::parse(file).ok()?;
    Some(Facts {
        build_id: image.build_id().cloned(),
        segments: image.segments().clone(),
    })
}

fn segment(mapping: &Mapping, facts: Option<&Facts>) -> SavedSegment {
    SavedSegment {
        start: mapping.start,
        end: mapping.end,
        offset: mapping.offset,
        elf_address: facts.and_then(|facts| Some(facts.segments.bias_of(mapping)?.to_elf(mapping.start))),
    }
}

fn read(pid: Pid, mapping: &Mapping) -> (Option<FileStamp>, Option<Facts>) {
    if mapping.path == vdso::NAME {
        let file = File::open(format!("/proc/{pid}/mem")).and_then(|memory| vdso::copy(&memory, mapping));
        return (None, file.and_then(FileBytes::new).ok().and_then(facts));
    }
    if mapping.file().is_none() {
        return (None, None);
    }
    let Ok(file) = open_mapped(pid, mapping) else {
        return (None, None);
    };
    let stamp = file.metadata().ok().map(|metadata| FileStamp::from(&metadata));
    (stamp, facts(file))
}
