//! Where a session lives: one folder of pinned objects, one folder of files.

use std::path::{Path, PathBuf};

use crate::target::identity::TargetId;
use crate::target::mapping::FileKey;

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

/// The folder of the probes that sessions share, beside theirs: the maps that lead from a target to its session's programs, and
/// a folder for each trace event with the pins of what sits on it. Its name is no session's, and names the contract between
/// the versions of memscope that may meet in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedPaths {
    /// Below a BPF file system.
    pub folder: PathBuf,
}

impl SharedPaths {
    /// Beside the sessions below this root.
    #[must_use]
    pub fn below(root: &Path) -> Self {
        Self {
            folder: root.join("shared-1"),
        }
    }

    /// Where a map is pinned.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The folder of the trace events' folders.
    #[must_use]
    pub fn events(&self) -> PathBuf {
        self.folder.join("events")
    }

    /// The folder of one trace event.
    #[must_use]
    pub fn event(&self, name: &str) -> PathBuf {
        self.events().join(name)
    }

    /// Where the link of the program that leads a trace event's hits to their sessions is pinned.
    #[must_use]
    pub fn router(&self, name: &str) -> PathBuf {
        self.event(name).join(ROUTER)
    }

    /// Where a session's part in a trace event is pinned.
    #[must_use]
    pub fn part(&self, name: &str, session: &SessionPaths) -> Option<PathBuf> {
        Some(self.event(name).join(session.bpf.file_name()?))
    }
}

/// The name of a router's pin in its trace event's folder; the others are sessions'.
pub const ROUTER: &str = "router";

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

    /// Says that a probe of this session sits in a file, for other sessions to see; an empty folder.
    #[must_use]
    pub fn probed(&self, file: FileKey) -> PathBuf {
        let (major, minor) = file.device;
        self.links().join(format!("in-{major:x}-{minor:x}-{:x}", file.inode))
    }

    /// The folder of shared probes beside this session.
    #[must_use]
    pub fn shared(&self) -> SharedPaths {
        SharedPaths::below(self.root())
    }

    /// The folder below a BPF file system in which all sessions have theirs.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.bpf.parent().unwrap_or(Path::new("/"))
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
