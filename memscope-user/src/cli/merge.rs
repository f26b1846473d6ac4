//! `merge`: the reports of many hosts in one.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::output::{self, OutputArguments};
use super::run::CommandError;
use crate::compare::merge::merge;
use crate::compare::{merge_render, saved};
use crate::exit::ExitCode;

/// `merge`.
#[derive(Debug, Args)]
pub struct MergeArguments {
    /// Reports: files that `print --format json` or `report --format json` wrote
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// As what
    #[arg(long, value_enum, default_value_t)]
    pub format: MergeFormat,
    /// Sites in the text at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub top: usize,
    /// Where to
    #[command(flatten)]
    pub output: OutputArguments,
}

/// A rendering of merged reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum MergeFormat {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
}

/// Runs `merge`.
///
/// # Errors
/// A file cannot be read: the result would look like that of all hosts.
pub fn run(arguments: &MergeArguments) -> Result<ExitCode, CommandError> {
    let mut reports = Vec::new();
    for file in &arguments.files {
        reports.push(saved::read(file)?);
    }
    let merged = merge(&reports);
    let extension = match arguments.format {
        MergeFormat::Text => "txt",
        MergeFormat::Json => "json",
    };
    let name = format!("merge-{}", output::host_file_name(extension));
    arguments.output.write(&name, false, |out| match arguments.format {
        MergeFormat::Text => merge_render::write_text(&merged, arguments.top, out),
        MergeFormat::Json => merge_render::write_json(&merged, out),
    })?;
    Ok(ExitCode::Success)
}
