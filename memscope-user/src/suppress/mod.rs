//! Suppressions: rules in LeakSanitizer's syntax that take known sites off the list of suspects.
//!
//! A suppressed site is not accused; its bytes stay in every total. Rules that matched are listed with what they hid, and
//! so are rules that matched nothing, since a rule that hides a leak that was fixed will hide the next one.

pub mod apply;
pub mod builtin;
pub mod files;
pub mod pattern;
pub mod propose;
pub mod render;
pub mod rules;

#[cfg(test)]
mod tests;
