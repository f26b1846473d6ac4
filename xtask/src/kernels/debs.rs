//! Debian packages fetched and unpacked beside the build, not installed: kernels, and the machine to run them on.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::process;

/// The folder with the unpacked content of `packages`; fetched unless that was done before.
pub fn unpacked(packages: &[String], below: &Path, name: &str) -> Result<PathBuf> {
    let folder = below.join(name);
    if folder.is_dir() {
        return Ok(folder);
    }
    // Unpacked under another name and renamed: a folder that is there is whole.
    let unfinished = below.join(format!("{name}.unfinished"));
    for old in [&unfinished, &below.join("fetched")] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
    }
    let fetched = below.join("fetched");
    fs::create_dir_all(&fetched).with_context(|| format!("cannot create {}", fetched.display()))?;
    let mut download = Command::new("apt-get");
    // The files are ours: apt's own user cannot write here, and need not.
    download
        .args(["-qq", "-o", "APT::Sandbox::User=root", "download"])
        .args(packages)
        .current_dir(&fetched);
    process::run(&mut download).context("apt's lists may be stale: `apt-get update` fetches new ones")?;
    for entry in fs::read_dir(&fetched)? {
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("--extract").arg(entry?.path()).arg(&unfinished);
        if !process::works(&mut unpack) {
            bail!("`{}` failed", process::shown(&unpack));
        }
    }
    fs::remove_dir_all(&fetched)?;
    fs::rename(&unfinished, &folder)?;
    Ok(folder)
}

/// `packages` and all they depend on that is not installed here.
pub fn with_dependencies(packages: &[&str]) -> Result<Vec<String>> {
    let output = Command::new("apt-get")
        .args(["install", "--simulate", "--no-install-recommends"])
        .args(packages)
        .output()
        .context("cannot run apt-get")?;
    if !output.status.success() {
        bail!(
            "apt knows no way to install {}: {}",
            packages.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let mut all = to_install(&String::from_utf8_lossy(&output.stdout));
    // Those that are installed are fetched all the same: what is used is then all in one folder.
    all.extend(packages.iter().map(|&package| package.to_owned()));
    all.sort();
    all.dedup();
    Ok(all)
}

/// The packages of apt's simulation: lines `Inst NAME (VERSION …)`.
fn to_install(simulation: &str) -> Vec<String> {
    let names = simulation.lines().filter_map(|line| line.strip_prefix("Inst "));
    names
        .filter_map(|rest| rest.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_to_install_are_read_from_the_simulation() {
        let said = "Reading package lists...\nRemv other [1]\nInst seabios (1.16 Debian:12 [all])\n\
                    Inst libfdt1 [1.0] (1.6.1-4 Debian:12 [amd64])\nConf seabios (1.16)\n";
        assert_eq!(to_install(said), ["seabios", "libfdt1"]);
    }

    #[test]
    fn what_is_unpacked_is_not_fetched_again() {
        let below = std::env::temp_dir().join(format!("memscope-debs-{}", std::process::id()));
        fs::create_dir_all(below.join("there")).unwrap();
        assert_eq!(
            unpacked(&["no-such-package".to_owned()], &below, "there").unwrap(),
            below.join("there")
        );
        fs::remove_dir_all(&below).unwrap();
    }
}
