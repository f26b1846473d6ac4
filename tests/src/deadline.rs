//! Waiting for a state, never for a time: every wait names what it waits for and ends at a deadline.

use std::time::{Duration, Instant};

/// Longest that a target program may take to answer a command of ordinary size.
pub const REPLY: Duration = Duration::from_secs(60);
/// Longest that one run of the command under test may take.
pub const COMMAND: Duration = Duration::from_secs(120);
/// Longest that a process may take to end once it was told to.
pub const EXIT: Duration = Duration::from_secs(30);

/// Asks `probe` until it answers `Some`, and panics naming `what` when `limit` is over.
pub fn until<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
