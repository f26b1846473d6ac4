//! What the BPF programs log, passed on to stderr: in foreground runs with `-v` only.

use std::io::{self, Write as _};

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use tokio::io::unix::AsyncFd;

use super::run::complain;

/// Writes each record as a line.
struct Stderr;

impl Log for Stderr {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        // Nothing more can be done when stderr is gone.
        let _ = writeln!(
            io::stderr(),
            "bpf {}: {}",
            record.level().as_str().to_lowercase(),
            record.args()
        );
    }

    fn flush(&self) {}
}

/// Reads the programs' log until it fails; failing to read it does not end a trace.
pub async fn pass_on(object: &mut Ebpf) {
    let logger = match EbpfLogger::init_with_logger(object, Stderr) {
        Ok(logger) => logger,
        Err(error) => return complain(&error),
    };
    let mut logger = match AsyncFd::new(logger) {
        Ok(logger) => logger,
        Err(error) => return complain(&error),
    };
    loop {
        match logger.readable_mut().await {
            Ok(mut ready) => {
                ready.get_inner_mut().flush();
                ready.clear_ready();
            }
            Err(error) => return complain(&error),
        }
    }
}
