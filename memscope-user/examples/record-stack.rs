//! Records a stack of a process that stands still, for the tests of the walk: `record-stack PID FUNCTION ABOUT > FILE`.
//!
//! gdb gives the registers as they are when the call that FUNCTION waits in returns, and the frames from there on; what
//! the walk finds must be equal, or, where it ends early, equal so far.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use memscope::target::mapping::parse_maps;
use memscope::unwind::recorded::RecordedStack;
use memscope::unwind::replay::ReplayTables;
use memscope::unwind::{CodeMapping, CodeSource, Layout, table_for_elf};
use memscope_ebpf::unwind::walk::Registers;

const SCRIPT: &str = "\
frame = gdb.newest_frame()
while frame and frame.name() != 'FUNCTION':
    frame = frame.older()
print('registers', *(hex(int(frame.read_register(r)) & 2**64-1) for r in ('rip', 'rsp', 'rbp')))
while frame:
    if frame.type() != gdb.TAILCALL_FRAME and frame.type() != gdb.INLINE_FRAME:
        print('frame', hex(frame.pc()))
    frame = frame.older()
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [pid, function, about] = &arguments[..] else {
        eprintln!("usage: record-stack PID FUNCTION ABOUT");
        return ExitCode::from(2);
    };
    let (registers, frames) = by_gdb(pid, function);
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).expect("the target's memory");
    let read = |address: u64| {
        let mut word = [0; 8];
        memory.read_exact_at(&mut word, address).ok()?;
        Some(u64::from_ne_bytes(word))
    };
    let recorded = RecordedStack::record(about, registers, &tables(pid), read);
    let found = &recorded.answer.frames;
    if frames != *found && !frames.starts_with(found) && !found.starts_with(&frames) {
        eprintln!("gdb {frames:x?}\nand {:x?}", recorded.answer);
        return ExitCode::FAILURE;
    }
    eprintln!(
        "{} frames, gdb's {}: {}",
        found.len(),
        frames.len(),
        recorded.answer.end.text()
    );
    print!("{recorded}");
    ExitCode::SUCCESS
}

fn tables(pid: &str) -> ReplayTables {
    let maps = parse_maps(&std::fs::read(format!("/proc/{pid}/maps")).expect("the target's mappings"));
    let code = maps
        .iter()
        .filter(|mapping| mapping.executable && mapping.file().is_some());
    let code: Vec<CodeMapping> = code
        .map(|mapping| CodeMapping {
            start: mapping.start,
            end: mapping.end,
            offset: mapping.offset,
            source: CodeSource::Image(mapping.path.to_string_lossy().into_owned()),
        })
        .collect();
    let refresh = Layout::new(1 << 20, 1 << 22).refresh(&code, &BTreeSet::new(), |path| {
        let bytes = std::fs::read(PathBuf::from(path)).ok()?;
        table_for_elf(&bytes).ok().map(Arc::new)
    });
    ReplayTables::new(refresh)
}

fn by_gdb(pid: &str, function: &str) -> (Registers, Vec<u64>) {
    let script = std::env::temp_dir().join(format!("record-stack-{}.py", std::process::id()));
    std::fs::write(&script, SCRIPT.replace("FUNCTION", function)).expect("a script for gdb");
    let output = Command::new("gdb")
        .args(["--batch", "--nx", "-iex", "set debuginfod enabled off"])
        .args([
            "-ex",
            "set backtrace past-main on",
            "-ex",
            "set backtrace past-entry on",
        ])
        .args(["-p", pid, "-x"])
        .arg(&script)
        .output()
        .expect("gdb runs");
    std::fs::remove_file(&script).expect("the script goes");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers = |line: &str| -> Vec<u64> {
        let hex = line.split(' ').filter_map(|word| word.strip_prefix("0x"));
        hex.map(|digits| u64::from_str_radix(digits, 16).expect("hex"))
            .collect()
    };
    let registers = text.lines().find(|line| line.starts_with("registers"));
    let registers = registers.unwrap_or_else(|| {
        panic!(
            "gdb finds no {function}\n{text}{}",
            String::from_utf8_lossy(&output.stderr)
        )
    });
    let [ip, sp, bp] = numbers(registers)[..] else {
        panic!("{registers}")
    };
    let frames = text.lines().filter(|line| line.starts_with("frame "));
    (Registers { ip, sp, bp }, frames.flat_map(numbers).collect())
}
