//! Names of signals, by their bit in the masks of `/proc/PID/status`.

/// Signals 1 to 31 on x86-64 (signal(7)); the others are real-time ones.
const NAMES: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// The names of a mask's signals, lowest first. A run of real-time signals is one name.
#[must_use]
pub fn of_mask(mask: u64) -> Vec<String> {
    let mut names: Vec<String> = NAMES
        .iter()
        .enumerate()
        .filter(|(bit, _)| mask >> bit & 1 == 1)
        .map(|(_, name)| (*name).to_owned())
        .collect();
    let mut number = NAMES.len() as u32 + 1;
    while number <= 64 {
        if mask >> (number - 1) & 1 == 0 {
            number += 1;
            continue;
        }
        let first = number;
        while number < 64 && mask >> number & 1 == 1 {
            number += 1;
        }
        names.push(if first == number {
            format!("{first}")
        } else {
            format!("{first}-{number}")
        });
        number += 1;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_signals_from_one() {
        assert_eq!(
            of_mask(1 << (libc::SIGCHLD - 1) | 1 << (libc::SIGSYS - 1)),
            ["SIGCHLD", "SIGSYS"]
        );
        assert_eq!(of_mask(1 << 33 | 1 << 31), ["32", "34"]);
        assert_eq!(of_mask(u64::MAX).last().map(String::as_str), Some("32-64"));
        assert_eq!(of_mask(1 << 63), ["64"]);
        assert!(of_mask(0).is_empty());
    }
}
