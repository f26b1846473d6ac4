//! Chooses where a probe sits: the cheapest instruction of a function that every call of interest passes intact.
//!
//! A probe on an instruction that the kernel single-steps costs several times one that it emulates ([`kernel`]); many
//! functions begin with the former (`endbr64`, `test`, `cmp`, `mov`) and have the latter a few bytes on. [`walk`] says
//! which instructions see every call as the entry would, [`landing`] that nothing else comes there. Where no emulated
//! one qualifies the site is the entry, and [`ProbeSite::obstacle`] says why.
//!
//! Absent on purpose:
//! - Sites after the first change of rsp for return probes: the kernel takes the return address from `[rsp]` alone.
//! - A look at data: a function with an indirect jump that may be a `switch` is only probed at a push, see
//!   [`choose_site_in_module`]. Jumps by a register from elsewhere into a prologue are not looked for: no compiler makes
//!   them, and a jump from elsewhere to the entry itself is a call in tail position.

mod kernel;
mod landing;
mod need;
mod obstacle;
mod registers;
mod walk;

#[cfg(test)]
mod tests;

use std::ops::Range;

use iced_x86::{Formatter as _, GasFormatter};
use memscope_ebpf::call::{Argument, CallResult, CallSpec};
use serde::{Deserialize, Serialize};

use crate::target::address::ElfAddress;

pub use kernel::{Emulation, SiteClass, classify};
pub use landing::{branches_into, first_branch_into};
pub use need::{ArgumentSet, SiteNeed};
pub use obstacle::Obstacle;
use walk::Candidate;

/// Where a probe of one function sits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeSite {
    /// The function's entry.
    pub function: ElfAddress,
    /// Bytes from the entry to the site.
    pub offset: u32,
    /// The instruction at the site, in AT&T syntax.
    pub instruction: String,
    /// What the kernel does with it.
    pub class: SiteClass,
    /// Calls with a NULL pointer do not reach the site; never set unless the need allowed it.
    pub null_bypasses: bool,
    /// A jump in the function leads back to its entry: a loop that begins with the function, or a call of itself in tail
    /// position. Every pass is a hit then, at this site and at every other one.
    pub re_entered: bool,
    /// Why there is no emulated site; `None` when there is one.
    pub obstacle: Option<Obstacle>,
    /// Position of the register that holds each argument at the site.
    places: [u8; ArgumentSet::MOST],
}

impl ProbeSite {
    /// The site's address.
    #[must_use]
    pub fn address(&self) -> ElfAddress {
        ElfAddress(self.function.0.wrapping_add(u64::from(self.offset)))
    }

    /// Whether the kernel emulates the instruction: the site is cheap.
    #[must_use]
    pub fn is_emulated(&self) -> bool {
        matches!(self.class, SiteClass::Emulated(_))
    }

    /// The row that a probe at this site must carry: the function may have moved arguments to other registers by then.
    #[must_use]
    pub fn spec_at_site(&self, spec: CallSpec) -> CallSpec {
        let place = |argument: Argument| {
            let place = self.places.get(usize::from(argument.position())).copied();
            place.and_then(Argument::new).unwrap_or(argument)
        };
        CallSpec {
            size: spec.size.map(place),
            count: spec.count.map(place),
            pointer: spec.pointer.map(place),
            flags: spec.flags.map(place),
            result: match spec.result {
                CallResult::Stored(argument) => CallResult::Stored(place(argument)),
                other => other,
            },
            ..spec
        }
    }
}

/// What surrounds a function in its module.
#[derive(Clone, Copy, Debug)]
pub struct Module<'a> {
    /// The executable segment that holds the function.
    pub text: &'a [u8],
    /// Its address.
    pub text_address: ElfAddress,
    /// Addresses of symbols of functions; those outside the function's beginning are not looked at.
    pub other_entries: &'a [ElfAddress],
}

impl Module<'static> {
    /// Nothing is known of the module.
    pub const UNKNOWN: Self = Module {
        text: &[],
        text_address: ElfAddress(0),
        other_entries: &[],
    };
}

/// The best site in a function of which only its own bytes are known: as many as its symbol says, or a bounded number.
///
/// Branches into it from elsewhere (its cold part, say) go unseen; [`choose_site_in_module`] looks for them.
#[must_use]
pub fn choose_site(code: &[u8], function: ElfAddress, need: SiteNeed) -> ProbeSite {
    choose_site_in_module(code, function, need, Module::UNKNOWN)
}

/// The best site in a function.
///
/// No branch of the body or of the module's text may land between entry and site, nor may another symbol begin there.
/// If the body may jump through a table, whose labels are not known, only a push will do: by obligation 1 of [`walk`] each
/// such jump comes after the push in its call, and compiled code does not jump back to push a second time.
#[must_use]
pub fn choose_site_in_module(code: &[u8], function: ElfAddress, need: SiteNeed, module: Module<'_>) -> ProbeSite {
    let walk::Walk { candidates, mut end } = walk::walk(code, function, need);
    let farthest = candidates.last().map_or(0, |candidate| u64::from(candidate.offset));
    let range = ElfAddress(function.0.saturating_add(1))..ElfAddress(function.0.saturating_add(farthest + 1));
    let body = landing::branches_of_body(code, function, &range);
    let lands = body
        .first
        .into_iter()
        .chain(first_branch_into(module.text, module.text_address, range.clone()))
        .map(|at| (at, Obstacle::BranchLands { at }))
        .chain(first_entry_in(module.other_entries, &range).map(|at| (at, Obstacle::OtherEntry { at })))
        .min_by_key(|(at, _)| *at);
    if let Some((_, obstacle)) = lands {
        end = obstacle;
    }
    let is_sound = |candidate: &&Candidate| {
        let address = function.0.saturating_add(u64::from(candidate.offset));
        let is_push = candidate.class == SiteClass::Emulated(Emulation::Push);
        candidate.offset == 0 || lands.is_none_or(|(at, _)| address < at.0) && (is_push || !body.table_jump)
    };
    let best = candidates
        .iter()
        .filter(is_sound)
        .min_by_key(|candidate| rank(candidate));
    if lands.is_none() && body.table_jump && candidates.iter().any(|candidate| rank(candidate).0 == 0) {
        end = Obstacle::TableJump;
    }
    match best {
        Some(candidate) => site_at(candidate, function, body.re_enters, end),
        // Not even the entry decodes.
        None => ProbeSite {
            function,
            offset: 0,
            instruction: "(bad)".to_owned(),
            class: SiteClass::Refused,
            null_bypasses: false,
            re_entered: body.re_enters,
            obstacle: Some(end),
            places: [0, 1, 2, 3, 4, 5],
        },
    }
}

fn first_entry_in(entries: &[ElfAddress], range: &Range<ElfAddress>) -> Option<ElfAddress> {
    entries.iter().copied().filter(|entry| range.contains(entry)).min()
}

/// Lower is better: first what it costs on every kernel, then whether it spares NULL calls the trap, then nearness to the
/// entry.
fn rank(candidate: &Candidate) -> (u8, bool, u32) {
    let cost = match candidate.class {
        // Single-stepped before 6.16, so no better than the entry there.
        SiteClass::Emulated(Emulation::LongNop) => 1,
        SiteClass::Emulated(_) => 0,
        SiteClass::SingleStepped => 2,
        SiteClass::Refused => 3,
    };
    let reached_by_null = cost < 2 && !candidate.past_null_test;
    (cost, reached_by_null, candidate.offset)
}

fn site_at(candidate: &Candidate, function: ElfAddress, re_entered: bool, end: Obstacle) -> ProbeSite {
    let mut instruction = String::new();
    let mut formatter = GasFormatter::new();
    formatter.options_mut().set_branch_leading_zeros(false);
    formatter.options_mut().set_uppercase_hex(false);
    formatter.options_mut().set_rip_relative_addresses(true);
    formatter.format(&candidate.instruction, &mut instruction);
    ProbeSite {
        function,
        offset: candidate.offset,
        instruction,
        class: candidate.class,
        null_bypasses: candidate.past_null_test,
        re_entered,
        obstacle: (!matches!(candidate.class, SiteClass::Emulated(_))).then_some(end),
        places: candidate.places,
    }
}
