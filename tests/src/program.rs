//! Target programs: compiles a source of `programs/` once per content and flags, and says where the result lies.

use std::collections::HashMap;
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

/// A target program to be built: source, compiler, flags.
#[derive(Clone, Debug)]
pub struct Program {
    source: PathBuf,
    compiler: String,
    flags: Vec<String>,
    libraries: Vec<String>,
}

impl Program {
    /// A source of `programs/`; the ending chooses the compiler. Built with frame pointers, debug information and no
    /// builtin allocator functions, so that every call in the source is a call at run time.
    pub fn new(source: &str) -> Self {
        let path = folder().join("programs").join(source);
        assert!(path.exists(), "no target program {}", path.display());
        let common = ["-g", "-O1", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls"];
        let (compiler, flags) = match path.extension().and_then(|e| e.to_str()) {
            Some("c") => (
                "cc",
                [&common[..], &["-fno-builtin", "-pthread", "-Wall", "-D_GNU_SOURCE"]].concat(),
            ),
            Some("cpp") => (
                "c++",
                [&common[..], &["-fno-builtin", "-pthread", "-Wall", "-std=c++17"]].concat(),
            ),
            Some("rs") => (
                "rustc",
                vec![
                    "--edition=2024",
                    "-g",
                    "-Copt-level=1",
                    "-Cforce-frame-pointers=yes",
                    "-Adead_code",
                ],
            ),
            other => panic!("no compiler for a target program ending in {other:?}"),
        };
        Self {
            source: path,
            compiler: compiler.to_owned(),
            flags: flags.into_iter().map(str::to_owned).collect(),
            libraries: Vec::new(),
        }
    }

    /// Adds compiler flags.
    #[must_use]
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }

    /// Adds flags that must follow the source, such as `-ldl`.
    #[must_use]
    pub fn link(mut self, flags: &[&str]) -> Self {
        self.libraries.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }

    /// Uses another compiler, such as `musl-gcc`.
    #[must_use]
    pub fn compiler(mut self, compiler: &str) -> Self {
        compiler.clone_into(&mut self.compiler);
        self
    }

    /// Builds it, unless a build of the same content is there, and gives its path.
    pub fn build(&self) -> PathBuf {
        static BUILT: OnceLock<Mutex<HashMap<u64, Arc<OnceLock<PathBuf>>>>> = OnceLock::new();
        let key = self.key();
        let cell = {
            let mut built = BUILT
                .get_or_init(Mutex::default)
                .lock()
                .expect("no build panics while it holds this lock");
            Arc::clone(built.entry(key).or_default())
        };
        cell.get_or_init(|| self.compile(key)).clone()
    }

    fn key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.compiler, &self.flags, &self.libraries).hash(&mut hasher);
        for path in std::iter::once(self.source.clone()).chain(headers()) {
            std::fs::read(&path)
                .unwrap_or_else(|error| panic!("reading {}: {error}", path.display()))
                .hash(&mut hasher);
        }
        hasher.finish()
    }

    fn compile(&self, key: u64) -> PathBuf {
        let stem = self
            .source
            .file_stem()
            .expect("a source has a name")
            .to_string_lossy()
            .into_owned();
        let place = target_folder().join("test-programs").join(format!("{key:016x}"));
        let wanted = place.join(&stem);
        if wanted.exists() {
            return wanted;
        }
        std::fs::create_dir_all(&place).unwrap_or_else(|error| panic!("creating {}: {error}", place.display()));
        // Built under a name of its own and renamed: two test processes may build the same program at once.
        let unfinished = place.join(format!("{stem}.{}", std::process::id()));
        let mut command = Command::new(&self.compiler);
        command
            .args(&self.flags)
            .arg("-o")
            .arg(&unfinished)
            .arg(&self.source)
            .args(&self.libraries);
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("running {command:?}: {error}"));
        assert!(
            output.status.success(),
            "{command:?} failed:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        std::fs::rename(&unfinished, &wanted)
            .unwrap_or_else(|error| panic!("renaming to {}: {error}", wanted.display()));
        wanted
    }
}

/// The headers of `programs/`: any program may include any of them.
fn headers() -> Vec<PathBuf> {
    let programs = folder().join("programs");
    let entries =
        std::fs::read_dir(&programs).unwrap_or_else(|error| panic!("reading {}: {error}", programs.display()));
    let mut headers: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "h"))
        .collect();
    headers.sort();
    headers
}

/// The test crate's folder. Cargo's word at run time is right also after the checkout was moved.
pub fn folder() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// The workspace's build folder: where the running test itself was built, or `CARGO_TARGET_DIR`.
pub fn target_folder() -> PathBuf {
    if let Some(folder) = std::env::var_os("CARGO_TARGET_DIR") {
        return PathBuf::from(folder);
    }
    let running = std::env::current_exe().expect("the running test has a path");
    let named = |path: &&Path| path.file_name() == Some(&OsString::from("target"));
    running
        .ancestors()
        .find(named)
        .map_or_else(|| folder().join("../target"), Path::to_path_buf)
}
