//! A pinned map, by raw bpf(2): what aya 0.14 has no call for (batch reads), and the few plain calls beside it.
//!
//! All `unsafe` of the database room is in this file. Key and value types are [`Plain`]: any bytes are a value.

use std::ffi::CString;
use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use memscope_ebpf::family::Member;
use memscope_ebpf::inflight::InFlight;
use memscope_ebpf::live::LiveBlock;
use memscope_ebpf::region::{Region, RegionWork};
use memscope_ebpf::site::SiteRecord;
use memscope_ebpf::state::{Control, State};
use memscope_ebpf::unwind::mapping::{Generation, MappingTable};
use memscope_ebpf::unwind::row::{Page, Row};

// enum bpf_cmd, include/uapi/linux/bpf.h.
const BPF_MAP_LOOKUP_ELEM: u32 = 1;
const BPF_MAP_UPDATE_ELEM: u32 = 2;
const BPF_MAP_DELETE_ELEM: u32 = 3;
const BPF_MAP_GET_NEXT_KEY: u32 = 4;
const BPF_OBJ_GET: u32 = 7;
const BPF_OBJ_GET_INFO_BY_FD: u32 = 15;
const BPF_MAP_LOOKUP_BATCH: u32 = 24;
const BPF_MAP_UPDATE_BATCH: u32 = 26;
/// Flag of an update: only where there is no value.
const BPF_NOEXIST: u64 = 1;

/// Values that a batch read takes in at once.
const BATCH_BYTES: usize = 128 << 10;

/// Types that may be copied to and from a map as bytes.
///
/// # Safety
/// `repr(C)` or primitive, no padding the kernel would leak into, every bit pattern valid.
pub unsafe trait Plain: Copy + 'static {}

/// A value of zero bytes.
fn zeroed<T: Plain>() -> T {
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

/// The part of `union bpf_attr` for commands on one element.
#[repr(C)]
struct ElementAttr {
    map_fd: u32,
    padding: u32,
    key: u64,
    value_or_next_key: u64,
    flags: u64,
}

/// The part of `union bpf_attr` for batch commands.
#[repr(C)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    element_flags: u64,
    flags: u64,
}

/// The part of `union bpf_attr` for BPF_OBJ_GET.
#[repr(C)]
struct ObjectAttr {
    path: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// The part of `union bpf_attr` for BPF_OBJ_GET_INFO_BY_FD.
#[repr(C)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The beginning of `struct bpf_map_info`; the kernel gives as much as is asked for.
#[derive(Default)]
#[repr(C)]
struct MapSizes {
    map_type: u32,
    id: u32,
    key: u32,
    value: u32,
}

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

/// A map with keys `K` and values `V`.
#[derive(Debug)]
pub struct KernelMap<K, V> {
    fd: OwnedFd,
    types: PhantomData<(K, V)>,
}

impl<K: Plain, V: Plain> KernelMap<K, V> {
    /// Opens a pinned map, each of whose elements holds one `V` — or of a per-CPU map, on each CPU.
    ///
    /// # Errors
    /// As [`KernelMap::open_of_many`].
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::open_of_many(path, 1)
    }

    /// Opens a pinned map, each of whose elements holds so many `V`s.
    ///
    /// # Errors
    /// Nothing is pinned there, it may not be opened, or its keys or values have other sizes: the kernel copies as many bytes as
    /// the map says.
    pub fn open_of_many(path: &Path, values_per_element: usize) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let mut attr = ObjectAttr {
            path: path.as_ptr() as u64,
            bpf_fd: 0,
            file_flags: 0,
        };
        let fd = bpf(BPF_OBJ_GET, &mut attr)?;
        // SAFETY: the kernel has just given us this descriptor.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        let sizes = sizes_of(&fd)?;
        let (key, value) = (size_of::<K>(), size_of::<V>() * values_per_element);
        if (sizes.key as usize, sizes.value as usize) != (key, value) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "its keys and values have {} and {} bytes, not {key} and {value}: another version of memscope made it",
                    sizes.key, sizes.value
                ),
            ));
        }
        Ok(Self { fd, types: PhantomData })
    }

    /// The map behind a descriptor; its keys and values must have the sizes of `K` and `V`.
    #[must_use]
    pub const fn of(fd: OwnedFd) -> Self {
        Self { fd, types: PhantomData }
    }

    /// The value of a key; `None` when there is none.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn lookup(&self, key: K) -> io::Result<Option<V>> {
        let mut value = zeroed::<V>();
        let mut attr = self.element(&key, (&raw mut value) as u64);
        absent_is_none(bpf(BPF_MAP_LOOKUP_ELEM, &mut attr)).map(|found| found.map(|_| value))
    }

    /// The values of a key of a per-CPU map, one a possible CPU. `V`'s size must be a multiple of 8.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn lookup_per_cpu(&self, key: K, possible_cpus: usize, values_per_element: usize) -> io::Result<Vec<V>> {
        let mut values = vec![zeroed::<V>(); possible_cpus * values_per_element];
        let mut attr = self.element(&key, values.as_mut_ptr() as u64);
        bpf(BPF_MAP_LOOKUP_ELEM, &mut attr)?;
        Ok(values)
    }

    /// Sets the values of a key of a per-CPU map, as [`KernelMap::lookup_per_cpu`] gives them.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn update_per_cpu(&self, key: K, values: &[V]) -> io::Result<()> {
        let mut attr = self.element(&key, values.as_ptr() as u64);
        bpf(BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    /// The kernel refused: the map is full, or the key is out of an array's range.
    pub fn update(&self, key: K, value: &V) -> io::Result<()> {
        let mut attr = self.element(&key, std::ptr::from_ref(value) as u64);
        bpf(BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
    }

    /// Sets the value of a key that has none; `false` when it has one.
    ///
    /// # Errors
    /// The kernel refused: the map is full.
    pub fn insert_new(&self, key: K, value: &V) -> io::Result<bool> {
        let mut attr = self.element(&key, std::ptr::from_ref(value) as u64);
        attr.flags = BPF_NOEXIST;
        match bpf(BPF_MAP_UPDATE_ELEM, &mut attr) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes a key; `false` when it was not there.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove(&self, key: K) -> io::Result<bool> {
        let mut attr = self.element(&key, 0);
        absent_is_none(bpf(BPF_MAP_DELETE_ELEM, &mut attr)).map(|removed| removed.is_some())
    }

    /// Removes every key of a hash map that nobody fills meanwhile.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn clear(&self) -> io::Result<()> {
        loop {
            // No key given: the first one is asked for.
            let mut key = zeroed::<K>();
            let mut attr = ElementAttr {
                map_fd: self.fd.as_raw_fd() as u32,
                padding: 0,
                key: 0,
                value_or_next_key: (&raw mut key) as u64,
                flags: 0,
            };
            if absent_is_none(bpf(BPF_MAP_GET_NEXT_KEY, &mut attr))?.is_none() {
                return Ok(());
            }
            self.remove(key)?;
        }
    }

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

    fn element(&self, key: &K, value_or_next_key: u64) -> ElementAttr {
        let key = std::ptr::from_ref(key) as u64;
        ElementAttr {
            map_fd: self.fd.as_raw_fd() as u32,
            padding: 0,
            key,
            value_or_next_key,
            flags: 0,
        }
    }
}

fn sizes_of(map: &OwnedFd) -> io::Result<MapSizes> {
    let mut sizes = MapSizes::default();
    let mut attr = InfoAttr {
        bpf_fd: map.as_raw_fd() as u32,
        info_len: size_of::<MapSizes>() as u32,
        info: (&raw mut sizes) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(sizes)
}

fn absent_is_none(outcome: io::Result<i64>) -> io::Result<Option<i64>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// bpf(2). `T` is the part of `union bpf_attr` that the command reads; the kernel takes the rest as zero.
fn bpf<T>(command: u32, attr: &mut T) -> io::Result<i64> {
    // SAFETY: the attribute lives through the call, its size is told, and every pointer in it was made by the caller from
    // a buffer at least as large as the map's key and value sizes and the count say.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Now, as the programs' clock tells it: CLOCK_MONOTONIC, nanoseconds.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let mut now = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the pointer is to a timespec; CLOCK_MONOTONIC always exists, so the call writes it.
    let now = unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, now.as_mut_ptr());
        now.assume_init()
    };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
