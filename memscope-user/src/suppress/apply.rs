//! Which rule takes which site off the list, and what each rule hides.

use std::collections::BTreeMap;

use super::rules::Rule;
use crate::report::model::{Frame, SiteId, Stack};
use crate::report::sites::{Amount, SitesReport};
use crate::symbol::{ModuleMap, SavedModule};

/// Rules applied to a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Suppressed sites, each with the number of the first rule that matches it.
    pub sites: BTreeMap<SiteId, usize>,
    /// The rules, in order, and what each hides: sites, and what of them is alive.
    pub rules: Vec<(Rule, Hidden)>,
}

/// What a rule hides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hidden {
    /// Sites.
    pub sites: u64,
    /// Alive of them; 0 where everything was freed.
    pub live: Amount,
}

impl Applied {
    /// Whether a site is suppressed.
    #[must_use]
    pub fn hides(&self, site: SiteId) -> bool {
        self.sites.contains_key(&site)
    }

    /// All rules together.
    #[must_use]
    pub fn hidden(&self) -> Hidden {
        self.rules.iter().fold(Hidden::default(), |mut sum, (_, hidden)| {
            sum.sites += hidden.sites;
            sum.live.add(hidden.live.blocks, hidden.live.bytes);
            sum
        })
    }
}

/// Applies rules to every site of a report; `modules` tell where a frame's module lies.
#[must_use]
pub fn apply(rules: &[Rule], report: &SitesReport, modules: &[SavedModule]) -> Applied {
    let map = ModuleMap::new(modules.to_vec());
    let path = |frame: &Frame| module_path(&map, frame);
    let mut applied = Applied {
        sites: BTreeMap::new(),
        rules: rules.iter().map(|rule| (rule.clone(), Hidden::default())).collect(),
    };
    for site in &report.sites {
        if let Some(number) = first_match(rules, &site.stack, &path) {
            let hidden = &mut applied.rules[number].1;
            hidden.sites += 1;
            hidden.live.add(site.live.blocks, site.live.bytes);
            applied.sites.insert(site.id, number);
        }
    }
    applied
}

fn first_match(rules: &[Rule], stack: &Stack, path: &dyn Fn(&Frame) -> Option<String>) -> Option<usize> {
    rules.iter().position(|rule| rule.matches(stack, path))
}

/// The path a frame's module has for the target; `None` where the modules do not tell, or tell of another one.
fn module_path(map: &ModuleMap, frame: &Frame) -> Option<String> {
    let located = map.locate(frame.address)?;
    (located.module.name() == frame.module).then(|| located.module.path.to_string_lossy().into_owned())
}
