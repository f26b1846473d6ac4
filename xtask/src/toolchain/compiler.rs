//! Compilers that can produce BPF: ones with a prebuilt BPF `core`, or with the source to build it.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

/// The target the BPF programs are built for.
pub const BPF_TARGET: &str = "bpfel-unknown-none";
/// Where Debian's `rustc-web` puts its compiler.
pub const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// Environment variable that names the compiler to use instead of searching for one.
pub const RUSTC_OVERRIDE: &str = "MEMSCOPE_BPF_RUSTC";

/// Where a compiler's `core` for BPF comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoreSource {
    /// An rlib in the sysroot (Debian's `libstd-rust-web-dev-bpf`).
    Prebuilt,
    /// The `rust-src` component; cargo builds it each time with `-Z build-std=core`.
    Built,
}

/// A compiler that has `core` for BPF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiler {
    /// The real compiler, never rustup's proxy: what the proxy runs depends on the folder it is run in.
    pub rustc: PathBuf,
    /// Where its `core` comes from.
    pub core: CoreSource,
    /// Major version of the LLVM inside; bitcode is readable by this one and newer.
    pub llvm: u32,
    /// First line of `rustc --version`.
    pub version: String,
}

impl Compiler {
    /// The cargo that came with the compiler, where `core` is built from source: both must know the same source layout.
    pub fn own_cargo(&self) -> Option<PathBuf> {
        match self.core {
            CoreSource::Prebuilt => None,
            CoreSource::Built => Some(self.rustc.with_file_name("cargo")).filter(|cargo| cargo.is_file()),
        }
    }

    fn inspect(rustc: &Path) -> Result<Self, String> {
        let verbose = run(Command::new(rustc).arg("-vV"))?;
        let sysroot = PathBuf::from(run(Command::new(rustc).args(["--print", "sysroot"]))?.trim());
        let llvm = llvm_major(&verbose).ok_or_else(|| format!("{} does not name its LLVM", rustc.display()))?;
        let core = if has_prebuilt_core(&sysroot) {
            CoreSource::Prebuilt
        } else if sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file() {
            CoreSource::Built
        } else {
            return Err(format!(
                "{} has neither a prebuilt core for BPF nor rust-src",
                rustc.display()
            ));
        };
        let version = verbose.lines().next().unwrap_or_default().to_owned();
        Ok(Self {
            rustc: rustc.to_owned(),
            core,
            llvm,
            version,
        })
    }
}

/// Compilers worth a look, the fastest to use first; an `Err` says what one lacks.
pub fn candidates() -> Vec<Result<Compiler, String>> {
    if let Some(named) = std::env::var_os(RUSTC_OVERRIDE) {
        return vec![Compiler::inspect(Path::new(&named)).map_err(|why| format!("{RUSTC_OVERRIDE}: {why}"))];
    }
    let debian = Path::new(DEBIAN_RUSTC);
    let debian = if debian.exists() {
        Compiler::inspect(debian)
    } else {
        Err(format!("{DEBIAN_RUSTC} does not exist"))
    };
    vec![debian, rustup_nightly().and_then(|rustc| Compiler::inspect(&rustc))]
}

/// The compiler behind `rustup run nightly`, which must not make rustup download one.
fn rustup_nightly() -> Result<PathBuf, String> {
    let rustup = super::cargo_bin()
        .map(|bin| bin.join("rustup"))
        .filter(|path| path.is_file());
    let rustup = rustup.map_or_else(|| OsString::from("rustup"), PathBuf::into_os_string);
    let mut which = Command::new(rustup);
    which
        .args(["which", "--toolchain", "nightly", "rustc"])
        .env("RUSTUP_AUTO_INSTALL", "0");
    run(&mut which)
        .map(|path| PathBuf::from(path.trim()))
        .map_err(|_| "no rustup nightly".to_owned())
}

fn has_prebuilt_core(sysroot: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(sysroot.join("lib/rustlib").join(BPF_TARGET).join("lib")) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libcore-") && name.ends_with(".rlib")
    })
}

fn llvm_major(verbose_version: &str) -> Option<u32> {
    let version = verbose_version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    version.split('.').next()?.trim().parse().ok()
}

/// Standard output of a command that succeeded; one line saying why otherwise.
pub(super) fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|why| format!("cannot run {name}: {why}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!(
            "{name} failed ({}): {}",
            output.status,
            stderr.lines().next().unwrap_or_default()
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_llvm_of_a_compiler_is_read_from_its_verbose_version() {
        let text = "rustc 1.96.0 (ac68faa20 2026-05-25)\nhost: x86_64-unknown-linux-gnu\nLLVM version: 22.1.8\n";
        assert_eq!(llvm_major(text), Some(22));
        assert_eq!(llvm_major("rustc 1.96.0\n"), None);
    }

    #[test]
    fn a_compiler_without_core_for_bpf_and_without_its_source_is_refused() {
        let folder = std::env::temp_dir().join(format!("memscope-xtask-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("sysroot")).unwrap();
        let rustc = folder.join("rustc");
        let script = format!(
            "#!/bin/sh\ncase $1 in -vV) echo 'rustc 1.96.0'; echo 'LLVM version: 22.1.8';; *) echo {}/sysroot;; esac\n",
            folder.display()
        );
        std::fs::write(&rustc, script).unwrap();
        let shell = |rustc: &Path| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(rustc, PermissionsExt::from_mode(0o755)).unwrap();
            Compiler::inspect(rustc)
        };
        let refused = shell(&rustc).unwrap_err();
        assert!(
            refused.contains("neither a prebuilt core for BPF nor rust-src"),
            "{refused}"
        );

        let source = folder.join("sysroot/lib/rustlib/src/rust/library/core/src");
        std::fs::create_dir_all(&source).unwrap();
        std::fs::write(source.join("lib.rs"), "").unwrap();
        assert_eq!(shell(&rustc).unwrap().core, CoreSource::Built);

        let prebuilt = folder.join("sysroot/lib/rustlib").join(BPF_TARGET).join("lib");
        std::fs::create_dir_all(&prebuilt).unwrap();
        std::fs::write(prebuilt.join("libcore-0.rlib"), "").unwrap();
        assert_eq!(shell(&rustc).unwrap().core, CoreSource::Prebuilt);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
