//! Which program a process runs: told from another by its executable and by where the kernel put it at its exec.

use std::io;
use std::os::unix::fs::MetadataExt as _;

use serde::{Deserialize, Serialize};

use super::loader::Auxiliary;
use super::process::Target;

/// A program as one exec has started it. Another exec of the same file has another stack, unless the process has no address
/// space randomisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Device and inode of the executable, as `stat` gives them.
    file: (u64, u64),
    /// What the kernel told it.
    auxiliary: Auxiliary,
}

impl Program {
    /// Of a process, now.
    ///
    /// # Errors
    /// It has ended, or may not be looked at.
    pub fn of(target: &Target) -> io::Result<Self> {
        let pid = target.memory_pid();
        let file = std::fs::metadata(format!("/proc/{pid}/exe"))?;
        let auxiliary = Auxiliary::of(pid)?;
        if auxiliary.entry == 0 {
            // Of a thread that has just ended older kernels show nothing, without an error.
            return Err(io::Error::other("its auxiliary vector is empty"));
        }
        Ok(Self {
            file: (file.dev(), file.ino()),
            auxiliary,
        })
    }

    /// Whether a process is known to run another program by now.
    #[must_use]
    pub fn was_replaced(&self, target: &Target) -> bool {
        Self::of(target).is_ok_and(|now| now != *self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::identity::Pid;

    #[test]
    fn a_process_runs_the_program_that_it_ran() {
        let target = Target::of_pid(Pid(std::process::id())).unwrap();
        let program = Program::of(&target).unwrap();
        assert!(!program.was_replaced(&target));
        let saved = serde_json::to_string(&program).unwrap();
        assert_eq!(serde_json::from_str::<Program>(&saved).unwrap(), program);
        let other = Program {
            file: (program.file.0, program.file.1 + 1),
            ..program
        };
        assert!(other.was_replaced(&target));
    }
}
