//! Waits until the kernel has taken the breakpoints of removed probes out of a target's text.

use std::time::{Duration, Instant};

use super::plan::PlannedCall;
use crate::target::address::RuntimeAddress;
use crate::target::identity::Pid;
use crate::target::memory::{ProcessMemory, TargetMemory};
use crate::target::process::Target;

/// The byte the kernel puts at a probe site (`UPROBE_SWBP_INSN`, arch/x86/include/asm/uprobes.h).
pub(crate) const BREAKPOINT: u8 = 0xcc;
/// How long the kernel is given for the next one. It takes all probes of the machine out one after the other, whoever they
/// belonged to, and each waits for several RCU grace periods: a tenth of a second on an idle machine, half a second on
/// an overloaded one, and more where other tracers' probes come first. A breakpoint that stays is another tracer's.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(1);

/// What is known of a target's text after its probes were removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Text {
    /// No site holds a breakpoint, or the target has ended.
    Restored,
    /// So many sites hold one: another tracer's, or one that the kernel has been slow to take out.
    BreakpointsLeft(usize),
    /// The memory of the living target cannot be read.
    Unread,
}

impl Text {
    /// What a person is told; silence would mean that the target's text is what it was.
    #[must_use]
    pub fn told(self, pid: Pid) -> Option<String> {
        match self {
            Self::Restored => None,
            Self::BreakpointsLeft(sites) => Some(format!(
                "note: breakpoints are left at {sites} probe sites of process {pid}: another tracer's, or the kernel is still \
                 taking them out"
            )),
            Self::Unread => Some(format!(
                "note: the memory of process {pid} cannot be read: whether the kernel has taken all breakpoints out by now is \
                 not known"
            )),
        }
    }
}

/// Returns when no breakpoint is left at these calls' sites, or the target has ended, or none of them has gone for longer
/// than the patience lasts.
pub fn wait(target: Target, calls: &[PlannedCall]) -> Text {
    if !target.is_alive() {
        return Text::Restored;
    }
    match ProcessMemory::open(target.memory_pid()) {
        Ok(memory) => match wait_for(&memory, calls.iter().flat_map(sites_of).collect(), PATIENCE) {
            0 => Text::Restored,
            left => Text::BreakpointsLeft(left),
        },
        Err(_) if target.is_alive() => Text::Unread,
        Err(_) => Text::Restored,
    }
}

fn wait_for(memory: &dyn TargetMemory, mut sites: Vec<RuntimeAddress>, patience: Duration) -> usize {
    let mut end = Instant::now() + patience;
    loop {
        let before = sites.len();
        sites.retain(|site| {
            let mut byte = [0];
            memory.read_into(*site, &mut byte).is_ok() && byte == [BREAKPOINT]
        });
        if sites.len() < before {
            end = Instant::now() + patience;
        }
        if sites.is_empty() || Instant::now() >= end {
            return sites.len();
        }
        std::thread::sleep(LOOK);
    }
}

fn sites_of(call: &PlannedCall) -> impl Iterator<Item = RuntimeAddress> {
    let bias = call.entry.0.wrapping_sub(call.site.function.0);
    let exits = call.returns.exits().iter().map(|exit| exit.address);
    std::iter::once(call.site.address())
        .chain(exits)
        .map(move |address| RuntimeAddress(address.0.wrapping_add(bias)))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// A site at each of 0..10; the kernel takes one out every 30 ms, as far as `last`.
    struct Slow {
        begun: Instant,
        last: u64,
    }

    impl TargetMemory for Slow {
        fn read_into(&self, address: RuntimeAddress, buffer: &mut [u8]) -> io::Result<()> {
            let gone = (self.begun.elapsed().as_millis() as u64 / 30).min(self.last);
            buffer.fill(if address.0 < gone { 0x55 } else { BREAKPOINT });
            Ok(())
        }
    }

    fn left(last: u64) -> usize {
        let begun = Instant::now();
        let sites = (0..10).map(RuntimeAddress).collect();
        wait_for(&Slow { begun, last }, sites, Duration::from_millis(200))
    }

    #[test]
    fn a_kernel_that_gets_on_is_waited_for_and_one_that_does_not_is_not() {
        assert_eq!(left(10), 0);
        assert_eq!(left(4), 6);
    }
}
