//! Waits until the kernel has taken the breakpoints of removed probes out of a target's text.

use std::time::{Duration, Instant};

use super::plan::PlannedCall;
use crate::target::address::RuntimeAddress;
use crate::target::identity::Pid;
use crate::target::memory::{ProcessMemory, TargetMemory};

/// The byte the kernel puts at a probe site (`UPROBE_SWBP_INSN`, arch/x86/include/asm/uprobes.h).
const BREAKPOINT: u8 = 0xcc;
/// How long the kernel is given from one site to the next. It takes some tens of milliseconds, on a busy machine with
/// hundreds of sites many seconds in all; a breakpoint that stays is another tracer's.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(1);

/// Returns when no breakpoint is left at these calls' sites, or the target has ended, or none has gone for a while.
pub fn wait(pid: Pid, calls: &[PlannedCall]) {
    let Ok(memory) = ProcessMemory::open(pid) else { return };
    let mut end = Instant::now() + PATIENCE;
    let mut sites: Vec<RuntimeAddress> = calls.iter().flat_map(sites_of).collect();
    while !sites.is_empty() && Instant::now() < end {
        let before = sites.len();
        sites.retain(|site| {
            let mut byte = [0];
            memory.read_into(*site, &mut byte).is_ok() && byte == [BREAKPOINT]
        });
        if sites.len() < before {
            end = Instant::now() + PATIENCE;
        }
        if !sites.is_empty() {
            std::thread::sleep(LOOK);
        }
    }
}

fn sites_of(call: &PlannedCall) -> impl Iterator<Item = RuntimeAddress> {
    let bias = call.entry.0.wrapping_sub(call.site.function.0);
    let exits = call.returns.exits().iter().map(|exit| exit.address);
    std::iter::once(call.site.address())
        .chain(exits)
        .map(move |address| RuntimeAddress(address.0.wrapping_add(bias)))
}
