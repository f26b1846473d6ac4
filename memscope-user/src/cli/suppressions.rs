//! The rules that hold for a session: default files, `--suppressions`, and the target's own.

use std::path::PathBuf;

use clap::Args;

use super::run::CommandError;
use crate::database::session::Session;
use crate::suppress::builtin::rules_of;
use crate::suppress::files;
use crate::suppress::rules::Rule;
use crate::target::process::Target;

/// `--suppressions`.
#[derive(Clone, Debug, Default, Args)]
pub struct SuppressionArguments {
    /// Rules in LeakSanitizer's syntax (repeatable), beside those of /etc/memscope/suppressions and
    /// ~/.config/memscope/suppressions
    #[arg(long, value_name = "FILE")]
    pub suppressions: Vec<PathBuf>,
}

impl SuppressionArguments {
    /// The rules that hold for a session, and a line for the reader when the target's own could not be read: to accuse too
    /// much is not to hide anything.
    ///
    /// # Errors
    /// A file of rules cannot be read, or has a line that is no rule.
    pub fn rules(&self, session: &Session) -> Result<(Vec<Rule>, Option<String>), CommandError> {
        let mut rules = files::load(&self.suppressions)?;
        let target = Target {
            id: session.file.target,
        };
        if target.is_alive() {
            match rules_of(&target) {
                Ok(own) => rules.extend(own),
                Err(note) => return Ok((rules, Some(note))),
            }
        }
        Ok((rules, None))
    }
}
