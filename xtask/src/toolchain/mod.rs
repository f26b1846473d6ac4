//! The BPF toolchain: a compiler that has `core` for BPF, and a linker of the same LLVM.

mod bpf_object;
mod compiler;
mod linker;

use std::{fmt, path::PathBuf};

pub use bpf_object::BpfObject;
pub use compiler::{BPF_TARGET, Compiler, CoreSource, DEBIAN_RUSTC, RUSTC_OVERRIDE};
pub use linker::{LINKER_OVERRIDE, LINKER_VERSION, Linker, cargo_bin, data_folder, own_root};

/// The one command to run when the toolchain, or a part of it, is missing.
pub const SETUP_COMMAND: &str = "cargo xtask setup";

/// A compiler and a linker that together turn Rust into a BPF object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    /// Compiles the BPF crates to LLVM bitcode.
    pub compiler: Compiler,
    /// Links that bitcode into one BPF object with BTF.
    pub linker: Linker,
}

impl Toolchain {
    /// Finds a usable toolchain on this machine; downloads and changes nothing.
    ///
    /// Takes the first compiler for which there is a linker whose LLVM can read its bitcode.
    pub fn find() -> Result<Self, Missing> {
        let mut missing = Missing::default();
        for candidate in compiler::candidates() {
            let compiler = match candidate {
                Ok(compiler) => compiler,
                Err(why) => {
                    missing.reasons.push(why);
                    continue;
                }
            };
            match linker::find(&compiler) {
                Ok(linker) => return Ok(Self { compiler, linker }),
                Err(why) => {
                    missing.reasons.extend(why);
                    missing.compiler.get_or_insert(compiler);
                }
            }
        }
        Err(missing)
    }

    /// Files whose change or removal makes an object built with this toolchain stale.
    pub fn files(&self) -> [PathBuf; 2] {
        [self.compiler.rustc.clone(), self.linker.path.clone()]
    }
}

/// Why there is no usable BPF toolchain here, and how far the search got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    /// The best compiler found; only its linker is missing then.
    pub compiler: Option<Compiler>,
    /// One line for each thing looked at: what it was, and what it lacks.
    pub reasons: Vec<String>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the BPF toolchain is missing or incomplete; run `{SETUP_COMMAND}` (looked at: {})",
            self.reasons.join("; ")
        )
    }
}

impl std::error::Error for Missing {}
