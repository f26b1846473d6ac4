//! Servers that a test starts on a free port of this machine and ends by their pid.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::deadline::{EXIT, REPLY, until};
use crate::process;

/// Longest that one answer may take.
const ANSWER: Duration = Duration::from_secs(20);

/// A running server; ended when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    port: u16,
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound address").port()
}

impl Server {
    /// Starts a command that listens on `port` of the loopback interface, and waits until it does.
    pub fn start(mut command: Command, port: u16) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let name = format!("{command:?}");
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("starting {name}: {error}"));
        // From here on it is ended, whatever happens.
        let mut server = Self { child, port };
        until(REPLY, &format!("an open port of {name}"), || {
            if let Ok(Some(status)) = server.child.try_wait() {
                panic!("{name} ended with {status}");
            }
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
        });
        server
    }

    /// The body of the answer to `GET path`; `None` for another status than 200, as while it is still starting.
    pub fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
        stream.set_read_timeout(Some(ANSWER)).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.lines().next()?.contains(" 200 ").then(|| body.to_owned())
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        process::signal(self.child.id(), libc::SIGTERM);
        if process::wait(&mut self.child, EXIT).is_none() {
            process::signal(self.child.id(), libc::SIGKILL);
            // Reaped, so that it does not stay as a zombie; there is nobody left to tell that it cannot be.
            let _ = self.child.wait();
        }
    }
}
