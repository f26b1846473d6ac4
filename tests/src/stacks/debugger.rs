//! What gdb shows of a thread that stands still: return addresses, for a few stacks beside the thousands of libgcc's.

use std::process::{Command, Stdio};

use crate::memscope::complete;
use crate::workload::Folder;

/// Prints each frame of the main thread. Left out are tail-call frames: they are not on the stack, gdb infers them.
const SCRIPT: &str = "\
frame = gdb.newest_frame()
while frame:
    if frame.type() != gdb.TAILCALL_FRAME and frame.type() != gdb.INLINE_FRAME:
        print('frame', hex(frame.pc()), frame.name() or '??')
    frame = frame.older()
";

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebuggerFrame {
    /// Where it goes on.
    pub address: u64,
    /// Its function.
    pub name: String,
}

/// The stack of process `pid`'s main thread, innermost first.
pub fn stack(pid: u32) -> Vec<DebuggerFrame> {
    let folder = Folder::new();
    let script = folder.path().join("stack.py");
    std::fs::write(&script, SCRIPT).expect("a script for gdb");
    let mut command = Command::new("gdb");
    command
        .args(["--batch", "--nx", "-iex", "set debuginfod enabled off"])
        .args([
            "-ex",
            "set backtrace past-main on",
            "-ex",
            "set backtrace past-entry on",
        ])
        .args(["--pid", &pid.to_string(), "-x"])
        .arg(&script)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = complete(command);
    let frames: Vec<DebuggerFrame> = output
        .stdout
        .lines()
        .filter_map(|line| {
            let (address, name) = line.strip_prefix("frame 0x")?.split_once(' ')?;
            let address = u64::from_str_radix(address, 16).ok()?;
            let name = name.to_owned();
            Some(DebuggerFrame { address, name })
        })
        .collect();
    assert!(!frames.is_empty(), "gdb shows nothing\n{output}");
    frames
}
