//! The maps of a session. Capacities are defaults; the user side sizes them at load.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray};
use memscope_ebpf::counter::Counter;
use memscope_ebpf::inflight::InFlight;
use memscope_ebpf::limits;
use memscope_ebpf::live::LiveBlock;
use memscope_ebpf::region::{Region, RegionWork};
use memscope_ebpf::site::SiteRecord;
use memscope_ebpf::state::{self, Control, State};

#[map]
pub static LIVE: HashMap<u64, LiveBlock> = HashMap::with_max_entries(limits::LIVE_CAPACITY, BPF_F_NO_PREALLOC);

/// Sized at load, when regions are asked for.
#[map]
pub static REGIONS: HashMap<u64, Region> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);

#[map]
pub static REGION_WORK: Array<RegionWork> = Array::with_max_entries(1, 0);

#[map]
pub static INFLIGHT: HashMap<u32, InFlight> = HashMap::with_max_entries(limits::INFLIGHT_CAPACITY, BPF_F_NO_PREALLOC);

#[map]
pub static SITES: HashMap<u64, u32> = HashMap::with_max_entries(limits::SITE_CAPACITY, BPF_F_NO_PREALLOC);

#[map]
pub static SITE_RECORDS: Array<SiteRecord> = Array::with_max_entries(limits::SITE_CAPACITY, 0);

#[map]
pub static FRAMES: Array<u64> = Array::with_max_entries(limits::FRAME_CAPACITY, 0);

/// One element for all counters: one lookup an event, however many it counts.
#[map]
pub static COUNTERS: PerCpuArray<[u64; Counter::ALL.len()]> = PerCpuArray::with_max_entries(1, 0);

#[map]
pub static CONTROL: Array<Control> = Array::with_max_entries(1, 0);

#[map]
pub static STATE: Array<State> = Array::with_max_entries(1, 0);

/// An all-zero element to start a thread's in-flight record from: it would not fit the 512-byte BPF stack beside the rest.
#[map]
pub static ZERO_INFLIGHT: Array<InFlight> = Array::with_max_entries(1, 0);

/// A session that is collecting: its elements of CONTROL and STATE.
#[derive(Clone, Copy)]
pub struct Session {
    pub control: *mut Control,
    pub state: *mut State,
}

/// The session, or `None` when the programs are to do nothing.
#[inline(always)]
pub fn collecting() -> Option<Session> {
    let control = CONTROL.get_ptr_mut(0)?;
    // SAFETY: an array element; a plain u32 that the user side and the exec program write.
    if unsafe { (&raw const (*control).collecting).read_volatile() } == 0 {
        return None;
    }
    let state = STATE.get_ptr_mut(0)?;
    Some(Session { control, state })
}

impl Session {
    /// Mean distance of two samples, bytes; 0: every block is recorded.
    #[inline(always)]
    pub fn sample_bytes(self) -> u64 {
        // SAFETY: array elements. STATE is looked at only where the budget may bring sampling on: other CPUs write beside it.
        unsafe {
            let asked_for = (&raw const (*self.control).sample_bytes).read_volatile();
            let over_budget = (*self.control).over_budget;
            if over_budget != state::OverBudget::Sample as u32 {
                return asked_for;
            }
            let at_ns = (&raw const (*self.state).over_budget_at_ns).read_volatile();
            state::sample_bytes(asked_for, over_budget, at_ns)
        }
    }
}
