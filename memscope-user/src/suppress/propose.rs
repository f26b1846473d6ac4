//! The rule that hides one site and as little else as possible.

use super::apply::{self, Hidden};
use super::rules::{Origin, Rule};
use crate::report::model::{Frame, SiteId};
use crate::report::own_code::own_frame;
use crate::report::sites::SitesReport;
use crate::symbol::SavedModule;

/// A rule for a site, and what it hides of the database at hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The pattern, to stand after `leak:`.
    pub pattern: String,
    /// All that it hides, the site among it.
    pub hidden: Hidden,
}

/// Proposes a rule for a site: a rule of LeakSanitizer's names one function, so the function is taken that hides the fewest
/// other sites, and of several the one nearest to where a person would look first. A wrapper around malloc, which is in
/// every stack, is not it, and the allocator function never is. `None` when the site is not in the report or has nothing
/// that a rule could name.
#[must_use]
pub fn propose(report: &SitesReport, id: SiteId, modules: &[SavedModule]) -> Option<Proposal> {
    let site = report.sites.iter().find(|site| site.id == id)?;
    let callers = site.stack.frames.get(1..)?;
    let own = own_frame(&site.stack)?.saturating_sub(1);
    // The program's own first frame and outward, then what lies between it and the allocator.
    let (between, outward) = callers.split_at_checked(own)?;
    let mut patterns: Vec<String> = Vec::new();
    for frame in outward.iter().chain(between.iter().rev()) {
        if let Some(pattern) = pattern_of(frame)
            && !patterns.contains(&pattern)
        {
            patterns.push(pattern);
        }
    }
    let proposals = patterns.into_iter().map(|pattern| {
        let hidden = hidden_by(&pattern, report, modules);
        Proposal { pattern, hidden }
    });
    proposals.min_by_key(|proposal| proposal.hidden.sites)
}

/// What a pattern would hide of a report.
#[must_use]
pub fn hidden_by(pattern: &str, report: &SitesReport, modules: &[SavedModule]) -> Hidden {
    let rule = Rule {
        pattern: pattern.to_owned(),
        origin: Origin::Target(String::new()),
        line: 1,
    };
    apply::apply(&[rule], report, modules).hidden()
}

/// The pattern of a frame's function, tied to both ends of its name. The syntax cannot quote: a `*` in a name matches
/// itself among other things, a `$` in it would be its end and is written as a `*`. A name that a line cannot hold as it
/// is has no pattern.
fn pattern_of(frame: &Frame) -> Option<String> {
    let function = frame.function.as_deref()?;
    let plain = !function.is_empty() && function == function.trim() && !function.contains(char::is_control);
    plain.then(|| format!("^{}$", function.replace('$', "*")))
}
