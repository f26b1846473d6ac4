//! One build of the BPF object: a cargo run with an environment of its own.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{BPF_TARGET, CoreSource, Toolchain};

/// What to build, and where.
#[derive(Debug, Clone)]
pub struct BpfObject<'a> {
    /// The workspace's `Cargo.toml`; its `Cargo.lock` is used as it is.
    pub manifest: &'a Path,
    /// A target folder of this build alone: sharing one with the cargo that runs us would deadlock on its lock.
    pub target_dir: &'a Path,
    /// The architecture of the traced processes, in Rust's spelling: the programs read its registers.
    pub arch: &'a str,
}

impl BpfObject<'_> {
    /// Builds `memscope-bpf` and returns the path of the object, with what the compiler had to say about it.
    pub fn build(&self, toolchain: &Toolchain) -> Result<(PathBuf, String)> {
        let mut cargo = self.command(toolchain);
        let output = cargo
            .output()
            .with_context(|| format!("cannot run {}", cargo.get_program().to_string_lossy()))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            bail!(
                "building the BPF programs with {} failed:\n{said}",
                toolchain.compiler.rustc.display()
            );
        }
        let object = self.target_dir.join(BPF_TARGET).join("release/memscope-bpf");
        if !object.is_file() {
            bail!("cargo built no {}", object.display());
        }
        Ok((object, said))
    }

    fn command(&self, toolchain: &Toolchain) -> Command {
        let compiler = &toolchain.compiler;
        // The cargo that runs the build script, where there is one: it is known to read this workspace.
        let cargo = compiler.own_cargo().map(PathBuf::into_os_string);
        let cargo = cargo.or_else(|| env::var_os("CARGO")).unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        for (name, _) in env::vars_os().filter(|(name, _)| belongs_to_outer_build(name)) {
            command.env_remove(name);
        }
        command
            .args([
                "build",
                "--quiet",
                "--locked",
                "--release",
                "--package",
                "memscope-ebpf",
                "--bin",
                "memscope-bpf",
            ])
            .args(["--features", "programs", "--target", BPF_TARGET])
            .arg("--manifest-path")
            .arg(self.manifest)
            .arg("--target-dir")
            .arg(self.target_dir)
            .env("RUSTC", &compiler.rustc)
            // `-Clink-arg=--btf` and friends need no nightly; an extern "C" BPF target does.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTC_WRAPPER", "")
            .env("RUSTC_WORKSPACE_WRAPPER", "")
            .env("CARGO_ENCODED_RUSTFLAGS", self.rustflags(&toolchain.linker.path))
            .env("CARGO_CFG_BPF_TARGET_ARCH", self.arch)
            // The profile is part of the programs' correctness (the verifier sees what the optimiser leaves), so it does not
            // follow the profile of the command.
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
            .env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "false")
            .env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "false")
            .env("CARGO_PROFILE_RELEASE_STRIP", "none");
        if compiler.core == CoreSource::Built {
            command.args(["-Z", "build-std=core"]);
        }
        command
    }

    fn rustflags(&self, linker: &Path) -> OsString {
        let mut flags =
            OsString::from("-Cdebuginfo=2\x1f-Clink-arg=--btf\x1f-Ctarget-cpu=v3\x1f--cfg=bpf_target_arch=\"");
        flags.push(self.arch);
        flags.push("\"\x1f-Clinker=");
        flags.push(linker);
        flags
    }
}

/// Whether an environment variable is the outer cargo's (or the user's for the outer build) and would change this one.
///
/// What says where crates come from stays, and the jobserver (`CARGO_MAKEFLAGS`), so that both builds share the machine.
fn belongs_to_outer_build(name: &OsString) -> bool {
    const KEPT: [&str; 8] = [
        "CARGO_HOME",
        "CARGO_MAKEFLAGS",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        "RUSTUP_HOME",
    ];
    let Some(name) = name.to_str() else { return false };
    let cargos = ["CARGO", "RUSTC", "RUSTFLAGS", "RUSTDOC", "RUSTUP_TOOLCHAIN", "CLIPPY_"];
    cargos.iter().any(|prefix| name.starts_with(prefix)) && !KEPT.iter().any(|kept| name.starts_with(kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_build_does_not_reach_into_the_bpf_build() {
        for name in [
            "RUSTC_WORKSPACE_WRAPPER",
            "CARGO_ENCODED_RUSTFLAGS",
            "RUSTFLAGS",
            "RUSTC",
            "CARGO_BUILD_TARGET",
        ] {
            assert!(belongs_to_outer_build(&name.into()), "{name}");
        }
        for name in [
            "PATH",
            "HOME",
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "CARGO_REGISTRIES_CRATES_IO_PROTOCOL",
            "RUST_LOG",
        ] {
            assert!(!belongs_to_outer_build(&name.into()), "{name}");
        }
    }
}
