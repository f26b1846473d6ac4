//! The arguments of `report`, `check` and `mark`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::arguments::{Format, TargetArguments};
use super::output::OutputArguments;
use super::suppressions::SuppressionArguments;
use crate::age::Age;
use crate::report::model::SiteId;

/// Only blocks born in a span of marks.
#[derive(Clone, Debug, Default, Args)]
pub struct SpanArguments {
    /// Only blocks born since this mark
    #[arg(long, value_name = "MARK", conflicts_with = "between")]
    pub since: Option<String>,
    /// Only blocks born between these marks
    #[arg(long, num_args = 2, value_names = ["MARK", "MARK"])]
    pub between: Vec<String>,
}

/// `report`.
#[derive(Debug, Args)]
pub struct ReportArguments {
    /// Whom; none: every database
    #[command(flatten)]
    pub target: TargetArguments,
    /// Show at most this many sites of each verdict (JSON: of all)
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// Order of the sites
    #[arg(long, value_enum, default_value_t)]
    pub sort: SortSites,
    /// Only sites of this verdict (repeatable)
    #[arg(long, value_enum, value_name = "VERDICT")]
    pub verdict: Vec<VerdictName>,
    /// Only this site, with its whole stack and evidence
    #[arg(long, value_name = "ID", value_parser = site_id)]
    pub site: Option<SiteId>,
    /// Which blocks
    #[command(flatten)]
    pub span: SpanArguments,
    /// Which sites are let be
    #[command(flatten)]
    pub suppressions: SuppressionArguments,
    /// Put sites together
    #[arg(long, value_enum, default_value_t)]
    pub by: By,
    /// Rendering
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Where to
    #[command(flatten)]
    pub output: OutputArguments,
}

/// An order of sites.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SortSites {
    /// Fastest growing first
    #[default]
    Growth,
    /// Most bytes alive first
    Bytes,
    /// Most blocks alive first
    Blocks,
    /// Oldest live block first
    Oldest,
    /// Surest verdict first
    Confidence,
}

/// A verdict on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum VerdictName {
    /// Blocks pile up without end
    Leaking,
    /// Too little to say
    Undecided,
    /// Bounded, or flattening
    Cache,
    /// Born early, no more
    Startup,
    /// Only young blocks live
    Churn,
}

/// What sites are put together by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Each for itself
    #[default]
    Site,
    /// By the first function of the program's own code
    Function,
    /// By that function's module
    Module,
}

/// `check`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// Whom; none: every database
    #[command(flatten)]
    pub target: TargetArguments,
    /// Only suspects whose oldest block is at least this old
    #[arg(long, value_name = "AGE", default_value = "0")]
    pub age: Age,
    /// Only suspects that hold at least this many bytes
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub min_bytes: u64,
    /// Only suspects that grow by at least this many bytes a minute
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    pub min_rate: u64,
    /// Only suspects that do not leak in this saved report (`report --format json`)
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Which blocks
    #[command(flatten)]
    pub span: SpanArguments,
    /// Which sites are let be
    #[command(flatten)]
    pub suppressions: SuppressionArguments,
    /// Print nothing when clean
    #[arg(short, long)]
    pub quiet: bool,
    /// Rendering
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// `mark`.
#[derive(Debug, Args)]
pub struct MarkArguments {
    /// Process id
    pub target: u32,
    /// Name of the moment
    pub name: String,
}

/// A site id as reports print it: hex, with or without `0x`.
///
/// # Errors
/// It is none.
pub fn site_id(text: &str) -> Result<SiteId, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    // `from_str_radix` alone would take a sign.
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("a site id is 16 hex digits, as `report` prints it".to_owned());
    }
    u64::from_str_radix(digits, 16)
        .map(SiteId)
        .map_err(|_| "a site id has at most 16 hex digits".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_id_is_read_as_reports_print_it() {
        for text in ["0x01234567c12029d8", "01234567C12029d8", "1234567c12029d8"] {
            assert_eq!(site_id(text), Ok(SiteId(0x0123_4567_c120_29d8)), "{text}");
        }
        for text in ["", "0x", "+1", "-1", "xyz", "10000000000000000"] {
            assert!(site_id(text).is_err(), "{text}");
        }
    }
}
