//! Debian packages: which are installed, and installing the others without removing any.

use std::{collections::HashSet, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::process;

/// Whether this machine installs packages with apt.
pub fn is_here() -> bool {
    Path::new("/usr/bin/apt-get").is_file() && Path::new("/usr/bin/dpkg-query").is_file()
}

/// Those of `packages` that are not installed.
pub fn missing<'a>(packages: &[&'a str]) -> Result<Vec<&'a str>> {
    let query = ["--show", "--showformat", "${Package} ${db:Status-Status}\\n"];
    // dpkg-query fails when one of the names is unknown to it, and answers for the others all the same.
    let output = Command::new("dpkg-query")
        .args(query)
        .args(packages)
        .output()
        .context("cannot run dpkg-query")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let installed: HashSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_suffix(" installed"))
        .collect();
    Ok(packages
        .iter()
        .copied()
        .filter(|package| !installed.contains(package))
        .collect())
}

/// Whether apt knows a version of every one of `packages`.
pub fn can_install(packages: &[&str]) -> bool {
    process::works(
        Command::new("apt-get")
            .args(["install", "--simulate", "--no-remove"])
            .args(packages),
    )
}

/// Installs `packages`; fetches the package lists only when the ones at hand do not do.
pub fn install(packages: &[&str]) -> Result<()> {
    let by_hand = format!("apt-get update && apt-get install {}", packages.join(" "));
    process::root_prefix().with_context(|| format!("run this as root, then try again: {by_hand}"))?;
    let listed = can_install(packages);
    if listed && process::run(&mut install_command(packages)?).is_ok() {
        return Ok(());
    }
    eprintln!(
        "xtask: the package lists {}; fetching new ones",
        if listed { "are stale" } else { "lack some of these" }
    );
    process::run(apt_get()?.arg("update"))?;
    if !can_install(packages) {
        let simulation = Command::new("apt-get")
            .args(["install", "--simulate", "--no-remove"])
            .args(packages)
            .output()?;
        let said = String::from_utf8_lossy(&simulation.stderr).trim().to_owned();
        bail!(
            "apt cannot install {} without removing other packages, or does not know them: {said}",
            packages.join(" ")
        );
    }
    process::run(&mut install_command(packages)?)
        .with_context(|| format!("run this as root, then try again: {by_hand}"))
}

fn apt_get() -> Result<Command> {
    let mut command = process::as_root("env")?;
    // As in runlevel 1, init scripts are not started; nobody is there to answer questions.
    command.args(["RUNLEVEL=1", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]);
    // Somebody else's apt may be at work; progress bars are for terminals.
    command.args(["-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]);
    Ok(command)
}

/// `--no-remove`: `rustc-web` conflicts with other compilers, and taking away the user's is not ours to decide.
fn install_command(packages: &[&str]) -> Result<Command> {
    let mut command = apt_get()?;
    command
        .args(["install", "--yes", "--no-remove", "--no-install-recommends"])
        .args(packages);
    Ok(command)
}
