//! What a running command tells on stderr, read in the background and waited for line by line.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::deadline::COMMAND;

/// What it has told so far.
#[derive(Clone, Debug, Default)]
pub struct Told(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    lines: Vec<String>,
    over: bool,
}

impl Told {
    /// Reads until the other end is closed.
    pub fn read(from: impl Read + Send + 'static) -> Self {
        let told = Self::default();
        let ours = told.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
                ours.locked().lines.push(String::from_utf8_lossy(&line).into_owned());
            }
            ours.locked().over = true;
        });
        told
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.0.lock().expect("nobody panics while holding it")
    }

    /// Everything told so far.
    pub fn lines(&self) -> Vec<String> {
        self.locked().lines.clone()
    }

    /// Waits until it has told `times` lines that hold all these texts, and gives the last of them; `None`: it ended before.
    pub fn wait_for(&self, texts: &[&str], times: usize) -> Option<String> {
        let waited = Instant::now();
        loop {
            // Whether it is over is asked with the lines, so that none can come in between.
            let (found, over) = {
                let told = self.locked();
                let mut matching = told
                    .lines
                    .iter()
                    .filter(|line| texts.iter().all(|text| line.contains(text)));
                (matching.nth(times - 1).cloned(), told.over)
            };
            if found.is_some() || over {
                return found;
            }
            assert!(
                waited.elapsed() < COMMAND,
                "it was not told {times} times: {texts:?}, but: {:#?}",
                self.lines()
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Waits until a follower watches `pid`; how many times it must have said so, since each exec is a new watch. `false`: it
    /// ended before.
    pub fn watches(&self, pid: u32, times: usize) -> bool {
        self.wait_for(&[&format!("process {pid} ("), "watched since"], times)
            .is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_waited_for_and_the_end_of_all_lines_is_no_line() {
        let told = Told::read(&b"process 7 (a): watched since 1 ms\nprocess 7 (b): watched since 2 ms\n"[..]);
        assert!(told.watches(7, 1));
        assert_eq!(
            told.wait_for(&["process 7", "since"], 2).unwrap(),
            "process 7 (b): watched since 2 ms"
        );
        assert_eq!(told.wait_for(&["process 7"], 3), None);
        assert_eq!(told.lines().len(), 2);
    }
}
