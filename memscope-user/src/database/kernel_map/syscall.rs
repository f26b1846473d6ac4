//! bpf(2): its commands on maps, what they are given, and the call.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

// enum bpf_cmd, include/uapi/linux/bpf.h.
pub const BPF_MAP_CREATE: u32 = 0;
pub const BPF_MAP_LOOKUP_ELEM: u32 = 1;
pub const BPF_MAP_UPDATE_ELEM: u32 = 2;
pub const BPF_MAP_DELETE_ELEM: u32 = 3;
pub const BPF_MAP_GET_NEXT_KEY: u32 = 4;
pub const BPF_OBJ_PIN: u32 = 6;
pub const BPF_OBJ_GET: u32 = 7;
pub const BPF_OBJ_GET_INFO_BY_FD: u32 = 15;
pub const BPF_MAP_LOOKUP_BATCH: u32 = 24;
pub const BPF_MAP_UPDATE_BATCH: u32 = 26;
pub const BPF_LINK_CREATE: u32 = 28;
/// Flag of an update: only where there is no value.
pub const BPF_NOEXIST: u64 = 1;

/// The part of `union bpf_attr` for commands on one element.
#[repr(C)]
pub struct ElementAttr {
    pub map_fd: u32,
    pub padding: u32,
    pub key: u64,
    pub value_or_next_key: u64,
    pub flags: u64,
}

/// The part of `union bpf_attr` for batch commands.
#[repr(C)]
pub struct BatchAttr {
    pub in_batch: u64,
    pub out_batch: u64,
    pub keys: u64,
    pub values: u64,
    pub count: u32,
    pub map_fd: u32,
    pub element_flags: u64,
    pub flags: u64,
}

/// The part of `union bpf_attr` for BPF_OBJ_GET and BPF_OBJ_PIN.
#[repr(C)]
pub struct ObjectAttr {
    pub path: u64,
    pub bpf_fd: u32,
    pub file_flags: u32,
}

/// The part of `union bpf_attr` for BPF_OBJ_GET_INFO_BY_FD.
#[repr(C)]
pub struct InfoAttr {
    pub bpf_fd: u32,
    pub info_len: u32,
    pub info: u64,
}

/// The beginning of `struct bpf_map_info`; the kernel gives as much as is asked for.
#[derive(Default)]
#[repr(C)]
pub struct MapSizes {
    pub map_type: u32,
    pub id: u32,
    pub key: u32,
    pub value: u32,
}

pub fn sizes_of(map: &OwnedFd) -> io::Result<MapSizes> {
    let mut sizes = MapSizes::default();
    let mut attr = InfoAttr {
        bpf_fd: map.as_raw_fd() as u32,
        info_len: size_of::<MapSizes>() as u32,
        info: (&raw mut sizes) as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(sizes)
}

pub fn absent_is_none(outcome: io::Result<i64>) -> io::Result<Option<i64>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// bpf(2). `T` is the part of `union bpf_attr` that the command reads; the kernel takes the rest as zero.
pub fn bpf<T>(command: u32, attr: &mut T) -> io::Result<i64> {
    // SAFETY: the attribute lives through the call, its size is told, and every pointer in it was made by the caller from
    // a buffer at least as large as the map's key and value sizes and the count say.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
