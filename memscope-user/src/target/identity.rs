//! Who the target is: PID and start time together, since a PID alone can be given to another process.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A process id as this host's PID namespace numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pid(pub u32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Start time of a process in clock ticks since boot (field 22 of `/proc/PID/stat`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StartTime(pub u64);

/// One process, for as long as this host is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TargetId {
    /// Process id.
    pub pid: Pid,
    /// Start time.
    pub start_time: StartTime,
}

/// `<pid>-<starttime>`: the name of the session's folders.
impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.pid, self.start_time.0)
    }
}

impl TargetId {
    /// Parses `<pid>-<starttime>`; `None` for any other file name.
    #[must_use]
    pub fn from_folder_name(name: &str) -> Option<Self> {
        let (pid, start_time) = name.split_once('-')?;
        let id = Self {
            pid: Pid(pid.parse().ok()?),
            start_time: StartTime(start_time.parse().ok()?),
        };
        (id.to_string() == name).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_names_are_read_back_and_nothing_else_is() {
        let id = TargetId {
            pid: Pid(1234),
            start_time: StartTime(99),
        };
        assert_eq!(TargetId::from_folder_name(&id.to_string()), Some(id));
        for other in ["", "1234", "1234-", "-9", "01-9", "1-9 ", "+1-9", "a-b", "1-9-2"] {
            assert_eq!(TargetId::from_folder_name(other), None, "{other}");
        }
    }
}
