//! Tells a person at a terminal how far long work has come; says nothing where stderr is none, or the work is short.

use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

/// Work shorter than this is not told of.
const LONG: Duration = Duration::from_millis(500);

/// A person reads no faster.
const APART: Duration = Duration::from_millis(100);

/// One piece of work, in steps.
pub(super) struct Progress {
    what: &'static str,
    done: usize,
    all: usize,
    next: Instant,
    /// Characters that stand in the terminal's line now.
    shown: usize,
    terminal: Option<Box<dyn Write>>,
}

impl Progress {
    /// Of so many steps.
    pub(super) fn new(what: &'static str, all: usize) -> Self {
        let stderr = io::stderr();
        let terminal: Option<Box<dyn Write>> = if stderr.is_terminal() {
            Some(Box::new(stderr))
        } else {
            None
        };
        Self::on(terminal, what, all, LONG)
    }

    fn on(terminal: Option<Box<dyn Write>>, what: &'static str, all: usize, long: Duration) -> Self {
        Self {
            what,
            done: 0,
            all,
            next: Instant::now() + long,
            shown: 0,
            terminal,
        }
    }

    /// One step is done.
    pub(super) fn step(&mut self) {
        self.done += 1;
        if self.terminal.is_none() || Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + APART;
        let line = format!("{}: {} of {}", self.what, self.done, self.all.max(self.done));
        self.overwrite(&line);
        self.shown = line.len();
    }

    /// Over what stands there, which is never longer: numbers only grow.
    fn overwrite(&mut self, line: &str) {
        if let Some(terminal) = &mut self.terminal {
            // A terminal that has gone takes nothing with it.
            let _ = write!(terminal, "\r{line}").and_then(|()| terminal.flush());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown > 0 {
            let blanks = format!("{}\r", " ".repeat(self.shown));
            self.overwrite(&blanks);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    #[derive(Clone, Default)]
    struct Screen(Rc<RefCell<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn shown(long: Duration) -> String {
        let screen = Screen::default();
        let mut progress = Progress::on(Some(Box::new(screen.clone())), "naming", 3, long);
        for _ in 0..3 {
            progress.step();
            std::thread::sleep(APART);
        }
        drop(progress);
        String::from_utf8(screen.0.take()).unwrap()
    }

    #[test]
    fn long_work_is_told_and_its_line_cleared() {
        let text = shown(Duration::ZERO);
        assert!(text.starts_with("\rnaming: 1 of 3\rnaming: 2 of 3"), "{text:?}");
        assert!(text.ends_with(&format!("\r{}\r", " ".repeat(14))), "{text:?}");
    }

    #[test]
    fn short_work_is_not_told() {
        assert_eq!(shown(Duration::from_secs(60)), "");
    }
}
