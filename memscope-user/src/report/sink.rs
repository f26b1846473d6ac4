//! Buffered output with the few number formats of an entry line, so that printing one allocates nothing.

use std::io;

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

    pub(super) fn decimal(&mut self, mut number: u64) {
        // u64::MAX has 20 digits.
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.buffer.extend_from_slice(&digits[at..]);
    }

    /// `0x` and at least `width` digits, lower case; `width` is 1 to 16.
    pub(super) fn hex(&mut self, number: u64, width: usize) {
        let mut digits = [b'0'; 16];
        let mut rest = number;
        let mut at = digits.len();
        while rest != 0 {
            at -= 1;
            digits[at] = b"0123456789abcdef"[(rest & 0xf) as usize];
            rest >>= 4;
        }
        let at = at.min(digits.len() - width.clamp(1, 16));
        self.buffer.extend_from_slice(b"0x");
        self.buffer.extend_from_slice(&digits[at..]);
    }

    /// Anything that shows itself; for lines that are few.
    pub(super) fn show(&mut self, value: impl std::fmt::Display) -> io::Result<()> {
        io::Write::write_fmt(&mut self.buffer, format_args!("{value}"))
    }

    /// A value as JSON, its keys in the order of its fields.
    pub(super) fn json(&mut self, value: &impl serde::Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.buffer, value).map_err(io::Error::from)
    }

    /// Writes the buffer once it is large; called between records, so that the buffer stays bounded.
    pub(super) fn spill(&mut self) -> io::Result<()> {
        if self.buffer.len() >= SPILL_AT {
            self.out.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Writes what is left.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_standard_library_writes_them() {
        for number in [
            0,
            1,
            9,
            10,
            0xf,
            0x10,
            79258,
            0x1d49_6a80,
            0xc120_29d8,
            u64::MAX - 1,
            u64::MAX,
        ] {
            let mut out = Vec::new();
            let mut sink = Sink::new(&mut out);
            sink.decimal(number);
            sink.text(" ");
            sink.hex(number, 1);
            sink.text(" ");
            sink.hex(number, 8);
            sink.text(" ");
            sink.hex(number, 16);
            sink.flush().unwrap();
            let expected = format!("{number} {number:#x} {number:#010x} {number:#018x}");
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
