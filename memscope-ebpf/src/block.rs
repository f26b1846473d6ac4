//! A block's entry in LIVE: made, resized, and put back when a realloc keeps what it had taken out.

use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use memscope_ebpf::counter::Counter;
use memscope_ebpf::inflight::OpenCall;
use memscope_ebpf::live::{BlockFields, LiveBlock};

use crate::{count, maps, sites};

const ENOMEM: i32 = -12;
const EEXIST: i32 = -17;

/// A new block at an address: whatever is there was freed unseen.
#[inline(always)]
pub fn insert(address: u64, block: LiveBlock) {
    let mut error = put(address, block, BPF_NOEXIST);
    if error == EEXIST {
        // SAFETY: copied out at once.
        if let Some(stale) = unsafe { maps::LIVE.get(address) }.copied() {
            sites::count_freed(stale.site(), stale.size());
        }
        count::one(Counter::MissedFree);
        error = put(address, block, BPF_ANY);
    }
    // Counted whether or not it could be kept: the site did allocate it.
    sites::count_allocated(block.site(), block.size(), block.is_sampled());
    match error {
        0 => count::one(Counter::Allocated),
        ENOMEM => count::one(Counter::LiveNoMemory),
        _ => count::one(Counter::LiveFull),
    }
}

/// A resize in place: the block keeps its site and number; `now` is the size it really has, at least the one asked for on
/// success.
#[inline(always)]
pub fn resize(address: u64, asked: u64, now: u64) {
    // SAFETY: copied out at once.
    if now >= asked
        && let Some(block) = unsafe { maps::LIVE.get(address) }.copied()
    {
        let resized = LiveBlock::pack(BlockFields {
            size: asked,
            ..block.unpack()
        });
        let _ = maps::LIVE.insert(address, resized, u64::from(BPF_ANY));
    }
}

/// Puts the old block of a realloc back. While the target owns the address nobody else can hold the key. If somebody does, the
/// realloc had freed it, and its return was not seen.
#[inline(always)]
pub fn restore(address: u64, old: LiveBlock) {
    match put(address, old, BPF_NOEXIST) {
        0 => {}
        EEXIST => {
            sites::count_freed(old.site(), old.size());
            count::one(Counter::Freed);
            return;
        }
        _ => count::one(Counter::RestoreFailed),
    }
    count::one(Counter::Restored);
}

/// Puts the block that a call holds back: nothing says that it was freed. Readers find it in hand until LIVE has it.
///
/// # Safety
/// `call` is an open call of the running thread.
#[inline(always)]
pub unsafe fn put_back(call: *mut OpenCall) {
    // SAFETY: the caller's call.
    unsafe {
        if !(*call).old.is_none() {
            restore((*call).pointer, (*call).old);
            forget_old(call);
        }
    }
}

/// The call holds no block any more.
///
/// # Safety
/// As [`put_back`].
#[inline(always)]
pub unsafe fn forget_old(call: *mut OpenCall) {
    // SAFETY: the caller's call; the second word holds the number, without which there is no block. Volatile: readers look
    // from outside, and what they see must come in this order.
    unsafe { (&raw mut (*call).old).cast::<u64>().add(1).write_volatile(0) };
}

/// Puts a block into LIVE; 0 or an error number. (A `Result` kept in a variable has bytes that are undefined when it is
/// `Ok`; the compiler spills them, and the verifier refuses a program that reads them.)
#[inline(always)]
fn put(address: u64, block: LiveBlock, flags: u32) -> i32 {
    match maps::LIVE.insert(address, block, u64::from(flags)) {
        Ok(()) => 0,
        Err(error) => error,
    }
}
