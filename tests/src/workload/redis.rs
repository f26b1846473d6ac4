//! redis-server on a socket of its own.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use crate::deadline::{REPLY, until};

/// redis-server that keeps everything in memory and listens in `folder` only.
pub fn command(folder: &Path) -> Command {
    let mut command = Command::new("/usr/bin/redis-server");
    command.args([
        "--port",
        "0",
        "--save",
        "",
        "--appendonly",
        "no",
        "--daemonize",
        "no",
        "--loglevel",
        "warning",
    ]);
    command
        .arg("--unixsocket")
        .arg(folder.join("socket"))
        .arg("--dir")
        .arg(folder);
    command
}

/// Waits until it accepts connections.
pub fn wait(folder: &Path) {
    until(REPLY, "redis-server to listen", || {
        UnixStream::connect(folder.join("socket")).ok()
    });
}

/// A pipeline of writes, reads and deletions; gives a digest of the answers.
pub fn round(folder: &Path, round: u32) -> Vec<String> {
    let mut requests = Vec::new();
    for number in 0..2_000_u32 {
        let (key, old) = (
            format!("key:{round}:{number}"),
            format!("key:{}:{number}", round.wrapping_sub(1)),
        );
        let value = "v".repeat((number * 37 % 900) as usize);
        request(&mut requests, &["SET", &key, &value]);
        request(&mut requests, &["GET", &old]);
        request(&mut requests, &["HSET", &format!("hash:{}", number % 50), &key, &value]);
        request(&mut requests, &["RPUSH", &format!("list:{}", number % 20), &value]);
        request(
            &mut requests,
            &["ZADD", "sorted", &(number * 7919 % 1000).to_string(), &key],
        );
        if number % 3 == 0 {
            request(&mut requests, &["DEL", &old]);
            request(&mut requests, &["LPOP", &format!("list:{}", number % 20)]);
        }
    }
    request(&mut requests, &["DBSIZE"]);
    request(&mut requests, &["ECHO", "the-end"]);
    let stream = connect(folder);
    let mut writer = stream.try_clone().expect("a second handle");
    let sender = std::thread::spawn(move || writer.write_all(&requests).expect("redis-server reads"));
    let (mut lines, mut bytes, mut last) = (0_u32, 0_usize, String::new());
    for line in BufReader::new(stream).lines() {
        let line = line.expect("redis-server answers");
        if line == "the-end" {
            break;
        }
        lines += 1;
        bytes += line.len();
        if line.starts_with(':') {
            last = line;
        }
    }
    sender.join().expect("the sender does not fail");
    vec![format!("{lines} lines, {bytes} bytes, database {last}")]
}

/// Has it save its database from a child that it forks; gives its answer.
pub fn save_in_background(folder: &Path) -> String {
    let mut bytes = Vec::new();
    request(&mut bytes, &["BGSAVE"]);
    let mut stream = connect(folder);
    stream.write_all(&bytes).expect("redis-server reads");
    let mut answer = String::new();
    BufReader::new(stream)
        .read_line(&mut answer)
        .expect("redis-server answers");
    answer.trim_end().to_owned()
}

/// Tells it to end.
pub fn shut_down(folder: &Path) {
    let mut bytes = Vec::new();
    request(&mut bytes, &["SHUTDOWN", "NOSAVE"]);
    connect(folder).write_all(&bytes).expect("redis-server reads");
}

/// A connection for one request at a time.
#[derive(Debug)]
pub struct Client(BufReader<UnixStream>);

impl Client {
    /// Connects to the server in `folder`.
    pub fn new(folder: &Path) -> Self {
        Self(BufReader::new(connect(folder)))
    }

    /// Asks and gives the answer's first line.
    pub fn ask(&mut self, words: &[&str]) -> String {
        let mut bytes = Vec::new();
        request(&mut bytes, words);
        self.0.get_mut().write_all(&bytes).expect("redis-server reads");
        let mut line = String::new();
        self.0.read_line(&mut line).expect("redis-server answers");
        line.trim_end().to_owned()
    }
}

fn connect(folder: &Path) -> UnixStream {
    let stream = UnixStream::connect(folder.join("socket")).expect("redis-server listens");
    stream.set_read_timeout(Some(REPLY)).expect("a deadline can be set");
    stream
}

fn request(bytes: &mut Vec<u8>, words: &[&str]) {
    write!(bytes, "*{}\r\n", words.len()).expect("memory takes it");
    for word in words {
        write!(bytes, "${}\r\n{word}\r\n", word.len()).expect("memory takes it");
    }
}
