//! A running `attach --follow`: what it tells, waited for line by line; always ended.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use crate::deadline::{COMMAND, EXIT, until};
use crate::memscope::Memscope;
use crate::process;

/// A running follower.
#[derive(Debug)]
pub struct Follower {
    child: Child,
    told: Arc<Mutex<Vec<String>>>,
}

impl Follower {
    /// Follows `pid` and waits until it is attached.
    pub fn start(memscope: &Memscope, pid: u32, more: &[&str]) -> Self {
        let follower = Self::spawn(memscope, pid, more);
        follower.wait_for(&[&format!("process {pid}: following its children")]);
        follower
    }

    /// Follows the descendants of a `pid` that has ended.
    pub fn take_up(memscope: &Memscope, pid: u32) -> Self {
        let follower = Self::spawn(memscope, pid, &[]);
        follower.wait_for(&[&format!("process {pid} has ended: following its descendants")]);
        follower
    }

    fn spawn(memscope: &Memscope, pid: u32, more: &[&str]) -> Self {
        let target = pid.to_string();
        let arguments = [&["attach", "--follow", &target], more].concat();
        let mut child = memscope
            .command(&arguments)
            .stdout(Stdio::null())
            .spawn()
            .expect("memscope starts");
        let stderr = child.stderr.take().expect("stderr is a pipe");
        let told = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&told);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                lines.lock().expect("nobody panics while holding it").push(line);
            }
        });
        Self { child, told }
    }

    /// Everything told so far.
    pub fn told(&self) -> Vec<String> {
        self.told.lock().expect("nobody panics while holding it").clone()
    }

    /// Waits for a line that holds all these texts, and gives it.
    pub fn wait_for(&self, texts: &[&str]) -> String {
        let waited = std::time::Instant::now();
        loop {
            let told = self.told();
            if let Some(line) = told.iter().find(|line| texts.iter().all(|text| line.contains(text))) {
                return line.clone();
            }
            assert!(
                waited.elapsed() < COMMAND,
                "the follower did not tell {texts:?}, but: {told:#?}"
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Waits until it watches `pid`; how many times it must have said so, since each exec is a new watch.
    pub fn watches(&self, pid: u32, times: usize) {
        let begin = format!("process {pid} (");
        until(COMMAND, &format!("{pid} to be watched {times} times"), || {
            let told = self.told();
            let said = told
                .iter()
                .filter(|line| line.starts_with(&begin) && line.contains("watched since"));
            (said.count() >= times).then_some(())
        });
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end, which must be exit code 0; gives what it told.
    pub fn ending(mut self) -> Vec<String> {
        let status = process::wait(&mut self.child, EXIT).expect("the follower ends");
        // The pipe is read to its end by then, or a moment later.
        std::thread::sleep(std::time::Duration::from_millis(50));
        let told = self.told();
        assert_eq!(status.code(), Some(0), "{told:#?}");
        told
    }

    /// Ctrl-C.
    pub fn interrupt(self) -> Vec<String> {
        process::signal(self.pid(), libc::SIGINT);
        self.ending()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        process::signal(self.pid(), libc::SIGKILL);
        process::wait(&mut self.child, EXIT).expect("a killed process ends");
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // A child that was reaped before is left alone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
