//! A running `attach --follow`: what it tells, waited for line by line; always ended.

use std::process::{Child, Stdio};

use crate::deadline::EXIT;
use crate::memscope::Memscope;
use crate::process;
use crate::told::Told;

/// A running follower.
#[derive(Debug)]
pub struct Follower {
    child: Child,
    told: Told,
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
        let told = Told::read(child.stderr.take().expect("stderr is a pipe"));
        Self { child, told }
    }

    /// Everything told so far.
    pub fn told(&self) -> Vec<String> {
        self.told.lines()
    }

    /// Waits for a line that holds all these texts, and gives it.
    pub fn wait_for(&self, texts: &[&str]) -> String {
        let line = self.told.wait_for(texts, 1);
        line.unwrap_or_else(|| panic!("the follower did not tell {texts:?}, but: {:#?}", self.told()))
    }

    /// Waits until it watches `pid`; how many times it must have said so, since each exec is a new watch.
    pub fn watches(&self, pid: u32, times: usize) {
        assert!(
            self.told.watches(pid, times),
            "the follower does not watch {pid} {times} times: {:#?}",
            self.told()
        );
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
