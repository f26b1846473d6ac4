//! Rules and their files: `leak:<pattern>` a line, `#` comments, as `SuppressionContext::Parse` in compiler-rt reads them.

use std::fmt;
use std::path::PathBuf;

use super::pattern;
use crate::report::Escaped;
use crate::report::model::Frame;

/// Where a rule comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file.
    File(PathBuf),
    /// The string that `__lsan_default_suppressions` of this module returns.
    Target(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", Escaped(&path.to_string_lossy())),
            Self::Target(module) => write!(f, "__lsan_default_suppressions of {}", Escaped(module)),
        }
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it matches.
    pub pattern: String,
    /// Where it stands.
    pub origin: Origin,
    /// In which line of it, from 1.
    pub line: usize,
}

impl Rule {
    /// Whether a frame's function, source file or module matches; a module by its path if that is known, else its name.
    #[must_use]
    pub fn matches(&self, frame: &Frame, module_path: Option<&str>) -> bool {
        let fits = |name: &str| pattern::matches(&self.pattern, name);
        frame.function.as_deref().is_some_and(fits)
            || frame.source.as_ref().is_some_and(|source| fits(&source.file))
            || fits(module_path.unwrap_or(&frame.module))
    }
}

/// A line that is no rule. LeakSanitizer ends the program over one; a report without the accused would be worse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}, line {line}: `{text}` is no suppression: write leak:PATTERN, or # before a comment")]
pub struct NoRule {
    /// Where.
    pub origin: Origin,
    /// Which line, from 1.
    pub line: usize,
    /// What it says, made safe to show.
    pub text: String,
}

/// Reads the rules of a text.
///
/// # Errors
/// A line is neither empty, comment nor rule.
pub fn parse(text: &str, origin: &Origin) -> Result<Vec<Rule>, NoRule> {
    let mut rules = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        // Leading blanks and any trailing white space, as the original strips them.
        let line = line
            .trim_start_matches([' ', '\t'])
            .trim_end_matches([' ', '\t', '\r', '\x0b', '\x0c']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some(pattern) = line.strip_prefix("leak:") else {
            return Err(NoRule {
                origin: origin.clone(),
                line: index + 1,
                text: Escaped(&line.chars().take(80).collect::<String>()).to_string(),
            });
        };
        rules.push(Rule {
            pattern: pattern.to_owned(),
            origin: origin.clone(),
            line: index + 1,
        });
    }
    Ok(rules)
}
