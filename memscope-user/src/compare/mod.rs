//! Comparisons by site id, which is the same on every host and in every run of one build: what changed between two
//! reports ([`diff`]), and what many hosts have in common ([`merge`]).
//!
//! Both work on [`saved::SavedReport`], which is read from the JSON that `print` and `report` write, so that no database,
//! no root and no target are needed. Pure but for [`saved::read`].

pub mod diff;
pub mod diff_json;
pub mod diff_text;
pub mod merge;
pub mod merge_render;
mod parse;
pub mod saved;

#[cfg(test)]
mod tests;
