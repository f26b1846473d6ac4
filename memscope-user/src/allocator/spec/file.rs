//! Specifications from a TOML file (`--allocators FILE`): `alloc`, `free` and `realloc`, each a list of texts as the
//! options of the same name take them.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;

use super::{CustomSpec, SpecError, SpecKind};

/// Why a file of specifications cannot be used.
#[derive(Debug, Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read the allocators file {path}: {why}")]
    Read {
        /// Its path.
        path: PathBuf,
        /// The operating system's reason.
        why: std::io::Error,
    },
    /// It is no TOML, or holds something else than the three lists.
    #[error("allocators file: {0}")]
    Toml(#[from] toml::de::Error),
    /// One of its specifications is malformed.
    #[error("allocators file, line {line}: {error}")]
    Spec {
        /// Its line, from 1.
        line: usize,
        /// What is wrong with it.
        error: SpecError,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Lists {
    #[serde(default)]
    alloc: Vec<Spanned<String>>,
    #[serde(default)]
    free: Vec<Spanned<String>>,
    #[serde(default)]
    realloc: Vec<Spanned<String>>,
}

/// Reads a file of specifications.
///
/// # Errors
/// When it cannot be read, or as [`parse_file`].
pub fn read_file(path: &Path) -> Result<Vec<CustomSpec>, FileError> {
    let text = std::fs::read_to_string(path).map_err(|why| FileError::Read {
        path: path.to_owned(),
        why,
    })?;
    parse_file(&text)
}

/// The specifications in the text of a file: allocations, then frees, then reallocations.
///
/// # Errors
/// When the text is not of this form; the error says where.
pub fn parse_file(text: &str) -> Result<Vec<CustomSpec>, FileError> {
    let lists: Lists = toml::from_str(text)?;
    let of_kind = |kind, list: Vec<Spanned<String>>| list.into_iter().map(move |spec| (kind, spec));
    of_kind(SpecKind::Alloc, lists.alloc)
        .chain(of_kind(SpecKind::Free, lists.free))
        .chain(of_kind(SpecKind::Realloc, lists.realloc))
        .map(|(kind, spec)| {
            CustomSpec::parse(kind, spec.get_ref()).map_err(|error| FileError::Spec {
                line: 1 + text
                    .bytes()
                    .take(spec.span().start)
                    .filter(|byte| *byte == b'\n')
                    .count(),
                error,
            })
        })
        .collect()
}
