//! The capabilities a tracing command needs, checked before anything is touched.

use std::io;

use thiserror::Error;

/// A Linux capability (capabilities(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// Its name.
    pub name: &'static str,
    bit: u32,
    /// Another that includes it (CAP_SYS_ADMIN for the younger ones), by bit.
    included_in: Option<u32>,
    /// What memscope needs it for.
    pub purpose: &'static str,
}

const SYS_ADMIN: u32 = 21;

/// Every capability that tracing needs.
pub const NEEDED: [Capability; 4] = [
    Capability {
        name: "CAP_BPF",
        bit: 39,
        included_in: Some(SYS_ADMIN),
        purpose: "maps and programs in the kernel",
    },
    Capability {
        name: "CAP_PERFMON",
        bit: 38,
        included_in: Some(SYS_ADMIN),
        purpose: "probes in another process",
    },
    Capability {
        name: "CAP_SYS_PTRACE",
        bit: 19,
        included_in: None,
        purpose: "reading the target's mappings",
    },
    Capability {
        name: "CAP_DAC_READ_SEARCH",
        bit: 2,
        included_in: None,
        purpose: "opening the files it has mapped",
    },
];

/// What is missing.
#[derive(Debug, Error)]
pub enum PrivilegeError {
    /// Not root, nor enough capabilities.
    #[error("not permitted: this needs root, or {}; run it with sudo", missing.join(" + "))]
    Missing {
        /// Names of the missing capabilities.
        missing: Vec<&'static str>,
    },
    /// procfs does not say.
    #[error("cannot read this process's capabilities from /proc/self/status: {0}")]
    Unknown(io::Error),
}

/// This process's effective capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Privileges(u64);

impl Privileges {
    /// Reads them.
    ///
    /// # Errors
    /// procfs does not say.
    pub fn of_this_process() -> Result<Self, PrivilegeError> {
        let status = std::fs::read_to_string("/proc/self/status").map_err(PrivilegeError::Unknown)?;
        Self::parse(&status).ok_or_else(|| PrivilegeError::Unknown(io::Error::other("no CapEff line")))
    }

    fn parse(status: &str) -> Option<Self> {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(line.trim(), 16).ok().map(Self)
    }

    /// Whether a capability is there.
    #[must_use]
    pub fn has(self, capability: Capability) -> bool {
        let bit = |number: u32| self.0 >> number & 1 == 1;
        bit(capability.bit) || capability.included_in.is_some_and(bit)
    }

    /// Refuses with the names of what is missing.
    ///
    /// # Errors
    /// Something is missing.
    pub fn require(self) -> Result<(), PrivilegeError> {
        let missing: Vec<_> = NEEDED
            .iter()
            .filter(|capability| !self.has(**capability))
            .map(|capability| capability.name)
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(PrivilegeError::Missing { missing })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_lacks_all_four_and_hears_their_names() {
        let error = Privileges::parse("Name:\tx\nCapEff:\t0000000000000000\n")
            .unwrap()
            .require()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "not permitted: this needs root, or CAP_BPF + CAP_PERFMON + CAP_SYS_PTRACE + CAP_DAC_READ_SEARCH; run it with sudo"
        );
    }

    #[test]
    fn the_four_suffice_and_sys_admin_stands_for_the_younger_two() {
        let four = (1u64 << 39) | (1 << 38) | (1 << 19) | (1 << 2);
        assert!(Privileges(four).require().is_ok());
        let old_style = (1u64 << 21) | (1 << 19) | (1 << 2);
        assert!(Privileges(old_style).require().is_ok());
        let without_ptrace = Privileges(four & !(1 << 19)).require().unwrap_err();
        assert!(
            without_ptrace.to_string().contains("CAP_SYS_PTRACE") && !without_ptrace.to_string().contains("CAP_BPF")
        );
    }
}
