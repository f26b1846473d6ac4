//! System V message queues that a process was the last to use, as its own IPC namespace sees them.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::Serialize;

use super::process_files::ProcessFiles;

/// A message queue (proc_sysvipc(5)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SystemVQueue {
    /// Its id.
    pub id: u64,
    /// Its key.
    pub key: i64,
    /// Messages in it.
    pub messages: u64,
    /// Bytes in it.
    pub bytes: u64,
    /// Process that sent last.
    pub last_sender: u32,
    /// Process that received last.
    pub last_receiver: u32,
}

/// The queues whose last sender or receiver a process was; the kernel keeps no other tie between the two.
pub fn queues_of(files: &ProcessFiles) -> io::Result<Vec<SystemVQueue>> {
    let pid = files.pid();
    let theirs = format!("/proc/{}/ns/ipc", files.memory_pid());
    let text = if std::fs::read_link(&theirs)? == std::fs::read_link("/proc/self/ns/ipc")? {
        std::fs::read_to_string("/proc/sysvipc/msg")?
    } else {
        in_namespace(&File::open(theirs)?)?
    };
    let mut queues = parse(&text);
    queues.retain(|queue| [queue.last_sender, queue.last_receiver].contains(&pid.0));
    Ok(queues)
}

/// The table shows the namespace of the thread that opens it: one of ours goes there, reads, and ends. A host at its limit of
/// tasks has none to give.
fn in_namespace(namespace: &File) -> io::Result<String> {
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().spawn_scoped(scope, || {
            let kind = Some(LinkNameSpaceType::InterProcessCommunication);
            move_into_link_name_space(namespace.as_fd(), kind)?;
            std::fs::read_to_string("/proc/sysvipc/msg")
        })?;
        reader
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the reading thread failed")))
    })
}

/// `key msqid perms cbytes qnum lspid lrpid …`, a heading first.
fn parse(text: &str) -> Vec<SystemVQueue> {
    let rows = text.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words.get(at)?.parse::<u64>().ok();
        let pid = |at: usize| words.get(at)?.parse::<u32>().ok();
        Some(SystemVQueue {
            key: words.first()?.parse().ok()?,
            id: number(1)?,
            bytes: number(3)?,
            messages: number(4)?,
            last_sender: pid(5)?,
            last_receiver: pid(6)?,
        })
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_a_queue() {
        let text = "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime
        -42          2   600          30          3  1234     0     0     0     0     0 1700000000          0 1700000000
rubbish
";
        let queue = SystemVQueue {
            id: 2,
            key: -42,
            messages: 3,
            bytes: 30,
            last_sender: 1234,
            last_receiver: 0,
        };
        assert_eq!(parse(text), [queue]);
        assert!(parse("").is_empty());
    }
}
