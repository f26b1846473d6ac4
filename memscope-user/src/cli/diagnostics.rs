//! What the BPF programs log, passed on to stderr: in foreground runs with `-v` only.

use std::io::{self, Write as _};
use std::time::Duration;

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};

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

/// How often the log is read. It is for a person's eyes, and its ring holds minutes of it.
const LOOK: Duration = Duration::from_millis(200);

/// Passes the programs' log on, without end; failing to read it does not end a trace.
pub async fn pass_on(object: &mut Ebpf) {
    let mut logger = match EbpfLogger::init_with_logger(object, Stderr) {
        Ok(logger) => logger,
        Err(error) => return complain(&error),
    };
    loop {
        logger.flush();
        tokio::time::sleep(LOOK).await;
    }
}
