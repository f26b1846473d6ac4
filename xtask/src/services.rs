//! Keeps services that come with a package from being started, now and at the next boot.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, bail};

use crate::process;

/// Services held back while their packages are installed.
///
/// A mask (a unit that is a link to /dev/null) is what `deb-systemd-invoke` respects; init scripts outside systemd are held
/// back by `RUNLEVEL=1`. A `policy-rc.d` would do both, but the machine may have one of its own.
pub struct HeldBack {
    services: Vec<&'static str>,
    masked: Vec<PathBuf>,
}

impl HeldBack {
    /// Masks `services`, which belong to packages that are not installed yet.
    pub fn mask(services: Vec<&'static str>) -> Result<Self> {
        let mut held = Self {
            services,
            masked: Vec::new(),
        };
        for service in &held.services {
            let unit = PathBuf::from(format!("/etc/systemd/system/{service}.service"));
            if fs::symlink_metadata(&unit).is_ok() || running(service) {
                // The machine's own; not ours to change.
                continue;
            }
            process::run(process::as_root("mkdir")?.args(["-p", "/etc/systemd/system"]))?;
            process::run(process::as_root("ln")?.args(["-s", "/dev/null"]).arg(&unit))?;
            held.masked.push(unit);
        }
        held.services.retain(|service| !running(service));
        Ok(held)
    }

    /// Takes the masks away and leaves the services disabled; an error if one of them runs all the same.
    pub fn disable(self) -> Result<()> {
        for unit in &self.masked {
            process::run(process::as_root("rm")?.arg("-f").arg(unit))?;
        }
        for service in &self.services {
            let unit = format!("{service}.service");
            if process::works(Command::new("systemctl").arg("--version")) {
                process::run(process::as_root("systemctl")?.args(["--quiet", "disable", &unit]))?;
                continue;
            }
            // Without systemd, this undoes the links for init scripts and those for a systemd to come.
            process::run(process::as_root("update-rc.d")?.args([service, "disable"]))?;
        }
        let started: Vec<_> = self
            .services
            .iter()
            .filter(|service| running(service))
            .copied()
            .collect();
        if !started.is_empty() {
            bail!(
                "installing the test packages started {}; stop it with `service NAME stop`",
                started.join(", ")
            );
        }
        Ok(())
    }
}

/// Whether a process of that name runs.
fn running(service: &str) -> bool {
    let Ok(processes) = fs::read_dir("/proc").context("cannot read /proc") else {
        return false;
    };
    // The kernel cuts names at 15 bytes; a service here has a shorter one.
    processes
        .flatten()
        .any(|entry| fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim_end() == service))
}
