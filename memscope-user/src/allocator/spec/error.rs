//! What is wrong with a specification, and where.

use std::fmt;

use thiserror::Error;

/// A malformed specification: the text, with a caret under the character at fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct SpecError {
    /// What is wrong.
    pub message: String,
    /// The whole specification.
    pub text: String,
    /// The character at fault, counted from 0; one past the last when something is missing at the end.
    pub column: usize,
}

impl SpecError {
    /// An error at a byte of the text.
    pub(super) fn at(text: &str, byte: usize, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            text: text.to_owned(),
            column: text.char_indices().take_while(|(at, _)| *at < byte).count(),
        }
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A control character would move the caret away from what it points at.
        let text = self.text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
        writeln!(f, "{}", self.message)?;
        writeln!(f, "  {}", text.collect::<String>())?;
        write!(f, "  {:1$}^", "", self.column)
    }
}

/// A well-formed specification that cannot be followed in this target.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ResolveError {
    /// No module is named so.
    #[error("`{spec}`: the target has no module named {module}; it has {}", .modules.join(", "))]
    NoModule {
        /// The specification.
        spec: String,
        /// The module it names.
        module: String,
        /// The file names of the modules there are.
        modules: Vec<String>,
    },
    /// No module defines a function of this name.
    #[error("`{spec}`: no function named {function} in {searched}{}", near_text(.near))]
    NoFunction {
        /// The specification.
        spec: String,
        /// The function it names.
        function: String,
        /// Where it was looked for.
        searched: String,
        /// Names that are nearly the same, with their modules.
        near: Vec<String>,
    },
    /// The place is not code.
    #[error("`{spec}`: file offset {offset:#x} is in no executable part of {module}")]
    NotCode {
        /// The specification.
        spec: String,
        /// The offset it gives.
        offset: u64,
        /// The module's path.
        module: String,
    },
    /// The function cannot be probed.
    #[error("`{spec}`: {reason}")]
    NotResolved {
        /// The specification.
        spec: String,
        /// Why.
        reason: String,
    },
    /// Two specifications say different things of one function.
    #[error("`{first}` and `{second}` name the same code and say different things of it")]
    Conflict {
        /// The one given first.
        first: String,
        /// The other.
        second: String,
    },
}

fn near_text(near: &[String]) -> String {
    if near.is_empty() {
        String::new()
    } else {
        format!("; did you mean {}?", near.join(", "))
    }
}
