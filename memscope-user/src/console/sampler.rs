//! Samples the target's CPU use while the console runs: for `H`, and for `c`, which prints it again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::input::Printer;
use crate::os::cpu::{CpuHistory, SAMPLE_EVERY, Samples};
use crate::os::{Key, Looks, Question};
use crate::report::clock::TimeOfDay;
use crate::target::identity::TargetId;

/// Samples from one printed line to the next.
const PRINT_EVERY: u32 = 5;

/// A thread that looks once a second. It ends with the target, and with the console.
pub struct Sampler {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    /// Starts looking at a target. Lines are printed while `printing` says so.
    pub fn start(target: TargetId, history: CpuHistory, printing: Arc<AtomicBool>, printer: Option<Printer>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("cpu-sampler".to_owned())
            .spawn(move || {
                sample(target, &history, &stopped, |ticks| {
                    if ticks.is_multiple_of(PRINT_EVERY) && printing.load(Ordering::Relaxed) {
                        printer.as_ref()
                    } else {
                        None
                    }
                });
            });
        // Without a thread there is no history, and `H` measures for itself.
        Self {
            stop,
            thread: thread.ok(),
        }
    }
}

fn sample<'a>(
    target: TargetId,
    history: &CpuHistory,
    stopped: &AtomicBool,
    printer_at: impl Fn(u32) -> Option<&'a Printer>,
) {
    let Ok(mut samples) = Samples::of(target) else { return };
    let mut looks = Looks::default();
    let mut ticks = 0;
    loop {
        std::thread::park_timeout(SAMPLE_EVERY);
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        // The target has ended, or is another program's by now.
        let Ok(percent) = samples.percent() else { return };
        history.add(percent);
        ticks += 1;
        if let Some(printer) = printer_at(ticks)
            && let Some(line) = line(target, &mut looks)
        {
            printer.print(line);
        }
    }
}

fn line(target: TargetId, looks: &mut Looks) -> Option<String> {
    let question = Question {
        key: Key::CpuMode,
        target,
        tid: None,
    };
    let answer = crate::os::ask(question, looks).ok()?;
    answer.line(TimeOfDay::now())
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Not waited for: it may be in the middle of printing to a prompt that is no longer there.
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
        }
    }
}
