//! The choice between a session's own probes and parts in shared ones, file by file.

use std::collections::BTreeMap;
use std::path::Path;

use aya::Ebpf;

use super::{SharedProbes, SharedSite, Sharing};
use crate::database::error::DatabaseError;
use crate::database::folder;
use crate::database::load::with_causes;
use crate::database::paths::SessionPaths;
use crate::probe::attach::AttachError;
use crate::probe::plan::{PlannedCall, Program};
use crate::probe::restored::BREAKPOINT;
use crate::target::address::{FileOffset, RuntimeAddress};
use crate::target::identity::Pid;
use crate::target::mapping::FileKey;
use crate::target::memory::{ProcessMemory, TargetMemory as _};

/// Whose probes are attached: a process, by one of its threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The process.
    pub process: Pid,
    /// The thread that the probes go with.
    pub thread: u32,
}

/// How probes were attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// Probes of the session's own.
    pub own: usize,
    /// Parts in probes that sessions share.
    pub shared: usize,
    /// Why none are shared, where that was wanted.
    pub obstacle: Option<String>,
}

/// Decides file by file whether a session's probes are shared, and says which files they are in.
pub struct Choice<'a> {
    paths: &'a SessionPaths,
    bound: Bound,
    sharing: Sharing,
    wanted: BTreeMap<FileKey, bool>,
    probes: Option<SharedProbes>,
    /// How they have been attached so far.
    pub ways: Ways,
}

impl<'a> Choice<'a> {
    /// Of a session's probes, none attached yet.
    ///
    /// # Errors
    /// What the environment says of shared probes means nothing.
    pub fn of(paths: &'a SessionPaths, bound: Bound) -> Result<Self, AttachError> {
        Ok(Self {
            paths,
            bound,
            sharing: Sharing::from_environment().map_err(AttachError::Sharing)?,
            wanted: BTreeMap::new(),
            probes: None,
            ways: Ways::default(),
        })
    }

    /// Whether probes in a file are to be shared. Says that there is one now: whoever comes after shares.
    fn wanted_in(&mut self, file: Option<FileKey>) -> Result<bool, AttachError> {
        let Some(file) = file else { return Ok(false) };
        if let Some(wanted) = self.wanted.get(&file) {
            return Ok(*wanted);
        }
        let wanted = self.sharing.wanted(self.paths, file)?;
        folder::make_private(&self.paths.probed(file))?;
        self.wanted.insert(file, wanted);
        Ok(wanted)
    }

    /// Attaches a probe as a part in a shared one, if that is wanted in its file; `false`: the session is to have one of its own there,
    /// also if this host cannot share, for whatever reason.
    ///
    /// # Errors
    /// The BPF file system cannot be read or written.
    pub fn attach(
        &mut self,
        object: &mut Ebpf,
        call: &PlannedCall,
        (program, offset): (Program, FileOffset),
        module: &Path,
    ) -> Result<bool, AttachError> {
        let wanted = self.wanted_in(call.file)?;
        let Some(site) = SharedSite::of(call, program, offset).filter(|_| wanted && self.ways.obstacle.is_none())
        else {
            return Ok(false);
        };
        let attached = self
            .open()
            .and_then(|probes| probes.attach(object, &site, program.is_at_return(), module));
        match attached {
            Ok(()) if self.sits(call, offset) => {
                self.ways.shared += 1;
                return Ok(true);
            }
            Ok(()) => {
                // It is on another file of that number: subvolumes of btrfs have inodes alike.
                self.take_back(&site)?;
                self.wanted.extend(call.file.map(|file| (file, false)));
            }
            Err(error) => {
                self.ways.obstacle = Some(with_causes(&error));
                self.take_back(&site)?;
            }
        }
        Ok(false)
    }

    /// Whether the kernel has put a breakpoint there: it does before it returns, wherever the file is mapped. A target whose memory
    /// cannot be read is at its end.
    fn sits(&self, call: &PlannedCall, offset: FileOffset) -> bool {
        let mut byte = [0];
        let address = offset.0.wrapping_sub(call.entry_offset.0).wrapping_add(call.entry.0);
        let memory = ProcessMemory::open(Pid(self.bound.thread));
        let read = memory.and_then(|memory| memory.read_into(RuntimeAddress(address), &mut byte));
        read.is_err() || byte == [BREAKPOINT]
    }

    /// A part that stayed would be a second probe beside the session's own.
    fn take_back(&self, site: &SharedSite) -> Result<(), AttachError> {
        site.part(self.paths)
            .map_or(Ok(()), |part| folder::remove_file(&part))?;
        Ok(())
    }

    fn open(&mut self) -> Result<&mut SharedProbes, DatabaseError> {
        let probes = match self.probes.take() {
            Some(probes) => probes,
            None => SharedProbes::open(self.paths, self.bound.process, self.bound.thread)?,
        };
        Ok(self.probes.insert(probes))
    }
}
