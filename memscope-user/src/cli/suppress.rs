//! `suppress`: writes the rule that takes one site off the list of suspects.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::arguments::TargetArguments;
use super::meant::Meant;
use super::run::CommandError;
use super::verdict_arguments::site_id;
use crate::collection::reading::read_sites;
use crate::database::paths::Roots;
use crate::database::session::Session;
use crate::exit::ExitCode;
use crate::export::file::{self, Existing};
use crate::report::Escaped;
use crate::report::model::SiteId;
use crate::report::quantity::{Bytes, Count};
use crate::suppress::files;
use crate::suppress::propose::{Proposal, hidden_by, propose};

/// `suppress`.
#[derive(Debug, Args)]
pub struct SuppressArguments {
    /// Whose site it is; none: looked for in every database
    #[command(flatten)]
    pub target: TargetArguments,
    /// The site, as reports name it (0x…)
    #[arg(long, value_name = "ID", value_parser = site_id)]
    pub site: SiteId,
    /// This pattern instead of one made from the site's stack
    #[arg(long, value_name = "PATTERN")]
    pub pattern: Option<String>,
    /// The file to write to; by default that of this user, as root that of the host
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Show the rule, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Runs `suppress`.
///
/// # Errors
/// No database has the site, nothing in its stack can be named, or the file cannot be written.
pub fn run(arguments: &SuppressArguments) -> Result<ExitCode, CommandError> {
    let Some(proposal) = proposal(arguments)? else {
        return Err(CommandError::Usage(format!(
            "no site {:#018x} with a function that a rule could name: `memscope report` lists the sites",
            arguments.site.0
        )));
    };
    let rule = format!("leak:{}", proposal.pattern);
    let hidden = proposal.hidden;
    writeln!(
        io::stderr(),
        "{} hides {} in {} blocks of {} sites",
        Escaped(&rule),
        Bytes(hidden.live.bytes),
        Count(hidden.live.blocks),
        hidden.sites
    )?;
    if arguments.dry_run {
        writeln!(io::stdout(), "{rule}")?;
        return Ok(ExitCode::Success);
    }
    let path = match &arguments.file {
        Some(path) => path.clone(),
        None => default_file()?,
    };
    let text = format!("# site {:#018x}\n{rule}\n", arguments.site.0);
    if append(&path, &rule, &text)? {
        writeln!(io::stderr(), "written to {}", path.display())?;
    } else {
        writeln!(io::stderr(), "{} has it already", path.display())?;
    }
    Ok(ExitCode::Success)
}

fn proposal(arguments: &SuppressArguments) -> Result<Option<Proposal>, CommandError> {
    let roots = Roots::from_environment();
    let mut meant = Meant::of(&roots, &arguments.target)?;
    for id in meant.ids.clone() {
        let read = meant.read(&roots, id, || {
            let session = Session::open(&roots, id)?;
            let report = read_sites(&session)?;
            Ok((session, report))
        })?;
        let Some((session, report)) = read else { continue };
        let modules = super::export::present_modules(&session);
        if !report.sites.iter().any(|site| site.id == arguments.site) {
            continue;
        }
        if let Some(pattern) = &arguments.pattern {
            if pattern.contains(char::is_control) {
                return Err(CommandError::Usage("a pattern is one line".into()));
            }
            return Ok(Some(Proposal {
                hidden: hidden_by(pattern, &report, modules),
                pattern: pattern.clone(),
            }));
        }
        return Ok(propose(&report, arguments.site, modules));
    }
    Ok(None)
}

fn default_file() -> Result<PathBuf, CommandError> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from(files::OF_HOST));
    }
    files::of_user().ok_or_else(|| CommandError::Usage("no home folder: give --file FILE".into()))
}

/// Adds the text to the file unless the rule is in it; whether it did. The folder is made if need be.
fn append(path: &Path, rule: &str, text: &str) -> Result<bool, CommandError> {
    let old = match files::read(path) {
        Ok(old) => old,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                std::fs::create_dir_all(folder)?;
            }
            String::new()
        }
        Err(error) => return Err(error.into()),
    };
    if old.lines().any(|line| line.trim() == rule) {
        return Ok(false);
    }
    let end = if old.is_empty() || old.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    file::write(path, Existing::Replace, |out| write!(out, "{old}{end}{text}"))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_added_once_and_what_was_there_stays() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("memscope/suppressions");
        assert!(append(&path, "leak:a", "leak:a\n").unwrap());
        assert!(!append(&path, "leak:a", "leak:a\n").unwrap());
        std::fs::write(&path, "# mine\nleak:b").unwrap();
        assert!(append(&path, "leak:a", "leak:a\n").unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "# mine\nleak:b\nleak:a\n");
    }
}
