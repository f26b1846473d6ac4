//! Builds the BPF object and names it to the crate: `aya::include_bytes_aligned!(env!("MEMSCOPE_BPF_OBJECT"))`.

use std::{env, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use xtask::toolchain::{BpfObject, LINKER_OVERRIDE, RUSTC_OVERRIDE, Toolchain};

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // A compiler's diagnostics are read in full on standard error; the first line is the error cargo shows.
            let text = format!("{why:#}");
            println!("cargo::error={}", text.lines().next().unwrap_or_default());
            eprintln!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<()> {
    let variable = |name: &str| env::var(name).with_context(|| format!("cargo did not set {name}"));
    let package = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let workspace = package.parent().context("memscope-user is not inside the workspace")?;
    for input in [
        "memscope-ebpf/src",
        "memscope-ebpf/Cargo.toml",
        "Cargo.toml",
        "Cargo.lock",
    ] {
        println!("cargo::rerun-if-changed={}", workspace.join(input).display());
    }
    for name in [RUSTC_OVERRIDE, LINKER_OVERRIDE] {
        println!("cargo::rerun-if-env-changed={name}");
    }

    let toolchain = Toolchain::find()?;
    for file in toolchain.files() {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    let target_dir = PathBuf::from(variable("OUT_DIR")?).join("bpf");
    let arch = variable("CARGO_CFG_TARGET_ARCH")?;
    let object = BpfObject {
        manifest: &workspace.join("Cargo.toml"),
        target_dir: &target_dir,
        arch: &arch,
    };
    let (path, said) = object.build(&toolchain)?;
    for line in said.lines().filter(|line| !line.trim().is_empty()) {
        println!("cargo::warning={line}");
    }
    println!("cargo::rustc-env=MEMSCOPE_BPF_OBJECT={}", path.display());
    Ok(())
}
