//! A machine to run a kernel on: QEMU, listened to through its serial console, ended when it says nothing any more.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

use super::results::{END, MARK};
use crate::process;

/// Longest that the machine may say nothing: one test's time on an emulated processor, and some.
const SILENCE: Duration = Duration::from_secs(300);
const MEMORY_MIB: u32 = 3072;

/// What runs a kernel here.
pub struct Emulator {
    folder: PathBuf,
    accelerated: bool,
}

impl Emulator {
    /// The one unpacked in this folder.
    pub fn of(folder: PathBuf) -> Self {
        let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let kvm = File::options().read(true).write(true).open("/dev/kvm").is_ok();
        Self {
            folder,
            accelerated: kvm && has_virtualisation(&processor),
        }
    }

    /// Boots the kernel with this file system, keeps all it says in `log`, and gives it back.
    pub fn run(&self, kernel: &Path, image: &Path, log: &Path) -> Result<String> {
        let mut command = self.command(kernel, image);
        eprintln!("$ {}", process::shown(&command));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run QEMU")?;
        let listened = listen(&mut child, log);
        // It has powered off, or is not going to.
        let _ = child.kill();
        child.wait().context("cannot wait for QEMU")?;
        listened
    }

    fn command(&self, kernel: &Path, image: &Path) -> Command {
        let library = |place: &str| self.folder.join(place).join("x86_64-linux-gnu");
        let libraries = [library("usr/lib"), library("lib")].map(|path| path.display().to_string());
        let share = self.folder.join("usr/share");
        let mut command = Command::new(self.folder.join("usr/bin/qemu-system-x86_64"));
        command.env("LD_LIBRARY_PATH", libraries.join(":"));
        for firmware in ["qemu", "seabios"] {
            command.arg("-L").arg(share.join(firmware));
        }
        let (accelerator, processor) = if self.accelerated {
            ("kvm", "host")
        } else {
            ("tcg,thread=multi", "max")
        };
        command
            .args(["-accel", accelerator, "-cpu", processor, "-smp", "2"])
            .args(["-m", &MEMORY_MIB.to_string()])
            .args(["-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio"])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(image)
            // A busy host keeps an emulated processor waiting: no watchdog shall take that for a lock-up.
            .args(["-append", "console=ttyS0 panic=-1 loglevel=1 nowatchdog"]);
        command
    }
}

/// Whether the processor runs other kernels by itself. A machine without may offer /dev/kvm all the same, for guests that
/// know they are one; the kernels here do not.
fn has_virtualisation(processor: &str) -> bool {
    let flags = processor.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|line| line.split_whitespace().any(|flag| flag == "vmx" || flag == "svm"))
}

fn listen(child: &mut Child, log: &Path) -> Result<String> {
    let output = child.stdout.take().context("QEMU has no output")?;
    let mut log = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender
                .send(String::from_utf8_lossy(&line).trim_end().to_owned())
                .is_err()
            {
                return;
            }
        }
    });
    let mut said = String::new();
    while let Ok(line) = lines.recv_timeout(SILENCE) {
        writeln!(log, "{line}")?;
        if line.contains(MARK) || line.starts_with("test ") {
            eprintln!("  {line}");
        }
        let ended = line.ends_with(END);
        said += &line;
        said.push('\n');
        if ended {
            break;
        }
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_that_virtualises_says_so_in_its_flags() {
        assert!(has_virtualisation("model name : x\nflags\t\t: fpu vmx sse\n"));
        assert!(has_virtualisation("flags\t\t: fpu svm\n"));
        assert!(!has_virtualisation("model name : svm\nflags\t\t: fpu vmxoff\n"));
        assert!(!has_virtualisation(""));
    }

    #[test]
    fn a_machine_is_listened_to_until_its_end_or_until_it_is_gone() {
        let log = std::env::temp_dir().join(format!("memscope-console-{}", std::process::id()));
        for (script, expected) in [
            ("echo '@@ kernel 6'; echo '@@ end'; sleep 60", "@@ kernel 6\n@@ end\n"),
            ("echo panic", "panic\n"),
        ] {
            let mut child = Command::new("sh")
                .args(["-c", script])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            assert_eq!(listen(&mut child, &log).unwrap(), expected);
            assert_eq!(fs::read_to_string(&log).unwrap(), expected);
            child.kill().unwrap();
            child.wait().unwrap();
        }
        fs::remove_file(&log).unwrap();
    }
}
