//! What was seen before, so that a key can say what has changed since the last look.

use std::collections::BTreeMap;
use std::time::Instant;

use super::cpu::{CpuHistory, CpuReading};
use super::faults::FaultCounts;
use super::memory::MemoryFigures;
use super::tasks::TaskCounters;

/// A reading and its moment.
#[derive(Clone, Debug)]
pub struct Look<T> {
    /// When.
    pub at: Instant,
    /// What.
    pub seen: T,
}

impl<T> Look<T> {
    /// A reading of this moment.
    pub fn now(seen: T) -> Self {
        Self {
            at: Instant::now(),
            seen,
        }
    }

    /// Seconds since.
    #[must_use]
    pub fn seconds_ago(&self) -> f64 {
        self.at.elapsed().as_secs_f64()
    }
}

/// The earlier readings of one target.
#[derive(Debug, Default)]
pub struct Looks {
    /// Of `m`.
    pub memory: Option<Look<MemoryFigures>>,
    /// Of `C` and `c`.
    pub cpu: Option<Look<CpuReading>>,
    /// Of `f`.
    pub faults: Option<Look<FaultCounts>>,
    /// Of `y`, by thread.
    pub tasks: Option<Look<BTreeMap<u32, TaskCounters>>>,
    /// CPU use while the console ran, for `H`.
    pub history: CpuHistory,
}
