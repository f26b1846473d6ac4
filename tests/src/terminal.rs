//! A command at a pseudo-terminal: typed at line by line, its screen read back as a person sees it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use crate::deadline::{EXIT, REPLY};
use crate::process;

/// A command whose standard input and output are a terminal; its standard error is kept apart.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keyboard: File,
    bytes: Receiver<Vec<u8>>,
    errors: Option<std::thread::JoinHandle<String>>,
    screen: Screen,
}

/// What stands on the terminal, from its first line on.
#[derive(Clone, Debug, Default)]
pub struct Screen {
    lines: Vec<Vec<char>>,
    column: usize,
    /// An escape sequence that has begun.
    escape: Option<String>,
    /// Bytes of a character that has begun.
    partial: Vec<u8>,
}

impl Terminal {
    /// Starts a command.
    pub fn start(mut command: Command) -> Self {
        let (keyboard, slave) = open();
        let slave_out = slave.try_clone().expect("a second descriptor");
        command
            .env("TERM", "xterm")
            .stdin(slave)
            .stdout(slave_out)
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
        // Ours of the terminal's other end go with the command, so that its end is seen.
        drop(command);
        let mut stderr = child.stderr.take().expect("stderr is a pipe");
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            // What is not text is not compared.
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let mut reading = keyboard.try_clone().expect("a second descriptor");
        let (sender, bytes) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reading.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            keyboard,
            bytes,
            errors: Some(errors),
            screen: Screen::default(),
        }
    }

    /// Types a line once this prompt stands at the cursor, and presses Enter.
    pub fn answer(&mut self, prompt: &str, line: &str) {
        self.wait_for(&format!("the prompt {prompt:?}"), |screen| {
            screen.last_line() == prompt.trim_end()
        });
        self.press(line);
        self.wait_for(&format!("{line:?} to stand on the terminal"), |screen| {
            screen.last_line() == format!("{prompt}{line}").trim_end()
        });
        self.press("\r");
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.keyboard
            .write_all(keys.as_bytes())
            .unwrap_or_else(|error| panic!("typing {keys:?}: {error}"));
    }

    /// Waits until the screen is as wanted.
    pub fn wait_for(&mut self, what: &str, wanted: impl Fn(&Screen) -> bool) {
        let end = Instant::now() + REPLY;
        while !wanted(&self.screen) {
            let left = end.saturating_duration_since(Instant::now());
            match self.bytes.recv_timeout(left) {
                Ok(bytes) => self.screen.take(&bytes),
                Err(error) => panic!("waiting for {what}: {error}; the screen:\n{}", self.screen.text()),
            }
        }
    }

    /// The screen so far.
    pub fn screen(&self) -> &Screen {
        &self.screen
    }

    /// Waits for the end; gives the screen, standard error and how it ended.
    pub fn end(mut self) -> (String, String, ExitStatus) {
        let status = process::wait(&mut self.child, EXIT)
            .unwrap_or_else(|| panic!("it does not end; the screen:\n{}", self.screen.text()));
        // The reader ends when the command's side of the terminal is closed.
        while let Ok(bytes) = self.bytes.recv() {
            self.screen.take(&bytes);
        }
        let errors = self
            .errors
            .take()
            .map(|errors| errors.join().expect("a reader does not panic"));
        (self.screen.text(), errors.unwrap_or_default(), status)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // One that has been waited for is left alone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Screen {
    /// The line the cursor is on.
    pub fn last_line(&self) -> String {
        self.lines.last().map_or_else(String::new, |line| shown(line))
    }

    /// Every line.
    pub fn text(&self) -> String {
        self.lines.iter().map(|line| shown(line) + "\n").collect()
    }

    fn take(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        let valid = match std::str::from_utf8(&self.partial) {
            Ok(text) => text.len(),
            Err(error) => error.valid_up_to(),
        };
        let rest = self.partial.split_off(valid);
        let text = String::from_utf8(std::mem::replace(&mut self.partial, rest)).expect("looked at above");
        for character in text.chars() {
            self.put(character);
        }
    }

    fn put(&mut self, character: char) {
        if let Some(escape) = &mut self.escape {
            escape.push(character);
            if escape.len() > 1 && character.is_ascii_alphabetic() {
                let escape = self.escape.take().unwrap_or_default();
                self.obey(&escape);
            }
            return;
        }
        if self.lines.is_empty() {
            self.lines.push(Vec::new());
        }
        let line = self.lines.last_mut().expect("there is one");
        match character {
            '\x1b' => self.escape = Some(String::new()),
            '\r' => self.column = 0,
            '\n' => {
                self.lines.push(Vec::new());
                self.column = 0;
            }
            '\x07' => {}
            other => {
                line.resize(line.len().max(self.column + 1), ' ');
                line[self.column] = other;
                self.column += 1;
            }
        }
    }

    /// What a line editor sends: erase the rest of the line, move right. Modes are of no interest.
    fn obey(&mut self, escape: &str) {
        let Some(parameters) = escape.strip_prefix('[') else {
            return;
        };
        let (number, command) = parameters.split_at(parameters.len() - 1);
        match command {
            "K" => {
                if let Some(line) = self.lines.last_mut() {
                    line.truncate(self.column);
                }
            }
            "C" => self.column += number.parse::<usize>().unwrap_or(1),
            _ => {}
        }
    }
}

fn shown(line: &[char]) -> String {
    line.iter().collect::<String>().trim_end().to_owned()
}

/// A new terminal, wide enough that no line of ours is wrapped: our end and the command's.
fn open() -> (File, OwnedFd) {
    let (mut ours, mut theirs) = (0, 0);
    let size = libc::winsize {
        ws_row: 100,
        ws_col: 400,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: both descriptors are written to locals; name and settings may be null; the size outlives the call.
    let opened = unsafe {
        libc::openpty(
            &raw mut ours,
            &raw mut theirs,
            std::ptr::null_mut(),
            std::ptr::null(),
            &raw const size,
        )
    };
    assert_eq!(opened, 0, "openpty: {}", std::io::Error::last_os_error());
    for fd in [ours, theirs] {
        // SAFETY: the descriptor is open; without this flag each command would inherit the terminals of other tests.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    // SAFETY: two new descriptors that nobody else owns.
    unsafe { (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_what_a_person_sees() {
        let mut screen = Screen::default();
        screen.take(b"first\r\n\x1b[?2004h\x1b[?2026h\r\x1b[K> ol\r\x1b[2C\x1b[?2026lnew\r\x1b[Kos> x \xe2\x96");
        assert_eq!(screen.text(), "first\nos> x\n");
        screen.take(b"\x81\r\n");
        assert_eq!(screen.text(), "first\nos> x ▁\n\n");
        assert_eq!(screen.last_line(), "");
    }
}
