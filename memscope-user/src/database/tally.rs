//! The counters of a database, summed over the CPUs.

use std::collections::BTreeMap;
use std::io;

use memscope_ebpf::counter::{Counter, Weight};

use super::kernel_map::KernelMap;

/// All counters at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally(Vec<u64>);

impl Tally {
    /// Reads and sums them.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn read(counters: &KernelMap<u32, u64>) -> io::Result<Self> {
        let length = Counter::ALL.len();
        let per_cpu = counters.lookup_per_cpu(0, possible_cpus()?, length)?;
        let mut sums = vec![0u64; length];
        for cpu in per_cpu.chunks(length) {
            for (sum, value) in sums.iter_mut().zip(cpu) {
                *sum += value;
            }
        }
        Ok(Self(sums))
    }

    /// Counts what a command found that the programs would have counted. Only while none of them runs: the value is theirs, and
    /// is written back whole.
    ///
    /// # Errors
    /// The map cannot be read or written.
    pub fn count(counters: &KernelMap<u32, u64>, counter: Counter, more: u64) -> io::Result<()> {
        if more == 0 {
            return Ok(());
        }
        let mut values = counters.lookup_per_cpu(0, possible_cpus()?, Counter::ALL.len())?;
        if let Some(value) = values.get_mut(counter as usize) {
            *value += more;
        }
        counters.update_per_cpu(0, &values)
    }

    /// The same with so many more of one counter.
    #[must_use]
    pub fn with(mut self, counter: Counter, more: u64) -> Self {
        if let Some(value) = self.0.get_mut(counter as usize) {
            *value = value.saturating_add(more);
        }
        self
    }

    /// One counter.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.0.get(counter as usize).copied().unwrap_or(0)
    }

    /// The counters of one weight that are not zero.
    #[must_use]
    pub fn nonzero(&self, weight: Weight) -> BTreeMap<&'static str, u64> {
        Counter::ALL
            .iter()
            .filter(|counter| counter.weight() == weight && self.get(**counter) > 0)
            .map(|counter| (counter.key(), self.get(*counter)))
            .collect()
    }
}

/// CPUs the kernel may ever have: the length of every per-CPU value (`/sys/devices/system/cpu/possible`, e.g. `0-3,6`).
fn possible_cpus() -> io::Result<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = text
        .trim()
        .rsplit(['-', ','])
        .next()
        .and_then(|last| last.parse::<usize>().ok());
    last.map(|last| last + 1)
        .ok_or_else(|| io::Error::other(format!("cannot parse the possible CPUs `{}`", text.trim())))
}
