//! The rules that hold for a session: default files, `--suppressions`, and the target's own.

use std::path::PathBuf;

use clap::Args;

use super::run::CommandError;
use crate::database::session::Session;
use crate::report::sites::SitesReport;
use crate::suppress::apply::{Applied, apply};
use crate::suppress::builtin::rules_of;
use crate::suppress::files;
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
    /// Applies the rules to a session's report. Rules of the target's own that could not be read are a line among the report's
    /// notes: to accuse too much is not to hide anything.
    ///
    /// # Errors
    /// A file of rules cannot be read, or has a line that is no rule.
    pub fn apply(&self, session: &Session, report: &mut SitesReport) -> Result<Applied, CommandError> {
        let mut rules = files::load(&self.suppressions)?;
        let target = Target {
            id: session.file.target,
        };
        if target.is_alive() {
            match rules_of(&target) {
                Ok(own) => rules.extend(own),
                Err(note) => report.notes.push(note),
            }
        }
        Ok(apply(&rules, report, super::export::present_modules(session)))
    }
}
