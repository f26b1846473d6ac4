//! Buffered output of what a report has few of; entries are put together in a [`Row`].

use std::io;

use super::row::Row;

/// Bytes held back before they are written: large enough that a million entries take few system calls.
const SPILL_AT: usize = 64 * 1024;

/// A buffer in front of a writer. What is left in it is written by [`Sink::flush`], never on drop, where an error would
/// be lost.
pub(super) struct Sink<'a> {
    out: &'a mut dyn io::Write,
    buffer: Vec<u8>,
}

impl<'a> Sink<'a> {
    pub(super) fn new(out: &'a mut dyn io::Write) -> Self {
        Self {
            out,
            buffer: Vec::with_capacity(SPILL_AT * 2),
        }
    }

    pub(super) fn text(&mut self, text: &str) {
        self.buffer.extend_from_slice(text.as_bytes());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    pub(super) fn decimal(&mut self, number: u64) {
        let mut row = Row::new();
        row.decimal(number);
        self.bytes(row.bytes());
    }

    /// `0x` and at least `width` digits, lower case; `width` is 1 to 16.
    pub(super) fn hex(&mut self, number: u64, width: usize) {
        let mut row = Row::new();
        row.hex(number, width);
        self.bytes(row.bytes());
    }

    /// Anything that shows itself; for lines that are few.
    pub(super) fn show(&mut self, value: impl std::fmt::Display) -> io::Result<()> {
        io::Write::write_fmt(&mut self.buffer, format_args!("{value}"))
    }

    /// A value as JSON, its keys in the order of its fields. Written on the way, too: a stack may be as long as a target's
    /// files make it.
    pub(super) fn json(&mut self, value: &impl serde::Serialize) -> io::Result<()> {
        serde_json::to_writer(Spilling(self), value).map_err(io::Error::from)
    }

    /// Writes the buffer once it is large; called between records, so that the buffer stays bounded.
    pub(super) fn spill(&mut self) -> io::Result<()> {
        if self.buffer.len() >= SPILL_AT {
            self.out.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Writes what is held back, then these bytes, which are many.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        self.out.write_all(bytes)
    }

    /// Writes what is left.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        self.out.flush()
    }
}

struct Spilling<'s, 'a>(&'s mut Sink<'a>);

impl io::Write for Spilling<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.bytes(bytes);
        self.0.spill()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
