//! The report: a model, then one file a rendering.
//!
//! Renderers are pure: values in, bytes out, to whatever [`std::io::Write`] they are given. They stream, so that a
//! million entries need no more memory than the model does.

pub mod clock;
pub mod cohorts;
pub mod entries;
mod escape;
pub mod json;
mod json_parts;
pub mod model;
pub mod ndjson;
pub mod notes;
pub mod order;
pub mod own_code;
mod pieces;
pub mod quantity;
mod row;
pub mod schemas;
mod sink;
pub mod sites;
pub mod stack_shares;
mod stack_texts;
pub mod summary;
pub mod summary_json;
mod summary_sites;
pub mod summary_text;
pub mod text;
pub mod unsample;

#[cfg(test)]
mod json_tests;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod summary_tests;
#[cfg(test)]
mod text_tests;

use std::io;

pub use escape::Escaped;

/// The reader went away (`memscope print | head`): the program ends quietly and with success.
#[must_use]
pub fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}
