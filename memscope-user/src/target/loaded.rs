//! The images a target has loaded: every file with an executable mapping, opened and parsed once.

use std::collections::BTreeSet;
use std::ffi::OsStr;

use thiserror::Error;

use super::debug_file;
use super::elf::{ElfError, ElfImage, LoadBias};
use super::files::{OpenError, open_mapped};
use super::identity::Pid;
use super::mapping::Mapping;

/// One mapped file that holds code.
pub struct LoadedImage {
    /// Its first executable mapping; opens the file, too ([`Mapping::open_path`]).
    pub mapping: Mapping,
    /// What was found in the file.
    pub content: Result<Content, LoadError>,
}

/// A file that is an ELF image of the target.
pub struct Content {
    /// The image.
    pub image: ElfImage,
    /// Where it runs. A file loaded more than once (dlmopen) has the bias of its first mapping here.
    pub bias: LoadBias,
}

/// Why a mapped file is no image that could be looked into.
#[derive(Debug, Error)]
pub enum LoadError {
    /// It could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It is no ELF image that runs here.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// The mapping and the program headers do not agree.
    #[error("no segment of the file is mapped at file offset {0:#x}")]
    NoSegment(u64),
}

impl LoadedImage {
    /// The path as the target sees it.
    #[must_use]
    pub fn path(&self) -> &OsStr {
        &self.mapping.path
    }

    /// An image from bytes at hand, mapped as `mapping` says.
    #[must_use]
    pub fn new(mapping: Mapping, image: Result<ElfImage, LoadError>) -> Self {
        let content = image.and_then(|image| {
            let bias = image.segments().bias_of(&mapping);
            let bias = bias.ok_or(LoadError::NoSegment(mapping.offset.0))?;
            Ok(Content { image, bias })
        });
        Self { mapping, content }
    }
}

/// Opens and parses the file of every executable mapping, each file once, in the order of addresses. Stripped images
/// are given the symbols of their debug files where these are installed.
#[must_use]
pub fn load_images(pid: Pid, mappings: &[Mapping]) -> Vec<LoadedImage> {
    let mut seen = BTreeSet::new();
    mappings
        .iter()
        .filter(|mapping| mapping.executable && mapping.file().is_some_and(|file| seen.insert(file)))
        .map(|mapping| LoadedImage::new(mapping.clone(), load(pid, mapping)))
        .collect()
}

fn load(pid: Pid, mapping: &Mapping) -> Result<ElfImage, LoadError> {
    let mut image = ElfImage::parse(open_mapped(pid, mapping)?)?;
    debug_file::add_symbols(&mut image, pid);
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::mapping::parse_maps;

    #[test]
    fn own_images_are_loaded_once_each_with_the_right_bias() {
        let maps = parse_maps(&std::fs::read("/proc/self/maps").expect("own mappings"));
        let images = load_images(Pid(std::process::id()), &maps);
        let own = std::env::current_exe().expect("own path");
        let own: Vec<_> = images.iter().filter(|image| image.path() == own.as_os_str()).collect();
        assert_eq!(own.len(), 1);
        let content = own[0].content.as_ref().expect("an ELF image");
        let here = own_images_are_loaded_once_each_with_the_right_bias as fn() as usize as u64;
        let mut found = false;
        content.image.visit_functions(&mut |function| {
            found |= content.bias.to_runtime(function.address).0 == here
                && function
                    .name
                    .contains("own_images_are_loaded_once_each_with_the_right_bias");
        });
        assert!(found, "this very function, at its runtime address");
    }
}
