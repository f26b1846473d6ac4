//! Where a session lives: one folder of pinned objects, one folder of files.

use std::path::{Path, PathBuf};

use crate::target::identity::TargetId;

/// The two roots under which sessions live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// Below a BPF file system.
    pub bpf: PathBuf,
    /// Below a temporary file system: gone with a reboot, as the maps are.
    pub run: PathBuf,
}

impl Roots {
    /// `/sys/fs/bpf/memscope` and `/run/memscope`, unless `MEMSCOPE_BPF_DIR` and `MEMSCOPE_RUN_DIR` name others (which is
    /// how tests keep out of each other's way).
    #[must_use]
    pub fn from_environment() -> Self {
        let from = |name: &str, default: &str| std::env::var_os(name).map_or_else(|| default.into(), PathBuf::from);
        Self {
            bpf: from("MEMSCOPE_BPF_DIR", "/sys/fs/bpf/memscope"),
            run: from("MEMSCOPE_RUN_DIR", "/run/memscope"),
        }
    }

    /// The folders of one session.
    #[must_use]
    pub fn session(&self, target: TargetId) -> SessionPaths {
        SessionPaths {
            bpf: self.bpf.join(target.to_string()),
            run: self.run.join(target.to_string()),
        }
    }

    /// The folder in which a followed family is pinned. Its name is no session's.
    #[must_use]
    pub fn family(&self, root: TargetId) -> PathBuf {
        self.bpf.join(format!("{FAMILY_PREFIX}{root}"))
    }
}

/// What the name of a family's folder begins with, before that of its first target.
pub const FAMILY_PREFIX: &str = "family-";

/// The folders of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPaths {
    /// Pinned maps, and `links/`.
    pub bpf: PathBuf,
    /// `session.json`, and its lock.
    pub run: PathBuf,
}

impl SessionPaths {
    /// Where a map is pinned.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.bpf.join(name)
    }

    /// The folder of pinned links: the attached probes.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.bpf.join("links")
    }

    /// The session file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.run.join("session.json")
    }

    /// Whether anything of the session is there.
    #[must_use]
    pub fn exist(&self) -> bool {
        is_there(&self.bpf) || is_there(&self.run)
    }
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
