//! The file system of the machine under test: memscope, the suites, the programs they trace, and the libraries of all of these,
//! at the paths they have here.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::cpio::Archive;
use super::suites::Suite;
use crate::process;

/// First process of the machine.
const INIT: &str = include_str!("init.sh");
/// Libraries that ldd does not name: glibc loads one to unwind a cancelled thread, and musl's loader is its library.
const UNNAMED: [&str; 2] = ["/lib/x86_64-linux-gnu/libgcc_s.so.1", "/lib/ld-musl-x86_64.so.1"];

/// What goes into the image.
pub struct Content<'a> {
    /// The command under test.
    pub memscope: &'a Path,
    /// Busybox, linked statically.
    pub busybox: &'a Path,
    /// The suites to run.
    pub suites: &'a [Suite],
}

impl Content<'_> {
    /// The file system, as the kernel takes it.
    pub fn archive(&self) -> Result<Vec<u8>> {
        let mut archive = Archive::default();
        // As Debian has it: one folder for each kind, wherever a path leads to it from.
        for (link, folder) in [("/bin", "usr/bin"), ("/lib", "usr/lib"), ("/lib64", "usr/lib64")] {
            archive.folder(&format!("/{folder}"));
            archive.link(link, folder);
        }
        for folder in ["/dev", "/proc", "/sys", "/tmp", "/run", "/var/cache"] {
            archive.folder(folder);
        }
        archive.file("/init", INIT.as_bytes());
        archive.file("/tests", self.script()?.as_bytes());
        self.shell(&mut archive)?;

        let mut libraries: BTreeSet<String> = UNNAMED.map(str::to_owned).into();
        for program in std::iter::once(self.memscope).chain(self.suites.iter().map(|suite| suite.binary.as_path())) {
            libraries.extend(libraries_of(program)?);
            archive.file(text(program)?, &stripped(program)?);
        }
        let programs = process::target_dir().join("test-programs");
        for program in files(&programs)? {
            libraries.extend(libraries_of(&program)?);
            archive.file(text(&program)?, &read(&program)?);
        }
        for source in files(&process::workspace().join("tests/programs"))? {
            archive.file(text(&source)?, &read(&source)?);
        }
        for library in &libraries {
            archive.file(&merged(library), &read(Path::new(library))?);
        }
        Ok(archive.finish())
    }

    /// Busybox under the names of all it can do.
    fn shell(&self, archive: &mut Archive) -> Result<()> {
        archive.file("/usr/bin/busybox", &read(self.busybox)?);
        let output = Command::new(self.busybox)
            .arg("--list")
            .output()
            .context("cannot run busybox")?;
        for name in String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter(|&name| name != "busybox")
        {
            archive.link(&format!("/usr/bin/{name}"), "busybox");
        }
        Ok(())
    }

    /// What the machine runs.
    fn script(&self) -> Result<String> {
        let quoted = |path: &Path| text(path).map(|path| format!("'{}'", path.replace('\'', r"'\''")));
        let mut script = String::new();
        for (name, value) in [
            ("CARGO_MANIFEST_DIR", process::workspace().join("tests").as_path()),
            ("CARGO_TARGET_DIR", &process::target_dir()),
            ("MEMSCOPE_BIN", self.memscope),
        ] {
            script += &format!("export {name}={}\n", quoted(value)?);
        }
        // The first time reads the code from the image; the second is the one to measure.
        script += "$MEMSCOPE_BIN doctor > /dev/null\n$MEMSCOPE_BIN -v doctor\n";
        for suite in self.suites {
            script += &format!("echo '@@ suite {}'\n{}", suite.name, quoted(&suite.binary)?);
            for argument in suite.arguments() {
                script += &format!(" {argument}");
            }
            script += " 2>&1\n";
        }
        Ok(script)
    }
}

/// Debug information is of no use there, and would fill its memory.
fn stripped(program: &Path) -> Result<Vec<u8>> {
    let copy = process::target_dir().join("kernels/stripped");
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&copy).arg(program);
    if !process::works(&mut strip) {
        bail!("`{}` failed; is binutils installed?", process::shown(&strip));
    }
    read(&copy)
}

/// The shared libraries of a program, its loader among them.
fn libraries_of(program: &Path) -> Result<Vec<String>> {
    if read(program)?.get(..4) != Some(b"\x7fELF") {
        return Ok(Vec::new());
    }
    let output = Command::new("ldd").arg(program).output().context("cannot run ldd")?;
    Ok(listed(&String::from_utf8_lossy(&output.stdout)))
}

/// Paths in what ldd says: `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`. It finds
/// none in a static program, nor in one of another C library.
fn listed(said: &str) -> Vec<String> {
    let path = |line: &str| {
        let line = line.split_once(" => ").map_or(line, |(_, path)| path);
        let path = line.split_whitespace().next()?;
        path.starts_with('/').then(|| path.to_owned())
    };
    said.lines()
        .filter(|line| line.contains("(0x"))
        .filter_map(path)
        .collect()
}

/// Where a library lies in an image whose `/lib` is `/usr/lib`.
fn merged(path: &str) -> String {
    if path.starts_with("/lib") {
        format!("/usr{path}")
    } else {
        path.to_owned()
    }
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files(&entry.path())?);
        } else if entry.metadata()?.permissions().mode() & 0o444 != 0 {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not text", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_what_ldd_says() {
        let said = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f01)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f02)\n\tlibgone.so => not found\n";
        assert_eq!(
            listed(said),
            ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]
        );
        assert!(listed("\tnot a dynamic executable\n").is_empty());
        assert_eq!(merged("/lib64/ld-linux-x86-64.so.2"), "/usr/lib64/ld-linux-x86-64.so.2");
        assert_eq!(merged("/usr/lib/libx.so"), "/usr/lib/libx.so");
    }

    #[test]
    fn the_script_runs_the_tests_that_were_selected() {
        let suites = [Suite {
            name: "steps".to_owned(),
            binary: "/x/it's steps-1".into(),
            tests: vec!["a_stop".to_owned()],
        }];
        let content = Content {
            memscope: Path::new("/x/memscope"),
            busybox: Path::new("/x/busybox"),
            suites: &suites,
        };
        let script = content.script().unwrap();
        assert!(script.contains("export MEMSCOPE_BIN='/x/memscope'\n"), "{script}");
        let last = script.lines().last().unwrap();
        assert_eq!(last, r"'/x/it'\''s steps-1' --test-threads=1 --exact a_stop 2>&1");
    }
}
