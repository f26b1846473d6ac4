//! Programs compiled for the tests, run, and named: what every test here needs.

mod builds;
mod hostile;
mod names;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{Places, SavedModule, Symbolizer, save_modules};
use crate::report::model::Frame;
use crate::target::address::RuntimeAddress;
use crate::target::identity::Pid;
use crate::target::mapping::parse_maps;

/// Prints the address `outer` is returned to from `leaf` (through `inner`, inlined), and the address of `leaf`.
const PROGRAM: &str = "\
#include <stdio.h>
__attribute__((noinline)) void *leaf(void) { return __builtin_return_address(0); }
static inline __attribute__((always_inline)) void *inner(void) {
    return leaf(); /* line 4 */
}
__attribute__((noinline)) void *outer(void) {
    void *address = inner(); /* line 7 */
    __asm__ volatile(\"\" : \"+r\"(address));
    return address;
}
int main(void) {
    printf(\"%p %p\\n\", outer(), (void *)leaf);
    fflush(stdout);
    return getchar();
}
";

fn compile(folder: &Path, name: &str, source: &str, options: &[&str]) -> PathBuf {
    let (path, compiler, suffix) = if source.contains("namespace") {
        ("c++", "c++", "cpp")
    } else {
        ("cc", "cc", "c")
    };
    let file = folder.join(format!("{name}.{suffix}"));
    fs::write(&file, source).unwrap();
    let output = folder.join(name);
    let status = Command::new(compiler)
        .args(["-O1", "-o"])
        .arg(&output)
        .args(options)
        .arg(&file)
        .status();
    assert!(status.unwrap_or_else(|error| panic!("{path}: {error}")).success());
    output
}

/// A running program and what a session would have saved of it.
struct Target {
    child: Child,
    pid: Pid,
    return_address: RuntimeAddress,
    function: RuntimeAddress,
    modules: Vec<SavedModule>,
}

impl Target {
    fn start(program: &Path) -> Self {
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let mut words = line
            .split_whitespace()
            .map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16).unwrap());
        let pid = Pid(child.id());
        Self {
            return_address: RuntimeAddress(words.next().unwrap()),
            function: RuntimeAddress(words.next().unwrap()),
            modules: save_modules(pid, &parse_maps(&fs::read(format!("/proc/{pid}/maps")).unwrap())),
            pid,
            child,
        }
    }

    fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn names(&self, live: bool, debug_root: &Path) -> Vec<Frame> {
        let places = Places {
            debug_roots: vec![debug_root.to_owned()],
            ..Places::default()
        };
        self.names_from(live, places)
    }

    /// As for a user whom nobody believes.
    fn names_of_a_stranger(&self) -> Vec<Frame> {
        let places = Places {
            debug_roots: Vec::new(),
            believed_users: Vec::new(),
        };
        self.names_from(false, places)
    }

    fn names_from(&self, live: bool, places: Places) -> Vec<Frame> {
        let mut symbolizer = Symbolizer::with_places(self.modules.clone(), live.then_some(self.pid), places);
        let frames = symbolizer.name(self.return_address, true).to_vec();
        let function = symbolizer.name(self.function, false);
        frames.iter().chain(function).map(|frame| Frame::clone(frame)).collect()
    }

    fn module(&self) -> &SavedModule {
        &self.modules[0]
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn functions(frames: &[Frame]) -> Vec<&str> {
    frames
        .iter()
        .map(|frame| frame.function.as_deref().unwrap_or("-"))
        .collect()
}

/// No names, but the place in the right module.
fn assert_only_places(frames: &[Frame], program: &Path) {
    assert_eq!(functions(frames), ["-", "-"]);
    for frame in frames {
        assert_eq!(
            Some(frame.module.as_str()),
            program.file_name().and_then(|name| name.to_str())
        );
        assert_eq!(Some(frame.offset), frame.file_offset.map(|offset| offset.0));
        assert_eq!(frame.source, None);
    }
}
