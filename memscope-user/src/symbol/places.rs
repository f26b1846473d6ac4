//! Where files are looked for, and whose files are believed.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// Where to look and whom to believe.
#[derive(Clone, Debug)]
pub struct Places {
    /// Folders with `.build-id/xx/….debug` in them.
    pub debug_roots: Vec<PathBuf>,
    /// Users whose files can do us no harm that they could not do anyway: root, ourselves, and who called `sudo`.
    /// Others' files are copied and looked through before a reader without limits gets them.
    pub believed_users: Vec<u32>,
}

impl Default for Places {
    fn default() -> Self {
        let ourselves = rustix::process::geteuid().as_raw();
        // sudo sets it; that user has the right to run this very command as root.
        let caller = std::env::var("SUDO_UID").ok().and_then(|user| user.parse().ok());
        Self {
            debug_roots: vec![PathBuf::from("/usr/lib/debug")],
            believed_users: [0, ourselves]
                .into_iter()
                .chain(caller.filter(|_| ourselves == 0))
                .collect(),
        }
    }
}

impl Places {
    /// Only believed users can change the file.
    pub(super) fn believes(&self, metadata: &Metadata) -> bool {
        self.believed_users.contains(&metadata.uid()) && metadata.mode() & 0o022 == 0
    }
}
