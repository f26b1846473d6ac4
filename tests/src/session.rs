//! A session under test: attached in full when made, always detached when dropped, also by a panic.

use crate::deadline::COMMAND;
use crate::memscope::{Memscope, Output};
use crate::process;
use crate::report::Database;

/// An attached session.
#[derive(Debug)]
pub struct Session<'a> {
    memscope: &'a Memscope,
    pid: u32,
    open: bool,
}

impl<'a> Session<'a> {
    /// Attaches to `pid` and demands success.
    pub fn attach(memscope: &'a Memscope, pid: u32) -> Self {
        Self::attach_with(memscope, pid, &[])
    }

    /// Attaches with further arguments.
    pub fn attach_with(memscope: &'a Memscope, pid: u32, more: &[&str]) -> Self {
        // Made before the command runs: what a failing attach leaves behind is removed as well.
        let session = Self::guard(memscope, pid);
        memscope.ok(&[&["attach", &pid.to_string()], more].concat());
        session
    }

    /// Only the promise to detach, for tests that take the steps one by one.
    pub fn guard(memscope: &'a Memscope, pid: u32) -> Self {
        Self {
            memscope,
            pid,
            open: true,
        }
    }

    /// Every live block.
    pub fn print(&self) -> Database {
        self.memscope.print(self.pid)
    }

    /// Detaches and demands success and that nothing is left.
    pub fn detach(mut self) -> Output {
        self.open = false;
        let output = self.memscope.ok(&["detach", &self.pid.to_string()]);
        self.memscope.assert_nothing_left();
        output
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        // A panic here would hide the test's own and abort: whatever happens, only try.
        if let Ok(mut child) = self.memscope.command(&["detach", &self.pid.to_string()]).spawn()
            && process::wait(&mut child, COMMAND).is_none()
        {
            process::signal(child.id(), libc::SIGKILL);
        }
    }
}
