//! Key `w`: the watchdogs — the kernel's, the machine's devices, and systemd's for the target's unit.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::cgroup;
use super::error::OsError;
use super::process_files::ProcessFiles;
use super::quantity::Span;
use crate::report::Escaped;

/// What the line at the end says.
pub const MEANS: &str = "a unit with a watchdog is killed when it does not report in time, and a target that is restarted \
                         loses its leak with its memory: then the database's blocks are the old process's";

/// Settings of the kernel's own watchdogs, below /proc/sys/kernel (Documentation/admin-guide/sysctl/kernel.rst).
const KERNEL: [&str; 6] = [
    "watchdog",
    "watchdog_thresh",
    "soft_watchdog",
    "nmi_watchdog",
    "softlockup_panic",
    "hung_task_timeout_secs",
];

/// Properties of a unit that are asked for (org.freedesktop.systemd1(5)).
const PROPERTIES: [&str; 6] = [
    "WatchdogUSec",
    "WatchdogTimestamp",
    "NotifyAccess",
    "Restart",
    "NRestarts",
    "Result",
];

/// Longest wait for systemd's answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The answer.
#[derive(Debug, Serialize)]
pub struct Watchdogs {
    /// The kernel's settings, by name; those it lacks are left out.
    pub kernel: BTreeMap<&'static str, String>,
    /// Devices.
    pub devices: Vec<WatchdogDevice>,
    /// systemd unit of the target.
    pub unit: Option<Unit>,
    /// Time in which the target was told to report, microseconds (`WATCHDOG_USEC` of its environment, sd_notify(3)).
    pub told_us: Option<u64>,
    /// What could not be read, and why.
    pub notes: Vec<String>,
}

/// A watchdog device (/sys/class/watchdog).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WatchdogDevice {
    /// `watchdog0`.
    pub name: String,
    /// What it is.
    pub identity: String,
    /// `active` or `inactive`.
    pub state: String,
    /// Seconds until it resets the machine.
    pub timeout_s: Option<u64>,
    /// Seconds left.
    pub left_s: Option<u64>,
}

/// A systemd unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unit {
    /// `nginx.service`.
    pub name: String,
    /// What systemd says of it; empty when it does not answer.
    pub properties: BTreeMap<String, String>,
}

/// Gathers it.
pub(super) fn gather(files: &ProcessFiles) -> Result<Watchdogs, OsError> {
    let mut notes = Vec::new();
    let kernel = KERNEL.iter().filter_map(|name| {
        let value = std::fs::read_to_string(Path::new("/proc/sys/kernel").join(name)).ok()?;
        Some((*name, value.trim().to_owned()))
    });
    let told_us = match files.memory_text("environ") {
        Ok(text) => told_us(&text),
        Err(error @ OsError::NotPermitted { .. }) => {
            notes.push(error.to_string());
            None
        }
        Err(error) => return Err(error),
    };
    let unit = cgroup::of(files)?.systemd_unit().map(|name| Unit {
        name: name.to_owned(),
        properties: ask_systemd(name).unwrap_or_else(|error| {
            notes.push(format!("systemd says nothing of the unit: {error}"));
            BTreeMap::new()
        }),
    });
    Ok(Watchdogs {
        kernel: kernel.collect(),
        devices: devices(Path::new("/sys/class/watchdog")),
        unit,
        told_us,
        notes,
    })
}

fn devices(folder: &Path) -> Vec<WatchdogDevice> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let devices = entries.flatten().map(|entry| {
        let text = |file: &str| std::fs::read_to_string(entry.path().join(file)).ok();
        let word = |file: &str| text(file).map_or_else(|| "?".to_owned(), |text| text.trim().to_owned());
        let number = |file: &str| text(file)?.trim().parse().ok();
        WatchdogDevice {
            name: entry.file_name().to_string_lossy().into_owned(),
            identity: word("identity"),
            state: word("state"),
            timeout_s: number("timeout"),
            left_s: number("timeleft"),
        }
    });
    let mut devices: Vec<WatchdogDevice> = devices.collect();
    devices.sort_by(|a, b| a.name.cmp(&b.name));
    devices
}

/// `WATCHDOG_USEC=30000000` among variables that end with NUL.
fn told_us(environment: &str) -> Option<u64> {
    let mut variables = environment.split('\0');
    variables
        .find_map(|variable| variable.strip_prefix("WATCHDOG_USEC="))?
        .parse()
        .ok()
}

/// `systemctl show UNIT`, where systemd runs.
fn ask_systemd(unit: &str) -> io::Result<BTreeMap<String, String>> {
    if !Path::new("/run/systemd/system").is_dir() {
        return Err(io::Error::other("it does not run here"));
    }
    let mut child = Command::new("/usr/bin/systemctl")
        .args([
            "show",
            "--no-pager",
            &format!("--property={}", PROPERTIES.join(",")),
            "--",
            unit,
        ])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let deadline = Instant::now() + PATIENCE;
    // Its few lines fit into the pipe: it ends without being read.
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::from(io::ErrorKind::TimedOut));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut text = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut text)?;
    }
    Ok(parse_properties(&text))
}

fn parse_properties(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

impl Watchdogs {
    /// Shows it.
    pub(super) fn write_rows(&self, out: &mut dyn Write) -> io::Result<()> {
        let settings: Vec<String> = self
            .kernel
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        writeln!(out, "  kernel         {}", Escaped(&settings.join(", ")))?;
        if self.devices.is_empty() {
            writeln!(out, "  devices        none")?;
        }
        let seconds = |value: Option<u64>| value.map_or_else(|| "?".to_owned(), |value| format!("{value} s"));
        for device in &self.devices {
            writeln!(
                out,
                "  device         {}: {}, {}, timeout {}, left {}",
                Escaped(&device.name),
                Escaped(&device.identity),
                Escaped(&device.state),
                seconds(device.timeout_s),
                seconds(device.left_s)
            )?;
        }
        match &self.unit {
            Some(unit) => {
                writeln!(out, "  unit           {}", Escaped(&unit.name))?;
                for (name, value) in &unit.properties {
                    writeln!(out, "    {:<20} {}", Escaped(name).to_string(), Escaped(value))?;
                }
            }
            None => writeln!(out, "  unit           none: systemd did not start the target")?,
        }
        match self.told_us {
            Some(us) => writeln!(
                out,
                "  told           to report every {}",
                Span(Duration::from_micros(us))
            ),
            None => writeln!(out, "  told           nothing (no WATCHDOG_USEC in its environment)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_watchdog_has_its_line() {
        let watchdogs = Watchdogs {
            kernel: BTreeMap::from([("watchdog", "1".to_owned()), ("watchdog_thresh", "10".to_owned())]),
            devices: vec![WatchdogDevice {
                name: "watchdog0".to_owned(),
                identity: "iTCO_wdt".to_owned(),
                state: "active".to_owned(),
                timeout_s: Some(30),
                left_s: None,
            }],
            unit: Some(Unit {
                name: "nginx.service".to_owned(),
                properties: parse_properties("WatchdogUSec=30s\nRestart=on-failure\n\nrubbish\n"),
            }),
            told_us: told_us("A=b\0WATCHDOG_USEC=30000000\0"),
            notes: Vec::new(),
        };
        let mut text = Vec::new();
        watchdogs.write_rows(&mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "  kernel         watchdog 1, watchdog_thresh 10
  device         watchdog0: iTCO_wdt, active, timeout 30 s, left ?
  unit           nginx.service
    Restart              on-failure
    WatchdogUSec         30s
  told           to report every 30.0 s
"
        );
    }

    #[test]
    fn only_the_variable_itself_is_taken() {
        assert_eq!(told_us("MY_WATCHDOG_USEC=5\0WATCHDOG_USEC=x\0"), None);
        assert_eq!(told_us(""), None);
    }
}
