//! The target's files in procfs, all through one open folder: a PID that is given to another process meanwhile is noticed.

use std::io::{self, Read as _};

use procfs::process::{Process, SmapsRollup, Stat, Status};
use procfs::{FromBufRead, FromRead};

use super::error::{OsError, io_error, is_gone};
use crate::target::identity::{Pid, TargetId};
use crate::target::mapping::{Mapping, parse_maps};

/// Flag of a task that is in `do_exit` (include/linux/sched.h).
const PF_EXITING: u32 = 4;
/// Pending on each thread of a process that ends, until it ends itself (`zap_other_threads`, kernel/signal.c).
const KILLED: u64 = 1 << (libc::SIGKILL - 1);

/// A process's folder, held open: once the process has ended, every read through it fails (ESRCH), also when another
/// process has its PID by then.
pub struct ProcessFiles {
    process: Process,
    /// Whose.
    pub id: TargetId,
    /// The folder of another thread, held as well: a main thread that has called pthread_exit has no memory and descriptors
    /// any more, while the others still share them.
    sharer: Option<Process>,
}

impl ProcessFiles {
    /// Opens the folder of a process.
    ///
    /// # Errors
    /// It has ended, or is a zombie.
    pub fn open(id: TargetId) -> Result<Self, OsError> {
        let pid = id.pid;
        let number = i32::try_from(pid.0).map_err(|_| OsError::Ended(pid))?;
        let process = Process::new(number).map_err(|error| OsError::access("the folder", pid, io_error(error)))?;
        let mut files = Self {
            process,
            id,
            sharer: None,
        };
        let stat = files.stat()?;
        if stat.starttime != id.start_time.0 {
            return Err(OsError::Ended(pid));
        }
        if has_ended(stat.state) {
            let live = files.live_thread()?.ok_or(OsError::Ended(pid))?;
            let sharer = Process::new(i32::try_from(live).unwrap_or(i32::MAX)).map_err(io_error);
            let sharer = sharer.map_err(|error| OsError::access("the folder", pid, error))?;
            // Its id can be another's by now.
            if sharer.status().ok().is_none_or(|status| status.tgid != number) {
                return Err(OsError::Ended(pid));
            }
            files.sharer = Some(sharer);
        }
        Ok(files)
    }

    /// Process id.
    pub fn pid(&self) -> Pid {
        self.id.pid
    }

    /// The id whose memory and descriptors are the process's: its own, unless its main thread has ended.
    pub fn memory_pid(&self) -> Pid {
        let sharer = self.sharer.as_ref().and_then(|sharer| u32::try_from(sharer.pid).ok());
        sharer.map_or(self.pid(), Pid)
    }

    /// As the procfs crate knows it under that id.
    pub fn memory_process(&self) -> &Process {
        self.sharer.as_ref().unwrap_or(&self.process)
    }

    /// As the procfs crate knows it.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// A whole file as text, lossy: names in it are the target's own.
    pub fn text(&self, file: &str) -> Result<String, OsError> {
        self.bytes(file)
            .map(lossy)
            .map_err(|error| OsError::access(file, self.pid(), error))
    }

    /// A whole file that speaks of the process's memory.
    pub fn memory_text(&self, file: &str) -> Result<String, OsError> {
        self.memory_bytes(file)
            .map(lossy)
            .map_err(|error| OsError::access(file, self.pid(), error))
    }

    /// A file of a thread; `None` when the thread has ended, which is no error.
    pub fn thread_text(&self, tid: u32, file: &str) -> Result<Option<String>, OsError> {
        match self.bytes(&format!("task/{tid}/{file}")) {
            Ok(bytes) => Ok(Some(lossy(bytes))),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(OsError::access(&format!("{file} of thread {tid}"), self.pid(), error)),
        }
    }

    /// The same for what not everybody may read: `None` when this user may not.
    pub fn thread_text_if_permitted(&self, tid: u32, file: &str) -> Result<Permitted, OsError> {
        match self.thread_text(tid, file) {
            Ok(Some(text)) => Ok(Permitted::Read(text)),
            Ok(None) => Ok(Permitted::Gone),
            Err(OsError::NotPermitted { .. }) => Ok(Permitted::Refused),
            Err(error) => Err(error),
        }
    }

    /// `stat` of the process.
    pub fn stat(&self) -> Result<Stat, OsError> {
        self.parse("stat", &self.text("stat")?)
    }

    /// `status` of the process.
    pub fn status(&self) -> Result<Status, OsError> {
        self.parse("status", &self.text("status")?)
    }

    /// `stat` of a thread.
    pub fn thread_stat(&self, tid: u32) -> Result<Option<Stat>, OsError> {
        let text = self.thread_text(tid, "stat")?;
        text.map(|text| self.parse("stat", &text)).transpose()
    }

    /// `status` of a thread.
    pub fn thread_status(&self, tid: u32) -> Result<Option<Status>, OsError> {
        let text = self.thread_text(tid, "status")?;
        text.map(|text| self.parse("status", &text)).transpose()
    }

    /// `smaps_rollup`: the sums over all mappings. The kernel walks the page tables under the mmap lock, for reading.
    pub fn rollup(&self) -> Result<SmapsRollup, OsError> {
        let text = self.memory_text("smaps_rollup")?;
        SmapsRollup::from_buf_read(text.as_bytes()).map_err(|error| self.unparsed("smaps_rollup", error))
    }

    /// Its mappings.
    pub fn mappings(&self) -> Result<Vec<Mapping>, OsError> {
        let bytes = self.memory_bytes("maps");
        bytes
            .map(|bytes| parse_maps(&bytes))
            .map_err(|error| OsError::access("the mappings", self.pid(), error))
    }

    /// Thread ids, in order.
    pub fn threads(&self) -> Result<Vec<u32>, OsError> {
        let read = |source| OsError::access("the threads", self.pid(), source);
        let tasks = self.process.tasks().map_err(|error| read(io_error(error)))?;
        // A task that ended while its folder was opened is left out.
        let mut tids: Vec<u32> = tasks
            .flatten()
            .filter_map(|task| u32::try_from(task.tid).ok())
            .collect();
        tids.sort_unstable();
        if tids.is_empty() {
            return Err(OsError::Ended(self.pid()));
        }
        Ok(tids)
    }

    /// The first thread that lives on: that has not ended, and is not about to with all the others.
    fn live_thread(&self) -> Result<Option<u32>, OsError> {
        let mut threads = self.threads()?.into_iter();
        Ok(threads.find(|tid| {
            let status = self.thread_status(*tid).ok().flatten();
            status.is_some_and(|status| status.sigpnd & KILLED == 0) && matches!(self.thread_has_ended(*tid), Ok(false))
        }))
    }

    /// Whether a thread has ended, reaped or not, or is just ending.
    pub fn thread_has_ended(&self, tid: u32) -> Result<bool, OsError> {
        let stat = self.thread_stat(tid)?;
        Ok(stat.is_none_or(|stat| has_ended(stat.state) || stat.flags & PF_EXITING != 0))
    }

    /// Why there is no thread of this number: it has none, or has ended altogether.
    pub fn without_thread(&self, tid: u32) -> OsError {
        let pid = self.pid();
        match self.live_thread() {
            Ok(Some(_)) => OsError::NoSuchThread { pid, tid },
            _ => OsError::Ended(pid),
        }
    }

    /// Parses the text of one of procfs's files.
    pub fn parse<T: FromRead>(&self, file: &str, text: &str) -> Result<T, OsError> {
        T::from_read(text.as_bytes()).map_err(|error| self.unparsed(file, error))
    }

    fn unparsed(&self, file: &str, error: procfs::ProcError) -> OsError {
        // A dead process's files are empty or lack their memory lines.
        if self.stat_text().is_none() {
            return OsError::Ended(self.pid());
        }
        OsError::Unreadable {
            what: file.to_owned(),
            pid: self.pid(),
            source: io::Error::other(error),
        }
    }

    fn stat_text(&self) -> Option<Vec<u8>> {
        self.bytes("stat").ok().filter(|bytes| !bytes.is_empty())
    }

    fn bytes(&self, file: &str) -> io::Result<Vec<u8>> {
        bytes_of(&self.process, file)
    }

    fn memory_bytes(&self, file: &str) -> io::Result<Vec<u8>> {
        bytes_of(self.memory_process(), file)
    }
}

/// What came of reading a file that not everybody may read.
pub enum Permitted {
    /// Its text.
    Read(String),
    /// The thread has ended.
    Gone,
    /// This user may not.
    Refused,
}

fn bytes_of(process: &Process, file: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    process.open_relative(file).map_err(io_error)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn has_ended(state: char) -> bool {
    matches!(state, 'Z' | 'X' | 'x')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::process::Target;

    fn own() -> TargetId {
        Target::of_pid(Pid(std::process::id())).expect("this process").id
    }

    #[test]
    fn a_thread_that_is_not_there_is_no_error() {
        let files = ProcessFiles::open(own()).expect("own files");
        assert!(matches!(files.thread_stat(u32::MAX), Ok(None)));
        assert!(files.threads().expect("own threads").contains(&std::process::id()));
    }

    #[test]
    fn another_start_time_is_an_ended_process() {
        let mut id = own();
        id.start_time.0 += 1;
        assert!(matches!(ProcessFiles::open(id), Err(OsError::Ended(_))));
    }

    #[test]
    fn a_child_that_ends_meanwhile_has_ended() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("cat");
        let files = ProcessFiles::open(Target::of_pid(Pid(child.id())).expect("cat runs").id).expect("its files");
        drop(child.stdin.take());
        child.wait().expect("cat ends");
        assert!(matches!(files.status(), Err(OsError::Ended(_))));
        assert!(matches!(files.threads(), Err(OsError::Ended(_))));
    }
}
