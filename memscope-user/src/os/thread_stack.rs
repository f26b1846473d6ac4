//! Key `t`: a thread's call stack now.

use std::io::{self, Write};
use std::time::Duration;

use memscope_ebpf::site::StackEnd;
use serde::Serialize;

use super::call_stack::{self, CodeMap, Registers, WalkEnd, Walked, stop};
use super::error::OsError;
use super::process_files::{Permitted, ProcessFiles};
use super::quantity::Span;
use super::threads::{Wait, WaitReading, state_text, wait_of};
use crate::report::Escaped;
use crate::report::model::Frame;
use crate::report::text::FrameLine;
use crate::symbol::{Symbolizer, save_modules};
use crate::target::address::RuntimeAddress;
use crate::target::mapping::Mapping;
use crate::target::memory::ProcessMemory;

/// What the line at the end says.
pub const MEANS: &str =
    "innermost first; a thread that sleeps is not stopped for this, one that runs is for as long as it says";

/// What gdb calls the frame that a handler returns to; libraries seldom have a symbol for it.
const SIGNAL_TRAMPOLINE: &str = "<signal handler called>";

/// How often a thread that wakes up while it is looked at is looked at again, before it is stopped.
const ATTEMPTS: usize = 5;

/// The answer.
#[derive(Debug, Serialize)]
pub struct ThreadStack {
    /// Which thread.
    pub tid: u32,
    /// Its name, lossy.
    pub name: String,
    /// One letter, as in proc_pid_stat(5), before the look.
    pub state: char,
    /// Where it waits.
    pub waits: Option<Wait>,
    /// Microseconds for which it was stopped; `None`: it was not.
    pub stopped_us: Option<u64>,
    /// Innermost first.
    pub frames: Vec<ShownFrame>,
    /// Followed to the thread's start.
    pub complete: bool,
    /// Why it ends.
    pub end: &'static str,
    /// What could not be read, and what is doubtful.
    pub notes: Vec<String>,
}

/// One frame, with the fields that `print --format json` gives it.
#[derive(Debug, Serialize)]
pub struct ShownFrame {
    address: String,
    function: Option<String>,
    offset: u64,
    module: String,
    build_id: Option<String>,
    file_offset: Option<u64>,
    file: Option<String>,
    line: Option<u32>,
    inlined: bool,
    #[serde(skip)]
    text: String,
}

impl From<&Frame> for ShownFrame {
    fn from(frame: &Frame) -> Self {
        let source = frame.source.as_ref();
        Self {
            address: format!("{:#x}", frame.address),
            function: frame.function.clone(),
            offset: frame.offset,
            module: frame.module.clone(),
            build_id: frame.build_id.as_ref().map(ToString::to_string),
            file_offset: frame.file_offset.map(|offset| offset.0),
            file: source.map(|source| source.file.clone()),
            line: source.and_then(|source| source.line),
            inlined: frame.inlined,
            text: FrameLine(frame).to_string(),
        }
    }
}

/// Gathers it.
pub(super) fn gather(files: &ProcessFiles, tid: Option<u32>) -> Result<ThreadStack, OsError> {
    let tid = tid.unwrap_or(files.pid().0);
    let gone = || files.without_thread(tid);
    let status = files.thread_status(tid)?.ok_or_else(gone)?;
    let state = status.state.chars().next().unwrap_or('?');
    if matches!(state, 'Z' | 'X') {
        return Err(gone());
    }
    let waits = match wait_of(files, tid, state)? {
        WaitReading::Known(wait) => Some(wait),
        WaitReading::Runs | WaitReading::Refused => None,
    };
    let mappings = files.mappings()?;
    let code = CodeMap::new(files.memory_pid(), &mappings);
    let memory =
        ProcessMemory::open(files.memory_pid()).map_err(|source| OsError::access("the memory", files.pid(), source))?;
    let looked = match asleep(files, tid, &code, &memory)? {
        Some(walked) => Looked {
            walked,
            stopped_for: None,
        },
        None => stopped(files, tid, &code, &mappings, &memory)?,
    };
    let mut notes = Vec::new();
    if looked.walked.by_frame_pointer > 0 {
        notes.push(format!(
            "{} frames were found by frame pointer, for want of call frame information: callers between them may be missing",
            looked.walked.by_frame_pointer
        ));
    }
    let mut symbolizer = Symbolizer::new(save_modules(files.memory_pid(), &mappings), Some(files.memory_pid()));
    let frames = looked.walked.frames.iter().flat_map(|frame| {
        let named = symbolizer.name(RuntimeAddress(frame.address), frame.is_return_address);
        let shown = named
            .iter()
            .map(|named| match (&named.function, frame.is_signal_trampoline) {
                (None, true) => ShownFrame::from(&Frame {
                    function: Some(SIGNAL_TRAMPOLINE.to_owned()),
                    ..named.as_ref().clone()
                }),
                _ => ShownFrame::from(named.as_ref()),
            });
        shown.collect::<Vec<_>>()
    });
    Ok(ThreadStack {
        tid,
        name: status.name,
        state,
        waits,
        stopped_us: looked
            .stopped_for
            .map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX)),
        frames: frames.collect(),
        complete: looked.walked.end == WalkEnd::Stack(StackEnd::Outermost),
        end: looked.walked.end.text(),
        notes,
    })
}

struct Looked {
    walked: Walked,
    stopped_for: Option<Duration>,
}

/// What tells one sleep of a thread from the next.
#[derive(PartialEq, Eq)]
struct Sleep {
    /// Stack pointer, program counter.
    registers: (u64, u64),
    /// Times it has gone off its CPU.
    switches: (Option<u64>, Option<u64>),
}

/// The stack of a thread that sleeps; `None` when it runs, or wakes up again and again.
fn asleep(files: &ProcessFiles, tid: u32, code: &CodeMap, memory: &ProcessMemory) -> Result<Option<Walked>, OsError> {
    for _ in 0..ATTEMPTS {
        let Some(before) = sleep_of(files, tid)? else { continue };
        let (rsp, rip) = before.registers;
        let mut walked = call_stack::walk(Registers::new(rip, rsp), code, memory);
        if walked.end == WalkEnd::RbpUnknown
            && let Ok(registers) = call_stack::kernel_registers::of_thread(tid)
            && (registers.rsp, registers.rip) == before.registers
        {
            walked = call_stack::walk(registers, code, memory);
        }
        if sleep_of(files, tid)?.as_ref() == Some(&before) {
            return Ok(Some(walked));
        }
    }
    Ok(None)
}

/// `None`: it runs.
fn sleep_of(files: &ProcessFiles, tid: u32) -> Result<Option<Sleep>, OsError> {
    let gone = || files.without_thread(tid);
    let text = files.thread_text(tid, "syscall")?.ok_or_else(gone)?;
    let Some(registers) = parse_registers(&text) else {
        return Ok(None);
    };
    let status = files.thread_status(tid)?.ok_or_else(gone)?;
    Ok(Some(Sleep {
        registers,
        switches: (status.voluntary_ctxt_switches, status.nonvoluntary_ctxt_switches),
    }))
}

/// The last two words of `syscall`: stack pointer and program counter. `None` for `running`.
pub(super) fn parse_registers(text: &str) -> Option<(u64, u64)> {
    let mut words = text.split_whitespace().rev();
    let hex = |word: &str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    let (rip, rsp) = (hex(words.next()?)?, hex(words.next()?)?);
    // Once the memory is gone, in its last moments, a thread's registers are told as zero.
    (rip != 0 && rsp != 0).then_some((rsp, rip))
}

fn stopped(
    files: &ProcessFiles,
    tid: u32,
    code: &CodeMap,
    mappings: &[Mapping],
    memory: &ProcessMemory,
) -> Result<Looked, OsError> {
    let pid = files.pid();
    let gone = || files.without_thread(tid);
    let status = files.thread_status(tid)?.ok_or_else(gone)?;
    if status.tracerpid != 0 {
        return Err(OsError::Refused(format!(
            "thread {tid} runs, and process {} traces it already: its stack can be seen when that has let go of it",
            status.tracerpid
        )));
    }
    let stack_end = |address: u64| Some(mapping_of(mappings, address)?.end.0);
    let copied = stop::copy(memory, tid, &stack_end).map_err(|error| match error {
        stop::StopError::Gone => gone(),
        stop::StopError::TimedOut => OsError::Refused(format!(
            "thread {tid} neither slept nor stopped within a second; it was let go: ask again"
        )),
        // Of a thread that has just ended the kernel refuses, too (`ptrace_attach`, kernel/ptrace.c).
        stop::StopError::Refused(source) => match files.thread_has_ended(tid) {
            Ok(false) => OsError::access(&format!("the registers of thread {tid}"), pid, source),
            Ok(true) => gone(),
            Err(error) => error,
        },
    })?;
    Ok(Looked {
        walked: call_stack::walk(copied.registers, code, &copied.stack),
        stopped_for: Some(copied.stopped_for),
    })
}

/// The mapping that holds an address.
pub(super) fn mapping_of(mappings: &[Mapping], address: u64) -> Option<&Mapping> {
    let next = mappings.partition_point(|mapping| mapping.start.0 <= address);
    mappings
        .get(next.checked_sub(1)?)
        .filter(|mapping| address < mapping.end.0)
}

/// Whether this user may look at a thread's registers at all.
pub(super) fn stack_pointer(files: &ProcessFiles, tid: u32) -> Result<StackPointer, OsError> {
    Ok(match files.thread_text_if_permitted(tid, "syscall")? {
        Permitted::Read(text) => parse_registers(&text).map_or(StackPointer::Runs, |(rsp, _)| StackPointer::Known(rsp)),
        Permitted::Gone => StackPointer::Gone,
        Permitted::Refused => StackPointer::Refused,
    })
}

/// A thread's stack pointer.
pub(super) enum StackPointer {
    /// It sleeps with this.
    Known(u64),
    /// It runs.
    Runs,
    /// It has ended.
    Gone,
    /// This user may not know.
    Refused,
}

impl ThreadStack {
    /// Shows it.
    pub(super) fn write_rows(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(
            out,
            "  task {} ({}), {}",
            self.tid,
            Escaped(&self.name),
            state_text(self.state)
        )?;
        if let Some(wait) = &self.waits {
            write!(out, " in {}", wait.text())?;
        }
        match self.stopped_us {
            Some(us) => writeln!(out, "; stopped for {}", Span(Duration::from_micros(us)))?,
            None => writeln!(out, "; not stopped")?,
        }
        for frame in &self.frames {
            writeln!(out, "{}", frame.text)?;
        }
        if self.complete {
            return Ok(());
        }
        writeln!(out, "… stack ends here: {}", self.end)
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::target::identity::Pid;
    use crate::target::process::Target;

    #[test]
    fn the_registers_are_the_last_two_words() {
        let sleeping = "202 0x1 0x80 0x0 0x0 0x0 0x0 0x7ffd00001000 0x7f0000002000\n";
        assert_eq!(parse_registers(sleeping), Some((0x7ffd_0000_1000, 0x7f00_0000_2000)));
        assert_eq!(
            parse_registers("-1 0x7ffd00001000 0x55\n"),
            Some((0x7ffd_0000_1000, 0x55))
        );
        for none in ["running\n", "", "-1 0x0 0x0\n", "0 x y"] {
            assert_eq!(parse_registers(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_thread_that_ends_before_it_is_stopped_has_ended() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("cat");
        let files = ProcessFiles::open(Target::of_pid(Pid(child.id())).expect("cat runs").id).expect("its files");
        let memory = ProcessMemory::open(files.pid()).expect("its memory");
        drop(child.stdin.take());
        // Not waited for: a thread that is not reaped yet.
        while files
            .thread_stat(child.id())
            .expect("its state")
            .is_some_and(|stat| stat.state != 'Z')
        {
            std::thread::yield_now();
        }
        let code = CodeMap::new(files.pid(), &[]);
        let outcome = stopped(&files, child.id(), &code, &[], &memory).map(drop);
        assert!(matches!(outcome, Err(OsError::Ended(_))), "{outcome:?}");
        child.wait().expect("cat ends");
    }

    #[test]
    fn a_stack_is_shown_as_reports_show_it() {
        let frame = |text: &str| ShownFrame {
            text: text.to_owned(),
            ..ShownFrame::from(&Frame {
                address: RuntimeAddress(0x1234),
                function: None,
                offset: 1,
                module: String::new(),
                build_id: None,
                file_offset: None,
                source: None,
                inlined: false,
            })
        };
        let mut stack = ThreadStack {
            tid: 12,
            name: "worker".to_owned(),
            state: 'S',
            waits: Some(Wait {
                syscall: Some("futex".to_owned()),
                kernel_function: None,
            }),
            stopped_us: None,
            frames: vec![frame("0x0000000000001234: wait + 0x1")],
            complete: false,
            end: "unreadable stack",
            notes: Vec::new(),
        };
        let text = |stack: &ThreadStack| {
            let mut text = Vec::new();
            stack.write_rows(&mut text).unwrap();
            String::from_utf8(text).unwrap()
        };
        assert_eq!(
            text(&stack),
            "  task 12 (worker), sleeping in futex; not stopped
0x0000000000001234: wait + 0x1
… stack ends here: unreadable stack
"
        );
        stack.complete = true;
        stack.state = 'R';
        stack.waits = None;
        stack.stopped_us = Some(87);
        assert_eq!(
            text(&stack),
            "  task 12 (worker), running; stopped for 87 µs\n0x0000000000001234: wait + 0x1\n"
        );
    }
}
