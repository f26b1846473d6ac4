//! One probe for many sessions: hands a hit over to the programs of the session whose target it is of.
//!
//! These programs sit on trace events that sessions share; which address spaces have the breakpoints at all is the kernel's
//! filter, a perf event a session. A tail call keeps the context and the attach cookie, so that a session's programs run as on a
//! probe of their own.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::helpers::generated::bpf_get_current_pid_tgid;
use aya_ebpf::macros::{map, uprobe};
use aya_ebpf::maps::{Array, HashMap, ProgramArray};
use aya_ebpf::programs::ProbeContext;
use memscope_ebpf::family::TaskField;
use memscope_ebpf::limits::NOWHERE;

use crate::atomic;
use crate::task::{self, read};

/// Processes of one memory, each born of the one before, that are looked through for the target.
const GENERATIONS: usize = 8;

/// Slots by process id. Sized at load.
#[map]
static SLOTS: HashMap<u32, u32> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

#[map]
static UNROUTED: Array<u64> = Array::with_max_entries(1, 0);

macro_rules! routers {
    ($($array:ident, $router:ident, $whose:literal, $unfound:ident;)*) => {$(
        #[doc = concat!("Each session's `", $whose, "` by slot. Sized at load.")]
        #[map]
        static $array: ProgramArray = ProgramArray::with_max_entries(1, 0);

        #[doc = concat!("In place of `", $whose, "` on a shared trace event.")]
        #[uprobe]
        pub fn $router(ctx: ProbeContext) -> u32 {
            let slot = slot();
            if slot == Some(NOWHERE) {
                return 0;
            }
            if let Some(slot) = slot {
                // SAFETY: nothing of this program has a destructor.
                unsafe { $array.tail_call(&ctx, slot) };
            }
            // A tail call that is made does not return.
            $unfound();
            0
        }
    )*};
}

routers! {
    TO_FREE_ENTER, route_free_enter, "free_enter", count_unrouted;
    TO_CALL_RETURN, route_call_return, "call_return", pass;
    TO_CALL_ENTER, route_call_enter, "call_enter", count_unrouted;
    TO_CALL_EXIT, route_call_exit, "call_exit", count_unrouted;
    TO_EXCEPTION, route_exception, "exception_seen", count_unrouted;
    TO_REGION_OUT, route_region_return, "region_return", pass;
    TO_REGION_IN, route_region_enter, "region_enter", count_unrouted;
}

/// At a return probe: the entry has counted. Before Linux 6.13 the kernel's filter is asked at the entry alone, and whoever is hit there by
/// another's return probe comes this way, too (`handle_uretprobe_chain`, kernel/events/uprobes.c).
#[inline(always)]
fn pass() {}

#[inline(always)]
fn slot() -> Option<u32> {
    // SAFETY: the helper takes nothing.
    let process = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
    slot_of(process).or_else(slot_of_whose_memory_it_is)
}

#[inline(always)]
fn slot_of(process: u32) -> Option<u32> {
    // SAFETY: copied out at once; an element's value is written before it is in the map, and never after.
    unsafe { SLOTS.get(process) }.copied()
}

/// A child by vfork runs in its parent's memory until it execs, and what it allocates is its parent's.
#[inline(always)]
fn slot_of_whose_memory_it_is() -> Option<u32> {
    let mut task = task::current();
    let memory = read::<u64>(task, TaskField::Mm)?;
    for _ in 0..GENERATIONS {
        task = read::<u64>(task, TaskField::RealParent)?;
        if read::<u64>(task, TaskField::Mm)? != memory {
            return None;
        }
        if let Some(slot) = slot_of(read::<u32>(task, TaskField::Tgid)?) {
            return Some(slot);
        }
    }
    None
}

#[inline(always)]
fn count_unrouted() {
    if let Some(count) = UNROUTED.get_ptr_mut(0) {
        // SAFETY: an 8-aligned element of the map.
        unsafe { atomic::add(count, 1) };
    }
}
