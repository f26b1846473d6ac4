//! The oracle: real programs under a preloaded recorder, their true live sets against memscope's.

pub mod pair;
pub mod table;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::program::{folder, target_folder};

/// An allocator that a program can be given by preloading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocator {
    /// None preloaded: the program's own choice, mostly glibc's.
    AsShipped,
    /// libjemalloc.so.2
    Jemalloc,
    /// libtcmalloc_minimal.so.4
    Tcmalloc,
    /// libmimalloc.so.2
    Mimalloc,
}

impl Allocator {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::AsShipped, Self::Jemalloc, Self::Tcmalloc, Self::Mimalloc];

    /// As the table prints it.
    pub fn name(self) -> &'static str {
        match self {
            Self::AsShipped => "as shipped",
            Self::Jemalloc => "jemalloc",
            Self::Tcmalloc => "tcmalloc",
            Self::Mimalloc => "mimalloc",
        }
    }

    /// The value of `LD_PRELOAD`: the recorder first, then the allocator it passes on to.
    pub fn preload(self) -> String {
        let recorder = library();
        let recorder = recorder.to_str().expect("the build folder's path is text");
        match self {
            Self::AsShipped => recorder.to_owned(),
            Self::Jemalloc => format!("{recorder}:libjemalloc.so.2"),
            Self::Tcmalloc => format!("{recorder}:libtcmalloc_minimal.so.4"),
            Self::Mimalloc => format!("{recorder}:libmimalloc.so.2"),
        }
    }
}

/// The recorder, built from `oracle/oracle.c`.
pub fn library() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| build("liboracle.so", &[])).clone()
}

/// The recorder that asks libgcc for the stack of each block too: see `oracle/stacks.h`.
pub fn library_with_stacks() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| build("liboracle-stacks.so", &["-DRECORD_STACKS"]))
        .clone()
}

fn build(name: &str, flags: &[&str]) -> PathBuf {
    let source = folder().join("oracle/oracle.c");
    let place = target_folder().join("test-programs");
    std::fs::create_dir_all(&place).unwrap_or_else(|error| panic!("creating {}: {error}", place.display()));
    let wanted = place.join(name);
    let unfinished = place.join(format!("{name}.{}", std::process::id()));
    let mut command = Command::new("cc");
    command.args([
        "-O2",
        "-g",
        "-fexceptions",
        "-fno-builtin",
        "-fPIC",
        "-shared",
        "-Wall",
        "-o",
    ]);
    command
        .arg(&unfinished)
        .args(flags)
        .arg(&source)
        .args(["-ldl", "-pthread"]);
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("running {command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    std::fs::rename(&unfinished, &wanted).unwrap_or_else(|error| panic!("{}: {error}", wanted.display()));
    wanted
}
