//! A writer that leaves out the first line: the terminal shows it already.

use std::io::{self, Write};

/// Passes on everything after the first line's end.
pub struct SkipFirstLine<W> {
    out: W,
    skipping: bool,
}

impl<W: Write> SkipFirstLine<W> {
    /// In front of this writer. `skipping`: there is a line to leave out.
    pub const fn new(out: W, skipping: bool) -> Self {
        Self { out, skipping }
    }
}

impl<W: Write> Write for SkipFirstLine<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.skipping {
            return self.out.write(bytes);
        }
        match bytes.iter().position(|byte| *byte == b'\n') {
            Some(end) => {
                self.skipping = false;
                Ok(end + 1)
            }
            None => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_left_out_however_it_is_cut() {
        for cut in 0..10 {
            let mut out = Vec::new();
            let mut skip = SkipFirstLine::new(&mut out, true);
            let (first, second) = b"Age: 60\nx\n".split_at(cut);
            skip.write_all(first).unwrap();
            skip.write_all(second).unwrap();
            assert_eq!(out, b"x\n");
        }
        let mut out = Vec::new();
        SkipFirstLine::new(&mut out, false).write_all(b"Age: 60\n").unwrap();
        assert_eq!(out, b"Age: 60\n");
    }
}
