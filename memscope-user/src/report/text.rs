//! The old report, to the letter.
//!
//! ```text
//! Age: 3600
//! 22:10:24.619 MemScope list of entries at least 3600 seconds old
//! entry:79258 address:0x1d496a80 size:0x2c cookie:0xc12029d8 age:5327
//! 0x0000000000eb61b0: zOsMem_Alloc + 0x228
//! 0x00000000009e3ea0: servGetMem + 0x24  (serv/mem.c:118)
//! MemScope printed 1 entries
//! ```
//!
//! What the old report leaves open: a cookie is always 8 digits; address and size have no leading zeros; with several
//! databases the `Target:` line stands before the `Age:` line; an inlined function's offset is the offset in the
//! function it was inlined into; a stack that was followed by frame pointer says so in a line of its own, before the one
//! that says why it ends; notes follow the closing line.

use std::fmt;
use std::io;

use super::clock::TimeOfDay;
use super::escape::Escaped;
use super::model::{DatabaseReport, Entry, Frame};
use super::notes;
use super::pieces::{self, PieceText};
use super::row::Row;
use super::sink::Sink;
use super::stack_texts::{Room, StackTexts};
use crate::age::Age;

/// Writes reports as text, one database after the other.
pub struct TextReport<'a> {
    sink: Sink<'a>,
    at: TimeOfDay,
    several: bool,
}

impl<'a> TextReport<'a> {
    /// Reports taken `at` this time, written to `out`; `several`: name the target before each.
    pub fn new(out: &'a mut dyn io::Write, at: TimeOfDay, several: bool) -> Self {
        Self {
            sink: Sink::new(out),
            at,
            several,
        }
    }

    /// Writes one database's report and flushes it.
    ///
    /// # Errors
    /// Whatever the writer returns; see [`super::is_broken_pipe`].
    pub fn database(&mut self, report: &DatabaseReport) -> io::Result<()> {
        if self.several {
            let target = &report.target;
            self.sink
                .show(format_args!("Target: {} {}\n", target.id.pid, Escaped(&target.comm)))?;
        }
        let (at, age_s) = (self.at, report.age_s);
        self.sink.show(format_args!(
            "Age: {age_s}\n{at} MemScope list of entries at least {age_s} seconds old\n"
        ))?;
        let stacks = StackTexts::of(report, Room::USUAL);
        pieces::render(
            &mut self.sink,
            &report.entries,
            LONGEST_LINE + stacks.longest(),
            |out, index, entry, _| {
                write_entry_line(out, entry);
                stacks.add_to(out, index);
            },
            |sink, index| stacks.write(sink, index),
        )?;
        let printed = report.entries.len() as u64;
        self.sink.text("MemScope printed ");
        self.sink.decimal(printed);
        if printed < report.total {
            self.sink.text(" of ");
            self.sink.decimal(report.total);
        }
        self.sink.text(" entries\n");
        for note in notes::lines(report) {
            self.sink.show(format_args!("note: {}\n", Escaped(&note)))?;
        }
        self.sink.flush()
    }

    /// Writes the report of a target that has no database.
    ///
    /// # Errors
    /// Whatever the writer returns.
    pub fn no_database(&mut self, age: Age) -> io::Result<()> {
        self.sink
            .show(format_args!("Age: {age}\nMemScope database does not exist\n"))?;
        self.sink.flush()
    }
}

/// Bytes of an entry's line with each number at its largest, about.
const LONGEST_LINE: usize = 120;

fn write_entry_line(out: &mut PieceText, entry: &Entry) {
    let mut row = Row::new();
    row.text("entry:");
    row.decimal(entry.number.0);
    row.text(" address:");
    row.hex(entry.address.0, 1);
    row.text(" size:");
    row.hex(entry.size, 1);
    row.text(" cookie:");
    row.hex(u64::from(entry.site.cookie()), 8);
    row.text(" age:");
    row.decimal(entry.age_s());
    row.text("\n");
    out.push(row.bytes());
}

/// One frame as the report prints it, without the line's end.
#[derive(Clone, Copy, Debug)]
pub struct FrameLine<'a>(pub &'a Frame);

impl fmt::Display for FrameLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frame = self.0;
        write!(f, "{:#018x}: ", frame.address)?;
        match (&frame.function, frame.module.as_str()) {
            (Some(function), _) => write!(f, "{}", Escaped(function))?,
            (None, "") => f.write_str("[unknown]")?,
            // The kernel's own names, [vdso] and the like, have their brackets already.
            (None, module) if module.starts_with('[') && module.ends_with(']') => write!(f, "{}", Escaped(module))?,
            (None, module) => write!(f, "[{}]", Escaped(module))?,
        }
        write!(f, " + {:#x}", frame.offset)?;
        if let Some(source) = &frame.source {
            match source.line {
                Some(line) => write!(f, "  ({}:{line})", Escaped(&source.file))?,
                None => write!(f, "  ({})", Escaped(&source.file))?,
            }
        }
        if frame.inlined {
            f.write_str(" [inlined]")?;
        }
        Ok(())
    }
}
