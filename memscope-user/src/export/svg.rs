//! Flame graphs, drawn by inferno (CDDL-1.0, hence the cargo feature). Width is bytes alive, or their change.

use std::io;

use inferno::flamegraph::color::{BasicPalette, Palette};
use inferno::flamegraph::{Options, from_lines};

use super::differential::Differential;
use super::{folded, label};
use crate::report::Escaped;
use crate::report::sites::SitesReport;

/// What stands above a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heading {
    /// What the picture shows.
    pub title: String,
    /// Of whom, and over which time.
    pub subtitle: String,
}

impl Heading {
    /// The heading of one database.
    #[must_use]
    pub fn of(report: &SitesReport) -> Self {
        let (target, live) = (&report.target, report.total_live());
        Self {
            title: "Live memory by call stack".to_owned(),
            subtitle: format!(
                "{} (pid {}): {} bytes in {} blocks, collected over {} s{}{}",
                Escaped(&target.comm),
                target.id.pid,
                live.bytes,
                live.blocks,
                report.collection.seconds,
                label::estimated(report).map_or_else(String::new, |how| format!("; {how}")),
                if report.losses.is_empty() {
                    ""
                } else {
                    "; INCOMPLETE: events were lost"
                }
            ),
        }
    }
}

/// Draws what is alive.
///
/// # Errors
/// The writer's.
pub fn write(report: &SitesReport, out: &mut dyn io::Write) -> io::Result<()> {
    let lines = folded::fold(report)
        .into_iter()
        .map(|(path, bytes)| format!("{path} {bytes}"));
    draw(&Heading::of(report), &lines.collect::<Vec<_>>(), out)
}

/// Draws two reports in one: width is what is alive in the second, red what grew, blue what shrank.
///
/// # Errors
/// The writer's.
pub fn write_differential(differential: &Differential, heading: &Heading, out: &mut dyn io::Write) -> io::Result<()> {
    let lines = differential
        .iter()
        .map(|(path, (before, after))| format!("{path} {before} {after}"));
    draw(heading, &lines.collect::<Vec<_>>(), out)
}

fn draw(heading: &Heading, lines: &[String], out: &mut dyn io::Write) -> io::Result<()> {
    if lines.is_empty() {
        return write_empty(heading, out);
    }
    let mut options = Options::default();
    options.title.clone_from(&heading.title);
    options.subtitle = Some(heading.subtitle.clone());
    options.count_name = "bytes".to_owned();
    options.name_type = "Function:".to_owned();
    options.colors = Palette::Basic(BasicPalette::Mem);
    options.deterministic = true;
    from_lines(&mut options, lines.iter().map(String::as_str), out)
}

/// inferno takes no input for an error; here it is an answer.
fn write_empty(heading: &Heading, out: &mut dyn io::Write) -> io::Result<()> {
    let text = |text: &str| {
        let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        escaped.replace(|character: char| character.is_control(), " ")
    };
    writeln!(
        out,
        r#"<?xml version="1.0" standalone="no"?>
<svg version="1.1" width="1200" height="90" viewBox="0 0 1200 90" xmlns="http://www.w3.org/2000/svg">
<title>{title}</title>
<g font-family="monospace" font-size="12" text-anchor="middle">
<text x="600" y="24" font-size="17">{title}</text>
<text x="600" y="46">{subtitle}</text>
<text x="600" y="72">No live blocks.</text>
</g>
</svg>"#,
        title = text(&heading.title),
        subtitle = text(&heading.subtitle)
    )
}
