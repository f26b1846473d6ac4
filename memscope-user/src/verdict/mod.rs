//! Verdicts: from a site's figures to what it is — a leak, a cache, start-up state, churn — with the evidence.
//!
//! Pure: values in, values out. What is judged is the birth-time histogram of the blocks alive at one moment, the site's
//! totals, and, where `report` ran before, the same totals at earlier moments.
//!
//! The method (bytehound's case study made mechanical): of the blocks a leak makes, none is ever freed, so those alive
//! were born at a steady rate over the whole window. What is freed sooner or later leaves fewer old blocks than young
//! ones; what is bounded stops growing; what belongs to the start was born there. The rules are in [`rules`], every number
//! in them in [`thresholds`] with its reason.
//!
//! What is called a leak must also beat the explanations that look like one: births that slow as the high-water mark of a
//! load does, blocks that live about as long as the window, a cache that fills and begins to let go. A site that frees
//! nothing is judged from its first block on.
//!
//! With an earlier report blocks are followed cohort by cohort: those old then and alive now were not merely waiting to be
//! freed. And a leak once found stands until evidence contradicts it (`standing.rs`).
//!
//! What no observer can tell apart is not told apart: a store that fills at a constant rate and has released nothing yet
//! behaves in every respect as a leak does until it first releases something. Such a site is called LEAKING, with
//! "nothing was ever freed" among its evidence and its confidence held below [`thresholds::NEVER_FREED_CEILING`].

mod births;
mod confidence;
mod container;
mod database;
mod judgement;
mod past;
pub mod rules;
mod sampled;
mod standing;
pub mod thresholds;

#[cfg(test)]
mod tests;

pub use births::Births;
pub use database::{Doubts, JudgedDatabase, Overall, judge_database, judge_database_but};
pub use judgement::{Evidence, Judgement, Need, Rate, Reason, Verdict};
pub use past::{PastPoint, PastSites, Series};
pub use rules::{SiteView, judge_site};
pub use standing::{Found, Ground};
