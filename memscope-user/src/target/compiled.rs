//! For tests: small programs and libraries compiled in a temporary folder, looked at on disk or while they run.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::elf::{ElfImage, FileBytes};
use super::identity::Pid;
use super::loaded::{LoadedImage, load_images};
use super::mapping::{Mapping, parse_maps};
use super::memory::ProcessMemory;
use crate::target::address::{FileOffset, RuntimeAddress};

/// A temporary folder, removed at the end of the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// A folder of its own for the test of this name.
    pub(crate) fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("memscope-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("temporary folder");
        Self(path)
    }

    /// A path in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Compiles C to a program or library of this name.
    pub(crate) fn compile(&self, output: &str, source: &str, options: &[&str]) -> PathBuf {
        let file = self.path(&format!("{output}.c"));
        std::fs::write(&file, source).expect("source");
        let path = self.path(output);
        let mut gcc = Command::new("gcc");
        gcc.args(["-fno-builtin", "-O1", "-w", "-Wl,--build-id", "-o"])
            .arg(&path)
            .arg(&file)
            .args(options);
        run(&mut gcc);
        path
    }

    /// Runs a tool with these arguments in the folder.
    pub(crate) fn tool(&self, name: &str, arguments: &[&str]) {
        run(Command::new(name).args(arguments).current_dir(&self.0));
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that stays behind harms nothing.
        let _left = std::fs::remove_dir_all(&self.0);
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("a tool of the C compiler's set");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The image of a file.
pub(crate) fn image(path: &Path) -> ElfImage {
    let file = std::fs::File::open(path).expect("the file");
    ElfImage::parse(FileBytes::new(file).expect("its length")).expect("an ELF image")
}

/// The image of a file as if it were loaded at 0x10000 above the addresses it states.
pub(crate) fn loaded(path: &Path) -> LoadedImage {
    let image = image(path);
    let segments = image.segments().as_slice();
    let text = segments.iter().find(|segment| segment.executable).expect("code");
    let first = text.offset.0 % 4096;
    let mapping = Mapping {
        start: RuntimeAddress(text.address.0 - first + 0x10000),
        end: RuntimeAddress((text.address.0 + text.file_size).next_multiple_of(4096) + 0x10000),
        executable: true,
        writable: false,
        offset: FileOffset(text.offset.0 - first),
        device: (1, 1),
        inode: 1,
        path: path.into(),
        deleted: false,
    };
    LoadedImage::new(mapping, Ok(image))
}

/// A program that has said `ready` and waits for its standard input to end.
pub(crate) struct Running(Child);

impl Running {
    /// Starts it; it must print a line and then read until the end of its input.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output");
        BufReader::new(output).read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n");
        Self(child)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Its images and its memory.
    pub(crate) fn look(&self) -> (Vec<LoadedImage>, ProcessMemory) {
        let pid = Pid(self.0.id());
        let maps = std::fs::read(format!("/proc/{pid}/maps")).expect("its mappings");
        let memory = ProcessMemory::open(pid).expect("its memory");
        (load_images(pid, &parse_maps(&maps)), memory)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}
