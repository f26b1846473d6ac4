//! Exports: a database by site, as the profiles, pictures and metrics of the tools people already have.
//!
//! Each format is one file and pure: a [`SitesReport`] and the target's mappings in, bytes out, the same bytes for the
//! same report. [`file`] and [`walk`] put bytes into the file system; nothing else here touches it.
//!
//! Absent on purpose: a differential pprof (`go tool pprof -diff_base` takes two of ours). Where blocks are sampled, the
//! report that comes here holds estimates already ([`crate::report::unsample`]), and each format says so where it can.

pub mod differential;
pub mod file;
pub mod folded;
mod label;
pub mod pprof;
pub mod prom;
pub mod speedscope;
#[cfg(feature = "flamegraph")]
pub mod svg;
mod walk;

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;

use std::io;

use crate::report::sites::SitesReport;
use crate::symbol::SavedModule;

/// One database, ready to be exported.
#[derive(Clone, Copy, Debug)]
pub struct Exported<'a> {
    /// The database by site.
    pub report: &'a SitesReport,
    /// The target's executable mappings, for formats that keep addresses; may be empty.
    pub modules: &'a [SavedModule],
}

/// A format of one database a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfileFormat {
    /// `profile.proto`, gzipped: `go tool pprof`, Parca, Pyroscope.
    Pprof,
    /// `root;…;leaf bytes` a line.
    Folded,
    /// A flame graph.
    Svg,
    /// <https://www.speedscope.app>'s own JSON.
    Speedscope,
}

impl ProfileFormat {
    /// What its files' names end with.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Pprof => "pb.gz",
            Self::Folded => "folded",
            Self::Svg => "svg",
            Self::Speedscope => "speedscope.json",
        }
    }

    /// Not for a terminal.
    #[must_use]
    pub const fn is_binary(self) -> bool {
        matches!(self, Self::Pprof)
    }
}

/// Writes one database in a format.
///
/// # Errors
/// The writer's; `Unsupported` for a flame graph in a build without the feature `flamegraph`.
pub fn write(format: ProfileFormat, database: Exported<'_>, out: &mut dyn io::Write) -> io::Result<()> {
    match format {
        ProfileFormat::Pprof => pprof::write(database, out),
        ProfileFormat::Folded => folded::write(database.report, out),
        ProfileFormat::Speedscope => speedscope::write(database.report, out),
        #[cfg(feature = "flamegraph")]
        ProfileFormat::Svg => svg::write(database.report, out),
        #[cfg(not(feature = "flamegraph"))]
        ProfileFormat::Svg => Err(no_flame_graphs()),
    }
}

/// What a reader of one of these formats must know and may not find in it: that figures are estimates.
#[must_use]
pub fn caution(report: &SitesReport) -> Option<String> {
    label::estimated(report)
}

/// What to say in a build without them.
#[cfg(not(feature = "flamegraph"))]
pub(crate) fn no_flame_graphs() -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        "this memscope was built without flame graphs (cargo feature `flamegraph`); \
         `--format folded` gives what any flame graph tool takes",
    )
}
