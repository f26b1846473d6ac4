//! What the programs read of the kernel's own structures: tasks, and who the running process is.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use aya_ebpf::helpers::generated::bpf_get_current_task;
use memscope_ebpf::family::{TASK_FIELDS, TaskField, born_tick};

/// Places by [`TaskField`], set at load; all zero where they are not known.
#[unsafe(no_mangle)]
static TASK_LAYOUT: [u32; TASK_FIELDS] = [0; TASK_FIELDS];

/// A field of a structure of the kernel's.
#[inline(always)]
pub fn read<T>(structure: u64, field: TaskField) -> Option<T> {
    // SAFETY: a static of ours; volatile, since the loader has put another value there.
    let place = unsafe { (&raw const TASK_LAYOUT[field as usize]).read_volatile() };
    // SAFETY: the helper checks the address and fills a value of this size.
    unsafe { bpf_probe_read_kernel((structure + u64::from(place)) as *const T) }.ok()
}

/// The running task.
#[inline(always)]
pub fn current() -> u64 {
    // SAFETY: the helper takes nothing.
    unsafe { bpf_get_current_task() }
}

/// Birth of the running process, in ticks as procfs counts them.
#[inline(always)]
pub fn current_born_tick() -> Option<u64> {
    let leader = read::<u64>(current(), TaskField::GroupLeader)?;
    Some(born_tick(read::<u64>(leader, TaskField::StartBoottime)?))
}
