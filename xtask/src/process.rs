//! Running other programs: shown before they run, as root where they must be, an error when they fail.

use std::{
    env,
    io::IsTerminal,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// The workspace's root folder.
pub fn workspace() -> PathBuf {
    // Cargo's word at run time is right also after the clone was moved.
    let package = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().map_or(package.clone(), Path::to_owned)
}

/// Cargo's target folder for this workspace.
pub fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), |dir| workspace().join(dir))
}

/// The cargo that runs us, at work in the workspace.
pub fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace());
    cargo
}

/// The command as a person would type it.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program())
        .to_owned();
    let mut words = vec![program.to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|argument| {
        let text = argument.to_string_lossy();
        if text.contains([' ', '"', '$']) {
            format!("'{text}'")
        } else {
            text.into_owned()
        }
    }));
    words.join(" ")
}

/// Shows the command, then runs it on our own terminal.
pub fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", shown(command));
    let status = command
        .status()
        .with_context(|| format!("cannot run `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", shown(command));
    }
    Ok(())
}

/// Whether a command can be run at all; what it prints is not looked at.
pub fn works(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether this process is root.
pub fn is_root() -> bool {
    // The owner of /proc/self is the effective user.
    std::fs::metadata("/proc/self").is_ok_and(|owner| std::os::unix::fs::MetadataExt::uid(&owner) == 0)
}

/// The words that make a command run as root: none, or sudo's. An error says what to do when there is no way.
pub fn root_prefix() -> Result<Vec<&'static str>> {
    if is_root() {
        return Ok(Vec::new());
    }
    if works(Command::new("sudo").args(["-n", "true"])) {
        return Ok(vec!["sudo", "-n", "-E"]);
    }
    // Only a person at a terminal can answer sudo's question.
    if std::io::stdin().is_terminal() && works(Command::new("sudo").arg("--version")) {
        return Ok(vec!["sudo", "-E"]);
    }
    bail!("this needs root, and sudo does not work here without a terminal")
}

/// The program, to be run as root.
pub fn as_root(program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
    let prefix = root_prefix()?;
    Ok(match prefix.split_first() {
        None => Command::new(program),
        Some((sudo, flags)) => {
            let mut command = Command::new(sudo);
            command.args(flags).arg(program);
            command
        }
    })
}
