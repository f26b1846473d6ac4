//! Many elements of a map at once.

use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd as _;

use super::KernelMap;
use super::plain::{Plain, zeroed};
use super::syscall::{BPF_MAP_LOOKUP_BATCH, BPF_MAP_UPDATE_BATCH, BatchAttr, bpf};

/// Values that a batch read takes in at once.
const BATCH_BYTES: usize = 128 << 10;

/// Elements of a hash map that were read at once.
pub struct Batch<'a, K, V> {
    keys: &'a [K],
    values: &'a [V],
    /// The first bucket that has not been read; `u32::MAX` at the map's end.
    pub ends_before: u32,
}

impl<'a, K: Plain, V: Plain> Batch<'a, K, V> {
    /// Each, in no order.
    pub fn elements(&self) -> impl ExactSizeIterator<Item = (K, &'a V)> + use<'a, K, V> {
        self.keys.iter().copied().zip(self.values)
    }
}

impl<K: Plain, V: Plain> KernelMap<K, V> {
    /// Reads a whole hash map, giving each element to `visit`: see [`Self::for_each_batch`].
    ///
    /// # Errors
    /// The kernel refused.
    pub fn for_each(&self, mut visit: impl FnMut(K, &V)) -> io::Result<()> {
        self.for_each_batch(0..u32::MAX, |batch| {
            for (key, value) in batch.elements() {
                visit(key, value);
            }
        })
    }

    /// Reads these buckets of a hash map in batches; the last batch may go on into the buckets after them. A batch is whole
    /// buckets, each copied under its lock (`__htab_map_lookup_and_delete_batch`, kernel/bpf/hashtab.c), and a key never
    /// changes its bucket: an element that stays is read exactly once, whatever happens beside it.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn for_each_batch(&self, buckets: Range<u32>, mut visit: impl FnMut(Batch<'_, K, V>)) -> io::Result<()> {
        // Large enough for few calls, small enough for large values.
        let mut batch = (BATCH_BYTES / size_of::<V>()).clamp(64, 4096);
        let (mut keys, mut values) = (vec![zeroed::<K>(); batch], vec![zeroed::<V>(); batch]);
        let (mut position, mut next) = (buckets.start, 0u32);
        while position < buckets.end {
            let mut attr = BatchAttr {
                in_batch: (&raw mut position) as u64,
                out_batch: (&raw mut next) as u64,
                keys: keys.as_mut_ptr() as u64,
                values: values.as_mut_ptr() as u64,
                count: batch as u32,
                map_fd: self.fd.as_raw_fd() as u32,
                element_flags: 0,
                flags: 0,
            };
            let ends_before = match bpf(BPF_MAP_LOOKUP_BATCH, &mut attr) {
                Ok(_) => next,
                // There are no more buckets.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => u32::MAX,
                // A bucket holds more than fits: nothing was consumed, a larger batch will take it.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    batch *= 2;
                    keys.resize(batch, zeroed::<K>());
                    values.resize(batch, zeroed::<V>());
                    continue;
                }
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => continue,
                Err(error) => return Err(error),
            };
            let count = (attr.count as usize).min(batch);
            visit(Batch {
                keys: &keys[..count],
                values: &values[..count],
                ends_before,
            });
            position = ends_before;
        }
        Ok(())
    }

    /// Reads elements `0..count` of an array map in batches.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn read_array(&self, count: u32) -> io::Result<Vec<V>>
    where
        K: From<u32> + Into<u32>,
    {
        let mut out = Vec::with_capacity(count as usize);
        let (mut position, mut next) = (0u32, 0u32);
        while (out.len() as u32) < count {
            let wanted = (count - out.len() as u32).min(65_536);
            let mut keys = vec![zeroed::<K>(); wanted as usize];
            let start = out.len();
            out.resize(start + wanted as usize, zeroed::<V>());
            let mut attr = BatchAttr {
                in_batch: if start == 0 { 0 } else { (&raw mut position) as u64 },
                out_batch: (&raw mut next) as u64,
                keys: keys.as_mut_ptr() as u64,
                values: out[start..].as_mut_ptr() as u64,
                count: wanted,
                map_fd: self.fd.as_raw_fd() as u32,
                element_flags: 0,
                flags: 0,
            };
            let outcome = bpf(BPF_MAP_LOOKUP_BATCH, &mut attr);
            out.truncate(start + (attr.count as usize).min(wanted as usize));
            match outcome {
                Ok(_) if attr.count > 0 => position = next,
                Ok(_) => break,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => break,
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => out.truncate(start),
                Err(error) => return Err(error),
            }
        }
        Ok(out)
    }

    /// Writes elements of an array map from index `first` on.
    ///
    /// # Errors
    /// The kernel refused; elements before the one it refused are written.
    pub fn write_array(&self, first: u32, values: &[V]) -> io::Result<()>
    where
        K: From<u32>,
    {
        for (chunk, values) in values.chunks(65_536).enumerate() {
            let from = first + chunk as u32 * 65_536;
            let keys: Vec<K> = (from..).take(values.len()).map(K::from).collect();
            let mut attr = BatchAttr {
                in_batch: 0,
                out_batch: 0,
                keys: keys.as_ptr() as u64,
                values: values.as_ptr() as u64,
                count: values.len() as u32,
                map_fd: self.fd.as_raw_fd() as u32,
                element_flags: 0,
                flags: 0,
            };
            bpf(BPF_MAP_UPDATE_BATCH, &mut attr)?;
        }
        Ok(())
    }
}
