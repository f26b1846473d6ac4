//! What is to be probed: the functions found, and the instruction each probe will sit on.

use memscope_ebpf::call::{CallIndex, CallSpec};
use serde::{Deserialize, Serialize};

use crate::target::address::{BuildId, FileOffset, RuntimeAddress};

/// A function to be probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedCall {
    /// What it does, as the cookie of its probes ([`CallSpec::to_cookie`]).
    pub cookie: u64,
    /// Its name, the first of its aliases.
    pub function: String,
    /// Which allocator it belongs to.
    pub allocator: String,
    /// Its module, as the target sees it, lossy.
    pub module: String,
    /// The module's build id.
    pub build_id: Option<BuildId>,
    /// Where it begins in the target.
    pub entry: RuntimeAddress,
    /// Where it begins in the module's file.
    pub entry_offset: FileOffset,
}

impl PlannedCall {
    /// The row in the cookie; `None` for a session file that was tampered with.
    #[must_use]
    pub fn spec(&self) -> Option<CallSpec> {
        CallSpec::from_cookie(self.cookie)
    }
}

/// Which program a probe runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeRole {
    /// `free_enter`.
    FreeEntry,
    /// `call_return`, by uretprobe.
    CallReturn,
    /// `call_enter`.
    CallEntry,
}

impl ProbeRole {
    /// Name of the BPF program.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::FreeEntry => "free_enter",
            Self::CallReturn => "call_return",
            Self::CallEntry => "call_enter",
        }
    }
}

/// A probe at its site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedProbe {
    /// Which function.
    pub call: CallIndexField,
    /// Which program.
    pub role: ProbeRole,
    /// The site in the module's file.
    pub site: FileOffset,
    /// The site's distance from the function's entry, bytes.
    pub site_offset: u64,
    /// The instruction there, as text.
    pub instruction: String,
    /// How the kernel executes it, as text.
    pub class: String,
}

/// [`CallIndex`] as the session file spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallIndexField(pub u16);

impl From<CallIndexField> for CallIndex {
    fn from(field: CallIndexField) -> Self {
        Self(field.0)
    }
}
