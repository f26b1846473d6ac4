//! Probes that sessions share: one trace event at a site for all of them, in place of a perf-event uprobe each.
//!
//! Each perf-event uprobe is a consumer of its own, and every hit asks each consumer on its instruction whether the address space is
//! its target's; fifty sessions on one C library make a pair of malloc and free five times as dear for each. Of a trace event there
//! is one consumer. Its filter is a list of perf events, one a session; its program looks up whose hit it is and hands over to that
//! session's. That costs a lone session some 7 %, so that a session shares only in a file where another's probes sit already.
//!
//! Everything is pinned, in a folder beside the sessions' (`SharedPaths`): a folder for each trace event, in it the router's link and
//! each session's part. So who uses an event is whoever is pinned there, whatever was killed; [`retire()`] removes what nobody uses.

pub mod choice;
mod perf_event;
mod retire;
mod routes;
mod tracefs;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use aya::Ebpf;
use memscope_ebpf::call::{CallIndex, CallSpec};
use memscope_ebpf::limits::map;

use self::perf_event::PerfEvent;
pub use self::retire::{WaitFor, retire};
use self::routes::Routes;
use self::tracefs::TraceEvents;
use super::plan::{PlannedCall, Program};
use crate::database::error::DatabaseError;
use crate::database::folder::{self, FolderLock};
use crate::database::load;
use crate::database::paths::{SessionPaths, SharedPaths};
use crate::host::kernel_layout;
use crate::target::address::FileOffset;
use crate::target::identity::{Pid, TargetId};
use crate::target::mapping::FileKey;
use crate::target::process::Target;

/// The kernel's first thread, which has no address space and never ends: a perf event of its lets nothing through a filter, and
/// carries a program for as long as it is pinned.
const KTHREADD: u32 = 2;

/// Whether sessions share probes.
///
/// A variable of the environment and no option: it is for a host where something else is in tracefs's way, and for tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// Where another session's probes sit in the same file.
    WhereItPays,
    /// Wherever it can be done.
    Always,
    /// Nowhere.
    Never,
}

impl Sharing {
    /// As `MEMSCOPE_SHARED_PROBES` says: `auto`, which is the default, `always` or `never`.
    ///
    /// # Errors
    /// It says something else.
    pub fn from_environment() -> Result<Self, String> {
        let value = std::env::var_os("MEMSCOPE_SHARED_PROBES").unwrap_or_default();
        Self::named(&value.to_string_lossy())
    }

    fn named(value: &str) -> Result<Self, String> {
        match value {
            "auto" | "" => Ok(Self::WhereItPays),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err(format!(
                "MEMSCOPE_SHARED_PROBES is `{value}`: give auto, always or never"
            )),
        }
    }

    /// Whether a session's probes in this file are to be shared.
    ///
    /// # Errors
    /// The sessions cannot be listed.
    pub fn wanted(self, session: &SessionPaths, file: FileKey) -> Result<bool, DatabaseError> {
        match self {
            Self::Never => Ok(false),
            Self::Always => Ok(true),
            Self::WhereItPays => {
                let root = session.root();
                let others = folder::names(root)?.into_iter().filter(|name| {
                    let id = TargetId::from_folder_name(name);
                    session.bpf.file_name() != Some(name.as_ref()) && id.is_some_and(|id| Target { id }.is_alive())
                });
                let probes = |name: String| {
                    let other = SessionPaths {
                        bpf: root.join(&name),
                        run: session.run.with_file_name(name),
                    };
                    other.probed(file).symlink_metadata().is_ok()
                };
                Ok(others.into_iter().any(probes))
            }
        }
    }
}

/// A place that sessions share: a program at an instruction of a file, and the row of the call that it is given there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedSite {
    kind: usize,
    file: FileKey,
    offset: FileOffset,
    cookie: u64,
}

impl SharedSite {
    /// Where one of a call's programs sits; `None`: no other session could be told that its file is the same.
    #[must_use]
    pub fn of(call: &PlannedCall, program: Program, offset: FileOffset) -> Option<Self> {
        Some(Self {
            kind: map::ROUTES.iter().position(|(name, _, _)| *name == program.name())?,
            file: call.file?,
            offset,
            cookie: read_by(program, call.cookie),
        })
    }

    /// Its name in tracefs and in the BPF file system: all that it is, for two sites of one name share an event.
    fn name(&self) -> String {
        let kind = char::from(b'a' + self.kind as u8);
        let (major, minor) = self.file.device;
        format!(
            "{kind}_{major:x}_{minor:x}_{:x}_{:x}_{:x}",
            self.file.inode, self.offset.0, self.cookie
        )
    }

    /// Where a session's part in it is pinned.
    #[must_use]
    pub fn part(&self, session: &SessionPaths) -> Option<std::path::PathBuf> {
        session.shared().part(&self.name(), session)
    }
}

/// What a program reads of its cookie. The returns go by what the entry noted; to the number of a function in its session's list
/// only what begins a call looks. The less is read, the more sessions agree.
fn read_by(program: Program, cookie: u64) -> u64 {
    match program {
        Program::CallReturn | Program::CallExit | Program::RegionReturn => 0,
        Program::FreeEnter | Program::ExceptionSeen => CallSpec::from_cookie(cookie).map_or(cookie, |spec| {
            let index = CallIndex(0);
            CallSpec { index, ..spec }.to_cookie()
        }),
        _ => cookie,
    }
}

/// The shared probes of one host, locked: one command at a time makes or removes any.
pub struct SharedProbes {
    paths: SharedPaths,
    session: SessionPaths,
    process: Pid,
    thread: u32,
    events: TraceEvents,
    routes: Routes,
    /// Loaded when a trace event is made.
    routers: Option<Ebpf>,
    /// The slot that hits of this process are led to, and the kinds of probes that it has programs for.
    slot: u32,
    kinds: BTreeSet<usize>,
    _lock: FolderLock,
}

impl SharedProbes {
    /// Opens them for a session whose probes go with `thread`; makes what is missing.
    ///
    /// # Errors
    /// This host cannot: the reason.
    pub fn open(session: &SessionPaths, process: Pid, thread: u32) -> Result<Self, DatabaseError> {
        let paths = session.shared();
        // One lock for all shared probes: that of the folder they are in.
        let lock = FolderLock::acquire(session.root())?;
        let layout = kernel_layout::task_layout().map_err(|error| DatabaseError::Load(error.to_string()))?;
        if !is_kernel_thread(KTHREADD) {
            return Err(DatabaseError::Load(format!(
                "process {KTHREADD} is no kernel thread here"
            )));
        }
        let events = TraceEvents::mounted(session.root());
        let events = events.map_err(DatabaseError::file("find or mount", "tracefs".as_ref()))?;
        folder::make_private(&paths.folder)?;
        folder::make_private(&paths.events())?;
        let mut routers = None;
        if Routes::open(&paths).is_err() {
            routers = Some(load::shared(&paths, layout)?);
        }
        let routes = Routes::open(&paths)?;
        Ok(Self {
            slot: routes.slot_of(process)?,
            kinds: BTreeSet::new(),
            paths,
            session: session.clone(),
            process,
            thread,
            events,
            routes,
            routers,
            _lock: lock,
        })
    }

    /// Has the hits at a site run the session's program of `object`. The route is there before the first hit is.
    ///
    /// # Errors
    /// The kernel refused something. Of what was made until then [`retire()`] removes what nobody uses.
    pub fn attach(
        &mut self,
        object: &mut Ebpf,
        site: &SharedSite,
        at_return: bool,
        module: &Path,
    ) -> Result<(), DatabaseError> {
        let name = site.name();
        if self.kinds.insert(site.kind) {
            let program = map::ROUTES[site.kind].0;
            let program = load::uprobe(object, program)?;
            let fd = program.fd().map_err(|error| DatabaseError::Load(error.to_string()))?;
            self.routes.put(self.slot, site.kind, fd.as_fd())?;
        }
        self.routes.lead(self.process, self.slot)?;
        let folder = self.paths.event(&name);
        let refused = |what| DatabaseError::file(what, &folder);
        folder::make_private(&folder)?;
        let router = self.paths.router(&name);
        if router.symlink_metadata().is_err() {
            // One without a router is what a command that was killed left, and may have one all the same that is about to go.
            let gone = self
                .events
                .remove(&name)
                .map_err(refused("remove the trace event of"))?;
            let busy = || io::Error::other("the trace event that was there before is still in use");
            gone.then_some(())
                .ok_or_else(busy)
                .map_err(refused("make a shared trace event for"))?;
            let made = self.events.make(&name, at_return, module, site.offset);
            made.map_err(refused("make a shared trace event for"))?;
            self.lead_to_sessions(&name, site, &router)?;
        }
        let number = self
            .events
            .number(&name)
            .map_err(refused("find the shared trace event of"))?;
        let event = PerfEvent::open(number, self.thread).map_err(refused("open a perf event for"))?;
        let part = self.paths.part(&name, &self.session);
        let part = part.ok_or_else(|| DatabaseError::Load("a session without a name".into()))?;
        let pinned = event.held().and_then(|held| perf_event::pin(&held, &part));
        pinned.map_err(DatabaseError::file("pin", &part))
    }

    /// Pins the program that leads the hits of a trace event on.
    fn lead_to_sessions(&mut self, name: &str, site: &SharedSite, pin: &Path) -> Result<(), DatabaseError> {
        let object = match self.routers.take() {
            Some(object) => object,
            None => {
                let layout = kernel_layout::task_layout().map_err(|error| DatabaseError::Load(error.to_string()))?;
                load::shared(&self.paths, layout)?
            }
        };
        let object = self.routers.insert(object);
        let program = load::uprobe(object, map::ROUTES[site.kind].2)?;
        let fd = program.fd().map_err(|error| DatabaseError::Load(error.to_string()))?;
        let number = self.events.number(name).map_err(DatabaseError::file("find", pin))?;
        let carrier = PerfEvent::open(number, KTHREADD).map_err(DatabaseError::file("open a perf event for", pin))?;
        let link = carrier.run(fd.as_fd(), site.cookie);
        link.and_then(|link| perf_event::pin(&link, pin))
            .map_err(DatabaseError::file("pin", pin))
    }
}

/// Has the kernel look again at which address spaces a session's trace events let through, by a perf event of `thread` that comes and
/// goes. Whether it could, the text of the target tells ([`super::restored`]).
///
/// It looks when a perf event is closed, but not at that of a thread that has ended (`trace_uprobe_filter_remove`,
/// kernel/trace/trace_uprobe.c): a target whose other threads live would keep the breakpoints of its parts until each was hit.
pub fn look_again(session: &SessionPaths, names: &[String], thread: u32) {
    let events = TraceEvents::of(session.root());
    for name in names {
        // An event that is gone has no breakpoints, and a thread that has ended may not have been the last.
        let _ = events
            .as_ref()
            .map(|events| events.number(name).and_then(|number| PerfEvent::open(number, thread)));
    }
}

/// PF_KTHREAD, include/linux/sched.h.
fn is_kernel_thread(pid: u32) -> bool {
    const PF_KTHREAD: u32 = 0x0020_0000;
    let process = procfs::process::Process::new(pid as i32);
    process
        .and_then(|process| process.stat())
        .is_ok_and(|stat| stat.flags & PF_KTHREAD != 0)
}

#[cfg(test)]
mod tests;
