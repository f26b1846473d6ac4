//! pprof: `profile.proto`, gzipped, as gperftools and Go's runtime write heap profiles.

mod builder;
pub mod messages;

#[cfg(test)]
mod tests;

use std::io;

use flate2::{Compression, GzBuilder};
use prost::Message as _;

use super::Exported;

/// Writes a database as a gzipped profile. The gzip header holds no time and no name, so that equal reports give equal
/// files.
///
/// # Errors
/// The writer's.
pub fn write(database: Exported<'_>, out: &mut dyn io::Write) -> io::Result<()> {
    let profile = builder::profile(database);
    let mut gzip = GzBuilder::new().mtime(0).write(out, Compression::default());
    io::Write::write_all(&mut gzip, &profile.encode_to_vec())?;
    gzip.finish().map(drop)
}
