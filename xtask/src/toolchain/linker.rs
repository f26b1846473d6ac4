//! bpf-linker: where it may be, and whether its LLVM can read the compiler's bitcode.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use super::compiler::{self, Compiler};

/// The bpf-linker release the project is built with.
pub const LINKER_VERSION: &str = "0.13.0";
/// Environment variable that names the linker to use instead of searching for one.
pub const LINKER_OVERRIDE: &str = "MEMSCOPE_BPF_LINKER";

/// A bpf-linker that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linker {
    /// Its executable.
    pub path: PathBuf,
}

/// The folder of what the project installs for itself, shared by all clones of one user: `$XDG_DATA_HOME/memscope`.
pub fn data_folder() -> Option<PathBuf> {
    let data = env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let data = data.or_else(|| env::home_dir().map(|home| home.join(".local/share")))?;
    Some(data.join("memscope"))
}

/// The folder in which `cargo xtask setup` keeps its bpf-linker of one LLVM major version, for `cargo install --root`.
///
/// Apart from cargo's own `bin`: a bpf-linker the user has there, of another version or LLVM, is neither replaced nor trusted
/// blindly. `bpf-linker-<version>-llvm-<major>` in [`data_folder`].
pub fn own_root(llvm: u32) -> Option<PathBuf> {
    Some(data_folder()?.join(format!("bpf-linker-{LINKER_VERSION}-llvm-{llvm}")))
}

/// Where `cargo install` and rustup put executables, also when that folder is not on `PATH`.
pub fn cargo_bin() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")))?;
    Some(home.join("bin"))
}

/// The linker for `compiler`, or one line for each place looked at.
pub fn find(compiler: &Compiler) -> Result<Linker, Vec<String>> {
    if let Some(named) = env::var_os(LINKER_OVERRIDE) {
        let path = PathBuf::from(named);
        return match version(&path) {
            Ok(_) => Ok(Linker { path }),
            Err(why) => Err(vec![format!("{LINKER_OVERRIDE}: {why}")]),
        };
    }
    let mut reasons = Vec::new();
    // A linker built by set-up says in its folder's name which LLVM it has; a newer LLVM reads older bitcode.
    for llvm in compiler.llvm..compiler.llvm + 3 {
        let Some(path) = own_root(llvm)
            .map(|root| root.join("bin/bpf-linker"))
            .filter(|path| path.is_file())
        else {
            continue;
        };
        match version(&path) {
            Ok(_) => return Ok(Linker { path }),
            Err(why) => reasons.push(why),
        }
    }
    let on_path = env::var_os("PATH")
        .into_iter()
        .flat_map(|path| env::split_paths(&path).collect::<Vec<_>>());
    for path in cargo_bin()
        .into_iter()
        .chain(on_path)
        .map(|folder| folder.join("bpf-linker"))
        .filter(|p| p.is_file())
    {
        match version(&path) {
            Ok(found) if found == LINKER_VERSION => match own_llvm(&path) {
                Some(llvm) if llvm < compiler.llvm => {
                    reasons.push(format!(
                        "{} has LLVM {llvm}, the compiler has {}",
                        path.display(),
                        compiler.llvm
                    ));
                }
                _ => return Ok(Linker { path }),
            },
            Ok(found) => reasons.push(format!("{} is version {found}, not {LINKER_VERSION}", path.display())),
            Err(why) => reasons.push(why),
        }
    }
    reasons.push(format!("no bpf-linker {LINKER_VERSION} for LLVM {}", compiler.llvm));
    Err(reasons)
}

fn version(path: &Path) -> Result<String, String> {
    let text = compiler::run(Command::new(path).arg("--version"))?;
    let version = text
        .split_whitespace()
        .nth(1)
        .ok_or_else(|| format!("{} does not say its version", path.display()))?;
    Ok(version.to_owned())
}

/// LLVM's major version, where the linker links it dynamically and so names it in its `NEEDED` entries.
fn own_llvm(path: &Path) -> Option<u32> {
    let bytes = std::fs::read(path).ok()?;
    let prefix = b"libLLVM.so.";
    let at = bytes.windows(prefix.len()).position(|window| window == prefix)? + prefix.len();
    let digits: String = bytes[at..]
        .iter()
        .take(3)
        .take_while(|b| b.is_ascii_digit())
        .map(|&b| char::from(b))
        .collect();
    digits.parse().ok()
}
