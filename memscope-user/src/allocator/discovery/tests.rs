//! Discovery in this very process, in running programs, and in images made for one question each.

mod images;
mod running;

use super::*;
use crate::target::compiled::loaded;
use crate::target::memory::NoMemory;
use std::path::Path;

/// Discovery in the image of one file that does not run.
fn in_file(path: &Path) -> Discovery {
    discover(&[loaded(path)], &NoMemory)
}

/// The function of this name, or with this alias.
fn named<'a>(discovery: &'a Discovery, name: &str) -> &'a FoundFunction {
    let is_it = |function: &&FoundFunction| function.name == name || function.aliases.iter().any(|alias| alias == name);
    let found: Vec<_> = discovery.functions().filter(is_it).collect();
    assert_eq!(found.len(), 1, "{name} in:\n{discovery}");
    found[0]
}

fn names(discovery: &Discovery) -> Vec<AllocatorName> {
    discovery.found.iter().map(|found| found.name.clone()).collect()
}
