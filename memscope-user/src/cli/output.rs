//! Where a command's data goes: standard output, a named file, or a folder of files named after host and target.

use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::PathBuf;

use clap::Args;

use super::run::CommandError;
use crate::export::file::{self, Existing};
use crate::report::model::TargetDescription;

/// `-o`, `--output-dir`, `--force`.
#[derive(Clone, Debug, Default, Args)]
pub struct OutputArguments {
    /// Write to this file, whole or not at all; `-` is standard output
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Write into this folder, each file named after host and target
    #[arg(long, value_name = "DIR", conflicts_with = "output")]
    pub output_dir: Option<PathBuf>,
    /// Replace a file that exists
    #[arg(long)]
    pub force: bool,
}

impl OutputArguments {
    /// Data of several targets has a place each.
    #[must_use]
    pub fn takes_several(&self) -> bool {
        self.output_dir.is_some()
    }

    /// Writes one piece of data to its place; `name` is its file's in a folder.
    ///
    /// # Errors
    /// It cannot be written; binary data would go to a terminal.
    pub fn write(
        &self,
        name: &str,
        binary: bool,
        content: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), CommandError> {
        let existing = if self.force { Existing::Replace } else { Existing::Keep };
        let path = match (&self.output_dir, &self.output) {
            (Some(folder), _) => folder.join(name),
            (None, Some(path)) if path.as_os_str() != "-" => path.clone(),
            (None, _) => return to_stdout(binary, content),
        };
        Ok(file::write(&path, existing, content)?)
    }
}

fn to_stdout(binary: bool, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CommandError> {
    let out = io::stdout().lock();
    if binary && out.is_terminal() {
        return Err(CommandError::Usage(
            "this format is not for a terminal: give -o FILE".into(),
        ));
    }
    let mut out = BufWriter::new(out);
    content(&mut out)?;
    Ok(out.flush()?)
}

/// The name of a target's file: `memscope-HOST-COMM-PID.EXTENSION`, with what is no plain letter in a name replaced.
#[must_use]
pub fn file_name(target: &TargetDescription, extension: &str) -> String {
    format!(
        "memscope-{}-{}-{}.{extension}",
        plain(&host()),
        plain(&target.comm),
        target.id.pid
    )
}

/// The name of a host's file: `memscope-HOST.EXTENSION`.
#[must_use]
pub fn host_file_name(extension: &str) -> String {
    format!("memscope-{}.{extension}", plain(&host()))
}

/// This machine's name.
#[must_use]
pub fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn plain(name: &str) -> String {
    let plain = |character: char| {
        if character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-') {
            character
        } else {
            '_'
        }
    };
    name.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_targets_name_cannot_lead_out_of_the_folder() {
        let report = crate::export::samples::gateway();
        let mut target = report.target;
        target.comm = "../evil\n/x y".to_owned();
        let name = file_name(&target, "pb.gz");
        assert!(name.ends_with("-.._evil__x_y-1234.pb.gz"), "{name}");
        assert!(name.starts_with("memscope-") && !name.contains('/'), "{name}");
    }
}
