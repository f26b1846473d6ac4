//! What may be copied to and from a map as bytes.

use std::mem::MaybeUninit;

use memscope_ebpf::family::Member;
use memscope_ebpf::inflight::InFlight;
use memscope_ebpf::live::LiveBlock;
use memscope_ebpf::region::{Region, RegionWork};
use memscope_ebpf::site::SiteRecord;
use memscope_ebpf::state::{Control, State};
use memscope_ebpf::unwind::mapping::{Generation, MappingTable};
use memscope_ebpf::unwind::row::{Page, Row};

/// Types that may be copied to and from a map as bytes.
///
/// # Safety
/// `repr(C)` or primitive, no padding the kernel would leak into, every bit pattern valid.
pub unsafe trait Plain: Copy + 'static {}

/// A value of zero bytes.
pub(super) fn zeroed<T: Plain>() -> T {
    // SAFETY: every bit pattern of a Plain type is a value.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

// SAFETY: integers.
unsafe impl Plain for u32 {}
// SAFETY: integers.
unsafe impl Plain for u64 {}
// SAFETY: transparent over integers.
unsafe impl Plain for LiveBlock {}
// SAFETY: repr(C), integers only, size asserted in the contract crate.
unsafe impl Plain for SiteRecord {}
// SAFETY: as above.
unsafe impl Plain for State {}
// SAFETY: as above.
unsafe impl Plain for Control {}
// SAFETY: as above.
unsafe impl Plain for InFlight {}
// SAFETY: as above.
unsafe impl Plain for Member {}
// SAFETY: as above.
unsafe impl Plain for Region {}
// SAFETY: as above.
unsafe impl Plain for RegionWork {}
// SAFETY: as above.
unsafe impl Plain for Page {}
// SAFETY: as above.
unsafe impl Plain for Row {}
// SAFETY: as above.
unsafe impl Plain for MappingTable {}
// SAFETY: as above.
unsafe impl Plain for Generation {}
