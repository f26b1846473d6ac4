//! The target's resident memory, from `/proc/PID/status`.

use crate::target::process::Target;

/// Resident bytes (`VmRSS`), as long as the process is the one that was meant; `None` when it has ended or cannot be read.
#[must_use]
pub fn resident(target: &Target) -> Option<u64> {
    let status = std::fs::read(format!("/proc/{}/status", target.memory_pid())).ok()?;
    // Its name need not be text.
    let status = String::from_utf8_lossy(&status);
    // Read before the check: a process that took over the PID afterwards is not the one that was read.
    target.is_alive().then(|| vm_rss(&status))?
}

fn vm_rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_in_bytes() {
        assert_eq!(
            vm_rss("Name:\tx\nVmRSS:\t    1234 kB\nRssAnon:\t 1 kB\n"),
            Some(1234 * 1024)
        );
        for status in [
            "",
            "VmRSS:",
            "VmRSS: x kB",
            "VmRSS: 18446744073709551615 kB",
            "VmHWM: 5 kB",
        ] {
            assert_eq!(vm_rss(status), None, "{status}");
        }
    }
}
