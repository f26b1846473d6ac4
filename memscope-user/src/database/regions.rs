//! Reads the regions, between two changes of them.

use std::io;
use std::thread;
use std::time::Duration;

use memscope_ebpf::region::{Region, RegionWork};

use super::kernel_map::KernelMap;
use super::live_set::RawEntry;
use crate::target::address::RuntimeAddress;

/// A reading that meets a change is repeated as often as this, then taken as it is.
const ATTEMPTS: u32 = 16;

/// The regions born up to a moment (CLOCK_MONOTONIC milliseconds), in no order.
///
/// # Errors
/// A map cannot be read.
pub fn read(
    regions: &KernelMap<u64, Region>,
    work: &KernelMap<u32, RegionWork>,
    born_until_ms: u64,
) -> io::Result<Vec<RawEntry>> {
    let sequence = || Ok::<_, io::Error>(work.lookup(0)?.map_or(0, |work| work.sequence));
    let mut attempt = 0;
    loop {
        let before = sequence()?;
        let mut found = Vec::new();
        regions.for_each(|start, region| {
            if region.block.unpack().born_ms <= born_until_ms {
                found.push(RawEntry {
                    address: RuntimeAddress(start),
                    block: region.block,
                });
            }
        })?;
        attempt += 1;
        if attempt == ATTEMPTS || before & 1 == 0 && sequence()? == before {
            return Ok(found);
        }
        thread::sleep(Duration::from_micros(50 << attempt.min(6)));
    }
}
