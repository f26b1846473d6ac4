//! Which rule takes which site off the list, and what each rule hides.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::rules::Rule;
use crate::report::model::{Frame, SiteId, Stack};
use crate::report::sites::{Amount, SitesReport};
use crate::symbol::{ModuleMap, SavedModule};

/// Rules applied to a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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

    /// The rule that suppresses a site.
    #[must_use]
    pub fn rule_of(&self, site: SiteId) -> Option<&Rule> {
        let number = self.sites.get(&site)?;
        self.rules.get(*number).map(|(rule, _)| rule)
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

    /// The rules that hide a site.
    pub fn used(&self) -> impl Iterator<Item = &(Rule, Hidden)> {
        self.rules.iter().filter(|(_, hidden)| hidden.sites > 0)
    }

    /// Those that hide none.
    pub fn unused(&self) -> impl Iterator<Item = &(Rule, Hidden)> {
        self.rules.iter().filter(|(_, hidden)| hidden.sites == 0)
    }

    fn hide(&mut self, site: SiteId, rule: usize, live: Amount) {
        if let Some((_, hidden)) = self.rules.get_mut(rule) {
            hidden.sites += 1;
            hidden.live.add(live.blocks, live.bytes);
            self.sites.insert(site, rule);
        }
    }
}

/// Applies rules to every site of a report; `modules` tell where a frame's module lies.
#[must_use]
pub fn apply(rules: &[Rule], report: &SitesReport, modules: &[SavedModule]) -> Applied {
    let sites = report.sites.iter().map(|site| (site.id, &site.stack, site.live));
    apply_to(rules, sites, modules)
}

/// Applies rules to sites, each with its stack and what of it is alive.
#[must_use]
pub fn apply_to<'a>(
    rules: &[Rule],
    sites: impl Iterator<Item = (SiteId, &'a Stack, Amount)>,
    modules: &[SavedModule],
) -> Applied {
    let mut applied = Applied {
        sites: BTreeMap::new(),
        rules: rules.iter().map(|rule| (rule.clone(), Hidden::default())).collect(),
    };
    if rules.is_empty() {
        return applied;
    }
    let mut frames = Frames {
        rules,
        map: ModuleMap::new(modules.to_vec()),
        known: HashMap::new(),
    };
    for (id, stack, live) in sites {
        if let Some(number) = frames.first_rule(stack) {
            applied.hide(id, number, live);
        }
    }
    applied
}

/// The first rule that each frame matches, looked for once: thousands of stacks go through the same few functions.
struct Frames<'r, 'a> {
    rules: &'r [Rule],
    map: ModuleMap,
    known: HashMap<*const Frame, (Option<usize>, &'a Arc<Frame>)>,
}

impl<'a> Frames<'_, 'a> {
    fn first_rule(&mut self, stack: &'a Stack) -> Option<usize> {
        let of_frames = stack.frames.iter().filter_map(|frame| {
            // A frame is held while it is known, so no other can have its address.
            let (first, _) = self.known.entry(Arc::as_ptr(frame)).or_insert_with(|| {
                let path = module_path(&self.map, frame);
                let first = self.rules.iter().position(|rule| rule.matches(frame, path.as_deref()));
                (first, frame)
            });
            *first
        });
        of_frames.min()
    }
}

/// The path a frame's module has for the target; `None` where the modules do not tell, or tell of another one.
fn module_path(map: &ModuleMap, frame: &Frame) -> Option<String> {
    let located = map.locate(frame.address)?;
    (located.module.name() == frame.module).then(|| located.module.path.to_string_lossy().into_owned())
}
