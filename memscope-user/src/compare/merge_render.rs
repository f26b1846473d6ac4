//! Merged reports as text and as JSON, `memscope.merge/v1`.
//!
//! `{"schema","hosts":n,"databases":n,"live":{"blocks","bytes"},"sites":[{"site","hosts":n,"host_names":[…],"leaking_hosts":n,
//! "databases":n,"live":{…},"worst":{"host","pid","comm","live":{…}},"function","stack":[…]}],"notes":[…]}`

use std::collections::BTreeSet;
use std::io;

use serde::Serialize;

use super::diff_json::AmountPart;
use super::diff_text::FrameName;
use super::merge::Merged;
use crate::report::Escaped;
use crate::report::quantity::{Bytes, Count};

/// Writes text: the first `top` sites.
///
/// # Errors
/// The writer's.
pub fn write_text(merged: &Merged, top: usize, out: &mut dyn io::Write) -> io::Result<()> {
    writeln!(
        out,
        "{:>6} {:>8} {:>12} {:>12}  {:<18}  WORST / FUNCTION",
        "HOSTS", "LEAKING", "BYTES", "BLOCKS", "SITE"
    )?;
    for site in merged.sites.iter().take(top) {
        let name = site
            .own_frame()
            .map_or_else(String::new, |frame| FrameName(frame).to_string());
        writeln!(
            out,
            "{:>6} {:>8} {:>12} {:>12}  {:#018x}  {} pid {} ({}) / {name}",
            site.hosts.len(),
            site.leaking_on.len(),
            Bytes(site.live.bytes).to_string(),
            Count(site.live.blocks).to_string(),
            site.id.0,
            Escaped(&site.worst.host),
            site.worst.pid,
            Bytes(site.worst.live.bytes)
        )?;
    }
    if merged.sites.len() > top {
        writeln!(out, "… {} more sites", merged.sites.len() - top)?;
    }
    for note in &merged.notes {
        writeln!(out, "note: {}", Escaped(note))?;
    }
    writeln!(
        out,
        "SUMMARY: {} sites on {} hosts in {} databases; {} bytes in {} blocks",
        merged.sites.len(),
        merged.hosts.len(),
        merged.databases,
        merged.live.bytes,
        merged.live.blocks
    )
}

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    hosts: usize,
    databases: u64,
    live: AmountPart,
    sites: Vec<SitePart<'a>>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct SitePart<'a> {
    site: String,
    hosts: usize,
    host_names: &'a BTreeSet<String>,
    leaking_hosts: usize,
    databases: u64,
    live: AmountPart,
    worst: WorstPart<'a>,
    function: Option<&'a str>,
    stack: Vec<String>,
}

#[derive(Serialize)]
struct WorstPart<'a> {
    host: &'a str,
    pid: u32,
    comm: &'a str,
    live: AmountPart,
}

/// Writes JSON: every site.
///
/// # Errors
/// The writer's.
pub fn write_json(merged: &Merged, out: &mut dyn io::Write) -> io::Result<()> {
    let sites = merged.sites.iter().map(|site| SitePart {
        site: format!("{:#018x}", site.id.0),
        hosts: site.hosts.len(),
        host_names: &site.hosts,
        leaking_hosts: site.leaking_on.len(),
        databases: site.databases,
        live: site.live.into(),
        worst: WorstPart {
            host: &site.worst.host,
            pid: site.worst.pid,
            comm: &site.worst.comm,
            live: site.worst.live.into(),
        },
        function: site.own_frame().and_then(|frame| frame.function.as_deref()),
        stack: site
            .stack
            .frames
            .iter()
            .map(|frame| FrameName(frame).to_string())
            .collect(),
    });
    let document = Document {
        schema: "memscope.merge/v1",
        hosts: merged.hosts.len(),
        databases: merged.databases,
        live: merged.live.into(),
        sites: sites.collect(),
        notes: &merged.notes,
    };
    serde_json::to_writer(&mut *out, &document)?;
    writeln!(out)
}
