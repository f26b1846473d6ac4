//! The shares of whole stacks of a session, from its sites and the mappings their addresses belong to.

use std::collections::BTreeMap;

use crate::database::generations::modules_of_site;
use crate::database::session::Session;
use crate::database::sites::{RawSite, SiteTable};
use crate::report::stack_shares::StackShares;
use crate::symbol::ModuleMap;
use crate::target::address::RuntimeAddress;

/// Counts them.
#[must_use]
pub fn of(session: &Session, sites: &SiteTable) -> StackShares {
    let mut shares = StackShares::default();
    let mut maps: BTreeMap<u16, ModuleMap> = BTreeMap::new();
    for (_, site) in sites.iter() {
        let module = || last_module(session, &mut maps, &site);
        shares.add(site.record.allocated, site.end(), site.by_frame_pointer(), module);
    }
    shares.add_unrecorded(sites.without_stack());
    shares
}

/// The module of a stack's last frame, as reports show it.
fn last_module(session: &Session, maps: &mut BTreeMap<u16, ModuleMap>, site: &RawSite<'_>) -> String {
    let generation = site.record.generation;
    let modules = maps
        .entry(generation)
        .or_insert_with(|| ModuleMap::new(modules_of_site(&session.file.generations, generation).unwrap_or_default()));
    // A return address is told by the call before it.
    let last = site.frames().next_back().map(|frame| {
        let back = u64::from(frame.is_return_address);
        RuntimeAddress(frame.address.0.saturating_sub(back))
    });
    last.and_then(|address| modules.locate(address))
        .map_or_else(|| "no known module".to_owned(), |found| found.module.name())
}
