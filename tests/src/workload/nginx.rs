//! nginx in one process, on a socket of its own.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use crate::deadline::{REPLY, until};

/// nginx that serves `folder` on a socket there, in the foreground, without workers.
pub fn command(folder: &Path) -> Command {
    command_with(folder, "master_process off;")
}

/// The same with a master and as many workers, which reads its configuration again at SIGHUP.
pub fn with_workers(folder: &Path, workers: u32) -> Command {
    command_with(
        folder,
        &format!("master_process on; worker_processes {workers}; user root root;"),
    )
}

fn command_with(folder: &Path, processes: &str) -> Command {
    let place = folder.display();
    let configuration = format!(
        "daemon off; {processes} pid {place}/pid; error_log {place}/errors;
events {{ worker_connections 64; }}
http {{
    access_log off; gzip on; gzip_min_length 1; gzip_types text/plain; default_type text/plain;
    client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;
    server {{
        listen unix:{place}/socket; root {place}/pages;
        location /plain {{ return 200 \"plain $request_uri\\n\"; }}
        location ~ ^/numbered/(\\d+)$ {{ rewrite ^/numbered/(.*)$ /page$1 last; }}
    }}
}}
"
    );
    std::fs::create_dir_all(folder.join("pages")).expect("a folder for pages");
    for number in 0..10 {
        let page = format!("page {number} ").repeat(300 * (number + 1));
        std::fs::write(folder.join(format!("pages/page{number}")), page).expect("a page");
    }
    std::fs::write(folder.join("nginx.conf"), configuration).expect("a configuration");
    let mut command = Command::new("/usr/sbin/nginx");
    command
        .arg("-p")
        .arg(folder)
        .arg("-c")
        .arg(folder.join("nginx.conf"))
        .arg("-e")
        .arg(folder.join("errors"));
    command
}

/// Waits until it accepts connections.
pub fn wait(folder: &Path) {
    until(REPLY, "nginx to listen", || {
        UnixStream::connect(folder.join("socket")).ok()
    });
}

/// Two hundred requests on one connection; gives the answers without what changes from run to run.
pub fn round(folder: &Path, round: u32) -> Vec<String> {
    let mut stream = UnixStream::connect(folder.join("socket")).expect("nginx listens");
    stream.set_read_timeout(Some(REPLY)).expect("a deadline can be set");
    let mut requests = String::new();
    for number in 0..200 {
        let path = match number % 4 {
            0 => format!("/plain/{round}/{number}"),
            1 => format!("/page{}", number % 10),
            2 => format!("/numbered/{}", number % 10),
            _ => format!("/missing/{number}"),
        };
        let close = if number == 199 { "close" } else { "keep-alive" };
        let encoding = if number % 3 == 0 {
            "Accept-Encoding: gzip\r\n"
        } else {
            ""
        };
        requests += &format!("GET {path} HTTP/1.1\r\nHost: here\r\n{encoding}Connection: {close}\r\n\r\n");
    }
    let mut writer = stream.try_clone().expect("a second handle");
    let sender = std::thread::spawn(move || writer.write_all(requests.as_bytes()).expect("nginx reads"));
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("nginx answers");
    sender.join().expect("the sender does not fail");
    let answer = String::from_utf8_lossy(&answer);
    let changing = ["Date:", "Last-Modified:", "ETag:"];
    answer
        .lines()
        .filter(|line| !changing.iter().any(|name| line.starts_with(name)))
        .map(str::to_owned)
        .collect()
}
