//! A pinned map, by raw bpf(2): what aya 0.14 has no call for (batch reads), and the few plain calls beside it.
//!
//! All `unsafe` of the database room is here and in the files below, but for its clock's. Key and value types are [`Plain`]:
//! any bytes are a value.

mod batch;
mod plain;
pub(crate) mod syscall;

use std::ffi::CString;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

pub use batch::Batch;
pub use plain::Plain;
use plain::zeroed;
use syscall::{
    BPF_MAP_DELETE_ELEM, BPF_MAP_GET_NEXT_KEY, BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM, BPF_NOEXIST, BPF_OBJ_GET,
    ElementAttr, ObjectAttr, absent_is_none, bpf, sizes_of,
};

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
