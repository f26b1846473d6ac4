//! Folded stacks: `root;…;leaf bytes` a line, what every flame graph tool takes. Values are bytes alive.

use std::collections::BTreeMap;
use std::io;

use super::label;
use crate::report::model::Stack;
use crate::report::sites::SitesReport;

/// A stack as one line without its count. What would end a frame or a count early is replaced.
#[must_use]
pub fn path(stack: &Stack) -> String {
    let mut path = String::new();
    for name in label::outermost_first(stack) {
        if !path.is_empty() {
            path.push(';');
        }
        path.extend(
            name.chars()
                .map(|character| if character == ';' { ':' } else { character }),
        );
    }
    // `… operator 12` and a count would be read as the two counts of a differential line.
    if let Some((head, tail)) = path.rsplit_once(' ')
        && tail.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return format!("{head}_{tail}");
    }
    path
}

/// Bytes alive by folded stack, in the order they are written. Sites of which nothing is alive are left out.
#[must_use]
pub fn fold(report: &SitesReport) -> BTreeMap<String, u64> {
    let mut folded = BTreeMap::new();
    for site in report.sites.iter().filter(|site| site.live.bytes > 0) {
        *folded.entry(path(&site.stack)).or_insert(0) += site.live.bytes;
    }
    folded
}

/// Writes the lines, sorted.
///
/// # Errors
/// The writer's.
pub fn write(report: &SitesReport, out: &mut dyn io::Write) -> io::Result<()> {
    for (path, bytes) in fold(report) {
        writeln!(out, "{path} {bytes}")?;
    }
    Ok(())
}
