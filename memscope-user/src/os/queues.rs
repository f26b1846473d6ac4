//! Key `Q`: what waits in the target's sockets, pipes, POSIX and System V queues.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::fd::RawFd;
use std::path::Path;

use serde::Serialize;

use super::descriptor_queue::Borrower;
use super::error::{OsError, io_error};
use super::process_files::ProcessFiles;
use super::quantity::Bytes;
use super::system_v::{self, SystemVQueue};
use crate::report::Escaped;

/// What the line at the end says.
pub const MEANS: &str = "bytes to receive that stay are work the target does not get to, bytes to send are a peer that does \
                         not read; a listener's are connections not yet accepted";

/// Lines shown of each kind, fullest first.
const SHOWN: usize = 40;

/// The answer.
#[derive(Debug, Serialize)]
pub struct Queues {
    /// Sockets.
    pub sockets: Vec<Socket>,
    /// Sockets of other kinds (netlink, packet …), which tell nothing of their queues.
    pub other_sockets: usize,
    /// Pipes.
    pub pipes: Vec<Pipe>,
    /// POSIX message queues it has open.
    pub posix: Vec<PosixQueue>,
    /// System V message queues it was the last to send to or receive from.
    pub system_v: Vec<SystemVQueue>,
    /// What could not be read, and why.
    pub notes: Vec<String>,
}

/// A socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Socket {
    /// Descriptor; the lowest, where several lead to it.
    pub fd: RawFd,
    /// tcp, tcp6, udp, udp6 or unix.
    pub protocol: &'static str,
    /// Own address; of a unix socket, its path.
    pub local: String,
    /// The other end's address.
    pub remote: String,
    /// State of the connection.
    pub state: String,
    /// Bytes to receive; of a TCP listener, connections to accept. `None`: not known.
    pub receive: Option<u64>,
    /// Bytes sent and not yet taken; `None`: not known.
    pub send: Option<u64>,
}

/// A pipe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pipe {
    /// Descriptors that lead to it.
    pub fds: Vec<RawFd>,
    /// Its number.
    pub inode: u64,
    /// Bytes in it; `None`: not known.
    pub queued: Option<u64>,
    /// Bytes it can hold.
    pub capacity: Option<u64>,
}

/// A POSIX message queue (mq_overview(7)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PosixQueue {
    /// Descriptor.
    pub fd: RawFd,
    /// Name.
    pub name: String,
    /// Bytes in it; `None`: not known.
    pub queued: Option<u64>,
}

/// What a descriptor leads to.
enum Kind {
    Socket(u64),
    Pipe(u64),
    Posix(String),
}

/// Gathers it.
pub(super) fn gather(files: &ProcessFiles) -> Result<Queues, OsError> {
    let pid = files.pid();
    let folder = format!("/proc/{}/fd", files.memory_pid());
    let listed = std::fs::read_dir(&folder).map_err(|source| OsError::access("the descriptors", pid, source))?;
    let mut sockets: BTreeMap<u64, RawFd> = BTreeMap::new();
    let mut pipes: BTreeMap<u64, Vec<RawFd>> = BTreeMap::new();
    let mut posix = Vec::new();
    for entry in listed.flatten() {
        let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok()) else {
            continue;
        };
        match kind_of(&entry.path()) {
            Some(Kind::Socket(inode)) => {
                let known = sockets.entry(inode).or_insert(fd);
                *known = fd.min(*known);
            }
            Some(Kind::Pipe(inode)) => pipes.entry(inode).or_default().push(fd),
            Some(Kind::Posix(name)) => posix.push(PosixQueue {
                queued: posix_bytes(&entry.path()),
                fd,
                name,
            }),
            None => {}
        }
    }
    posix.sort_by_key(|queue| queue.fd);
    let mut notes = Vec::new();
    let borrower = Borrower::of(files.memory_pid());
    if let Err(error) = &borrower {
        notes.push(format!("what waits in pipes and unix sockets is not known: {error}"));
    }
    let borrower = borrower.ok();
    let mut known = table(files, &sockets, borrower.as_ref(), &mut notes);
    known.sort_by_key(|socket| std::cmp::Reverse((socket.receive.max(socket.send), std::cmp::Reverse(socket.fd))));
    let pipes = pipes.into_iter().map(|(inode, mut fds)| {
        fds.sort_unstable();
        let queue = fds.first().and_then(|fd| borrower.as_ref()?.pipe(*fd).ok());
        Pipe {
            fds,
            inode,
            queued: queue.map(|queue| queue.queued),
            capacity: queue.map(|queue| queue.capacity),
        }
    });
    let mut pipes: Vec<Pipe> = pipes.collect();
    pipes.sort_by_key(|pipe| std::cmp::Reverse(pipe.queued));
    let system_v = system_v::queues_of(files).unwrap_or_else(|error| {
        notes.push(format!("System V queues are not known: {error}"));
        Vec::new()
    });
    Ok(Queues {
        other_sockets: sockets.len() - known.len(),
        sockets: known,
        pipes,
        posix,
        system_v,
        notes,
    })
}

fn kind_of(path: &Path) -> Option<Kind> {
    let link = std::fs::read_link(path).ok()?;
    let text = link.to_str()?;
    let number = |prefix: &str| text.strip_prefix(prefix)?.strip_suffix(']')?.parse().ok();
    if let Some(inode) = number("socket:[") {
        return Some(Kind::Socket(inode));
    }
    if let Some(inode) = number("pipe:[") {
        return Some(Kind::Pipe(inode));
    }
    // The name of a queue is its path in a file system of queues, which has no folders.
    let name = text.strip_prefix('/').filter(|name| !name.contains('/'))?;
    // MQUEUE_MAGIC, include/uapi/linux/magic.h has none; ipc/mqueue.c.
    const MQUEUE: u64 = 0x1980_0202;
    let system = rustix::fs::statfs(path).ok()?;
    (system.f_type.cast_unsigned() == MQUEUE).then(|| Kind::Posix(format!("/{name}")))
}

/// `QSIZE:129 NOTIFY:0 SIGNO:0 NOTIFY_PID:0`.
fn posix_bytes(path: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.split_whitespace()
        .find_map(|word| word.strip_prefix("QSIZE:"))?
        .parse()
        .ok()
}

/// The sockets among these that the target's network namespace knows.
fn table(
    files: &ProcessFiles,
    fds: &BTreeMap<u64, RawFd>,
    borrower: Option<&Borrower>,
    notes: &mut Vec<String>,
) -> Vec<Socket> {
    let mut found = Vec::new();
    let process = files.memory_process();
    for (protocol, entries) in [("tcp", process.tcp()), ("tcp6", process.tcp6())] {
        let entries = entries
            .map_err(io_error)
            .unwrap_or_else(|error| told(notes, protocol, &error));
        found.extend(entries.into_iter().filter_map(|entry| {
            Some(Socket {
                fd: *fds.get(&entry.inode)?,
                protocol,
                local: entry.local_address.to_string(),
                remote: entry.remote_address.to_string(),
                state: format!("{:?}", entry.state),
                receive: Some(u64::from(entry.rx_queue)),
                send: Some(u64::from(entry.tx_queue)),
            })
        }));
    }
    for (protocol, entries) in [("udp", process.udp()), ("udp6", process.udp6())] {
        let entries = entries
            .map_err(io_error)
            .unwrap_or_else(|error| told(notes, protocol, &error));
        found.extend(entries.into_iter().filter_map(|entry| {
            Some(Socket {
                fd: *fds.get(&entry.inode)?,
                protocol,
                local: entry.local_address.to_string(),
                remote: entry.remote_address.to_string(),
                state: format!("{:?}", entry.state),
                receive: Some(u64::from(entry.rx_queue)),
                send: Some(u64::from(entry.tx_queue)),
            })
        }));
    }
    let entries = process.unix().map_err(io_error);
    let entries = entries.unwrap_or_else(|error| told(notes, "unix", &error));
    found.extend(entries.into_iter().filter_map(|entry| {
        let fd = *fds.get(&entry.inode)?;
        let queue = borrower.and_then(|borrower| borrower.socket(fd).ok());
        Some(Socket {
            fd,
            protocol: "unix",
            local: entry
                .path
                .map_or_else(String::new, |path| path.to_string_lossy().into_owned()),
            remote: String::new(),
            state: format!("{:?}", entry.state),
            receive: queue,
            send: None,
        })
    }));
    found
}

fn told<T>(notes: &mut Vec<String>, what: &str, error: &io::Error) -> Vec<T> {
    // A kernel without IPv6 has no tables for it.
    if error.raw_os_error() != Some(libc::ENOENT) {
        notes.push(format!("{what} sockets are not known: {error}"));
    }
    Vec::new()
}

impl Queues {
    /// Shows it.
    pub(super) fn write_rows(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "  sockets        {}, and {} of kinds without queues to ask",
            self.sockets.len(),
            self.other_sockets
        )?;
        for socket in self.sockets.iter().take(SHOWN) {
            let arrow = if socket.remote.is_empty() { "" } else { " → " };
            writeln!(
                out,
                "    fd {:<5} {:<5} {:<12} receive {:>10}, send {:>10}  {}{arrow}{}",
                socket.fd,
                socket.protocol,
                socket.state,
                to_receive(socket),
                bytes(socket.send),
                Escaped(&socket.local),
                Escaped(&socket.remote)
            )?;
        }
        more(out, self.sockets.len())?;
        writeln!(out, "  pipes          {}", self.pipes.len())?;
        for pipe in self.pipes.iter().take(SHOWN) {
            let fds: Vec<String> = pipe.fds.iter().map(ToString::to_string).collect();
            writeln!(
                out,
                "    fd {:<5} pipe {}: {} of {}",
                fds.join(","),
                pipe.inode,
                bytes(pipe.queued),
                bytes(pipe.capacity)
            )?;
        }
        more(out, self.pipes.len())?;
        writeln!(out, "  POSIX queues   {}", self.posix.len())?;
        for queue in self.posix.iter().take(SHOWN) {
            writeln!(
                out,
                "    fd {:<5} {}: {}",
                queue.fd,
                Escaped(&queue.name),
                bytes(queue.queued)
            )?;
        }
        more(out, self.posix.len())?;
        writeln!(
            out,
            "  System V       {} queues used last by the target",
            self.system_v.len()
        )?;
        for queue in self.system_v.iter().take(SHOWN) {
            writeln!(
                out,
                "    id {:<5} key {:#x}: {} messages, {}; sent last by {}, received last by {}",
                queue.id,
                queue.key,
                queue.messages,
                Bytes(queue.bytes),
                queue.last_sender,
                queue.last_receiver
            )?;
        }
        more(out, self.system_v.len())
    }
}

/// Of a TCP listener, what waits is connections.
fn to_receive(socket: &Socket) -> String {
    match socket.receive {
        Some(connections) if socket.state == "Listen" => format!("{connections} calls"),
        other => bytes(other),
    }
}

fn bytes(value: Option<u64>) -> String {
    value.map_or_else(|| "?".to_owned(), |value| Bytes(value).to_string())
}

fn more(out: &mut dyn Write, all: usize) -> io::Result<()> {
    if all > SHOWN {
        writeln!(out, "    and {} more", all - SHOWN)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_lines() {
        let socket = |fd, protocol, state: &str, local: &str, remote: &str, receive, send| Socket {
            fd,
            protocol,
            local: local.to_owned(),
            remote: remote.to_owned(),
            state: state.to_owned(),
            receive,
            send,
        };
        let queues = Queues {
            sockets: vec![
                socket(
                    7,
                    "tcp",
                    "Established",
                    "10.0.0.1:6379",
                    "10.0.0.2:5000",
                    Some(2048),
                    Some(0),
                ),
                socket(8, "unix", "CONNECTED", "/run/x\n", "", None, None),
                socket(6, "tcp", "Listen", "0.0.0.0:6379", "0.0.0.0:0", Some(3), Some(0)),
            ],
            other_sockets: 1,
            pipes: vec![Pipe {
                fds: vec![3, 4],
                inode: 99,
                queued: Some(12),
                capacity: Some(65536),
            }],
            posix: vec![PosixQueue {
                fd: 5,
                name: "/jobs".to_owned(),
                queued: Some(129),
            }],
            system_v: vec![SystemVQueue {
                id: 2,
                key: 0x2a,
                messages: 3,
                bytes: 30,
                last_sender: 10,
                last_receiver: 0,
            }],
            notes: Vec::new(),
        };
        let mut text = Vec::new();
        queues.write_rows(&mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "  sockets        3, and 1 of kinds without queues to ask
    fd 7     tcp   Established  receive    2.0 KiB, send        0 B  10.0.0.1:6379 → 10.0.0.2:5000
    fd 8     unix  CONNECTED    receive          ?, send          ?  /run/x\\n
    fd 6     tcp   Listen       receive    3 calls, send        0 B  0.0.0.0:6379 → 0.0.0.0:0
  pipes          1
    fd 3,4   pipe 99: 12 B of 64.0 KiB
  POSIX queues   1
    fd 5     /jobs: 129 B
  System V       1 queues used last by the target
    id 2     key 0x2a: 3 messages, 30 B; sent last by 10, received last by 0
"
        );
    }
}
