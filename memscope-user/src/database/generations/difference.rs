//! What one generation had mapped, told by what the next has: of hundreds of files few come and go between two looks, and a
//! session may keep thousands of generations.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::symbol::SavedModule;
use crate::target::address::RuntimeAddress;

/// How a generation differs from the one after it. In one generation a module is told by its first address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Modules of the next that were not there yet.
    pub came: Vec<RuntimeAddress>,
    /// Modules that the next has no more.
    pub gone: Vec<SavedModule>,
}

impl Difference {
    /// Of two generations' modules.
    #[must_use]
    pub fn between(was: Vec<SavedModule>, next: &[SavedModule]) -> Self {
        let old: BTreeMap<RuntimeAddress, &SavedModule> = by_start(&was).collect();
        let came = by_start(next)
            .filter(|(start, module)| old.get(start) != Some(module))
            .map(|(start, _)| start)
            .collect();
        let new: BTreeMap<RuntimeAddress, &SavedModule> = by_start(next).collect();
        let stayed = |module: &SavedModule| start_of(module).is_some_and(|start| new.get(&start) == Some(&module));
        Self {
            came,
            gone: was.into_iter().filter(|module| !stayed(module)).collect(),
        }
    }

    /// The difference from the generation after the next, when the next is dropped; `next` is how that one differs.
    #[must_use]
    pub fn over(self, next: Self) -> Self {
        let new: BTreeSet<RuntimeAddress> = self.came.iter().copied().collect();
        let (passing, mut gone): (Vec<SavedModule>, Vec<SavedModule>) = next
            .gone
            .into_iter()
            .partition(|module| start_of(module).is_some_and(|start| new.contains(&start)));
        let passed: BTreeSet<RuntimeAddress> = passing.iter().filter_map(start_of).collect();
        let mut came = next.came;
        came.extend(new.difference(&passed));
        gone.extend(self.gone);
        Self { came, gone }
    }

    /// Makes the next one's modules, by first address, this one's.
    pub fn undo<'a>(&'a self, modules: &mut BTreeMap<RuntimeAddress, &'a SavedModule>) {
        for start in &self.came {
            modules.remove(start);
        }
        modules.extend(by_start(&self.gone));
    }
}

/// Modules by their first addresses; those without one hold no address.
pub fn by_start(modules: &[SavedModule]) -> impl Iterator<Item = (RuntimeAddress, &SavedModule)> {
    modules.iter().filter_map(|module| Some((start_of(module)?, module)))
}

fn start_of(module: &SavedModule) -> Option<RuntimeAddress> {
    module.segments.first().map(|segment| segment.start)
}
