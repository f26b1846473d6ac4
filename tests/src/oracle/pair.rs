//! One program with one allocator: worked under the recorder with memscope attached, then both sets compared.

use std::collections::BTreeMap;
use std::fmt;

use crate::difference::Difference;
use crate::memscope::Memscope;
use crate::oracle::Allocator;
use crate::oracle::table::{Snapshot, TableFile};
use crate::report::Database;
use crate::text;
use crate::workload::{Folder, Kind, Running};

/// A line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// The program.
    pub program: &'static str,
    /// Its allocator.
    pub allocator: &'static str,
    /// Calls of the allocator while traced.
    pub events: u64,
    /// Blocks taken while traced that live at the end.
    pub live: usize,
    /// What is wrong.
    pub difference: Difference,
    /// What memscope says that it lost.
    pub losses: BTreeMap<String, u64>,
}

impl Row {
    /// Whether the report is the truth.
    pub fn exact(&self) -> bool {
        self.difference.is_empty() && self.losses.is_empty()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference {
            missed,
            invented,
            size_mismatch,
        } = &self.difference;
        write!(
            f,
            "| {:<12} | {:<10} | {:>10} | {:>8} | {:>6} | {:>8} | {:>10} | {} |",
            self.program,
            self.allocator,
            self.events,
            self.live,
            missed.len(),
            invented.len(),
            size_mismatch.len(),
            self.losses
                .iter()
                .map(|(reason, count)| format!("{reason} {count}"))
                .collect::<Vec<_>>()
                .join(", ")
        )
    }
}

/// The head of the table that [`Row`]s make.
pub const TABLE_HEAD: &str = "\
| program      | allocator  |     events |     live | missed | invented | other size | losses |
|--------------|------------|-----------:|---------:|-------:|---------:|-----------:|--------|";

/// Runs one pair. The work's output must be that of an untraced run without recorder and allocator.
pub fn run(kind: Kind, allocator: Allocator, rounds: u32) -> Row {
    run_with(&Memscope::new(), kind, allocator, rounds)
}

/// The same, traced by this memscope.
pub fn run_with(memscope: &Memscope, kind: Kind, allocator: Allocator, rounds: u32) -> Row {
    let plain = {
        let folder = Folder::new();
        let mut running = Running::start(kind, &folder, &[]);
        let said = running.work(0..rounds);
        running.end();
        said
    };

    let folder = Folder::new();
    let table = TableFile::new();
    let preload = allocator.preload();
    let file = table.variable().to_str().expect("the table's path is text").to_owned();
    let variables = [("LD_PRELOAD", preload.as_str()), ("MEMSCOPE_ORACLE_FILE", &file)];
    let mut running = Running::start(kind, &folder, &variables);
    let pid = running.pid();
    let before = text::altered(pid);
    let session = crate::session::Session::attach(memscope, pid);
    // A call numbered later than this one began after the probes were in place.
    let attached_at = table.header(pid).events;
    let said = running.work(0..rounds);
    let (database, snapshot) = {
        let _still = table.stand_still(pid);
        (session.print(), table.snapshot(pid))
    };
    session.detach();
    text::assert_restored(pid, &before, kind.name());
    running.end();
    assert_eq!(said, plain, "{} works as if untraced", kind.name());
    Row {
        program: kind.name(),
        allocator: allocator.name(),
        events: snapshot.header.events - attached_at,
        live: snapshot
            .live
            .values()
            .filter(|block| block.sequence > attached_at)
            .count(),
        difference: compare(&snapshot, attached_at, &database),
        losses: database.losses,
    }
}

/// Blocks made after attach must all be reported; nothing may be reported that does not live. A block made while attach
/// was at work may be in the report or not.
pub fn compare(truth: &Snapshot, attached_at: u64, database: &Database) -> Difference {
    let mut difference = Difference::default();
    let mut seen = BTreeMap::new();
    for entry in &database.entries {
        let address = entry.address();
        let twice = seen.insert(address, ()).is_some();
        match truth.live.get(&address) {
            Some(block) if !twice && block.size == entry.size => {}
            Some(block) if !twice => difference.size_mismatch.push((address, block.size, entry.size)),
            _ => difference.invented.push((address, entry.size)),
        }
    }
    let made_later = truth.live.iter().filter(|(_, block)| block.sequence > attached_at);
    difference.missed = made_later
        .filter(|(address, _)| !seen.contains_key(address))
        .map(|(&a, block)| (a, block.size))
        .collect();
    difference
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::table::{Header, Recorded};

    fn truth(blocks: &[(u64, u64, u64)]) -> Snapshot {
        let header = Header {
            slots: 0,
            events: 100,
            inside: 0,
            overflow: 0,
            twice: 0,
        };
        let live = blocks
            .iter()
            .map(|&(address, size, sequence)| (address, Recorded { size, sequence }))
            .collect();
        Snapshot { header, live }
    }

    fn database(blocks: &[(u64, u64)]) -> Database {
        let entries: Vec<String> = blocks
            .iter()
            .map(|(address, size)| {
                format!(r#"{{"entry":1,"address":"{address:#x}","size":{size},"age_s":0,"tid":1,"site":"0x1"}}"#)
            })
            .collect();
        let text = format!(
            r#"{{"target":{{"pid":1,"start_time":1,"comm":"","exe":"","build_id":null}},
            "collection":{{"state":"collecting","since":0,"seconds":0}},"age_s":0,"entries":[{}],
            "sites":{{}},"printed":0,"total":0,"losses":{{}}}}"#,
            entries.join(",")
        );
        serde_json::from_str(&text).expect("a database")
    }

    #[test]
    fn a_block_made_during_attach_may_be_reported_or_not_but_one_made_later_must_be() {
        let truth = truth(&[(0x10, 1, 5), (0x20, 2, 9), (0x30, 3, 20)]);
        assert!(compare(&truth, 10, &database(&[(0x30, 3)])).is_empty());
        assert!(compare(&truth, 10, &database(&[(0x20, 2), (0x30, 3)])).is_empty());
        assert_eq!(compare(&truth, 10, &database(&[(0x20, 2)])).missed, [(0x30, 3)]);
    }

    #[test]
    fn a_block_that_does_not_live_is_invented_and_another_size_is_a_mismatch() {
        let truth = truth(&[(0x30, 3, 20)]);
        let difference = compare(&truth, 10, &database(&[(0x30, 4), (0x40, 1)]));
        assert_eq!(difference.invented, [(0x40, 1)]);
        assert_eq!(difference.size_mismatch, [(0x30, 3, 4)]);
    }
}
