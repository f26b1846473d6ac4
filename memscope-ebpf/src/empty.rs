//! Programs that do nothing: what any tracer with these probes would cost at least. The bench attaches them.

use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};

/// In place of an entry program.
#[uprobe]
pub fn empty_enter(_ctx: ProbeContext) -> u32 {
    0
}

/// In place of a return program.
#[uretprobe]
pub fn empty_return(_ctx: RetProbeContext) -> u32 {
    0
}
