//! Perf events on trace events, by perf_event_open(2) and bpf(2): aya 0.14 opens its own only.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::database::kernel_map::syscall::{
    BPF_LINK_CREATE, BPF_MAP_CREATE, BPF_MAP_UPDATE_ELEM, BPF_OBJ_PIN, ElementAttr, ObjectAttr, bpf,
};

// include/uapi/linux/perf_event.h and bpf.h.
const PERF_TYPE_TRACEPOINT: u32 = 2;
const PERF_FLAG_FD_CLOEXEC: u64 = 8;
const DISABLED: u64 = 1;
const BPF_MAP_TYPE_PERF_EVENT_ARRAY: u32 = 4;
/// Elements stay when the descriptor they were set by is closed; Linux 5.10.
const BPF_F_PRESERVE_ELEMS: u32 = 1 << 11;
const BPF_PERF_EVENT: u32 = 41;

/// `struct perf_event_attr` as it was at first (PERF_ATTR_SIZE_VER0): the kernel takes the rest as zero.
#[derive(Default)]
#[repr(C)]
struct EventAttr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    config1: u64,
}

/// The part of `union bpf_attr` for BPF_MAP_CREATE.
#[repr(C)]
struct MapAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

/// The part of `union bpf_attr` for BPF_LINK_CREATE on a perf event.
#[repr(C)]
struct LinkAttr {
    program_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    cookie: u64,
}

/// An open perf event of one task on a trace event. It counts nothing: a BPF program of the trace event runs for whoever the
/// kernel's filter lets through (`uprobe_perf_filter`, kernel/trace/trace_uprobe.c), and an open event is a part of that filter whether
/// it is switched on or not.
pub struct PerfEvent(OwnedFd);

impl PerfEvent {
    /// Opens one: the address space of `task` is let through from here on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(trace_event: u64, task: u32) -> io::Result<Self> {
        let attr = EventAttr {
            kind: PERF_TYPE_TRACEPOINT,
            size: size_of::<EventAttr>() as u32,
            config: trace_event,
            flags: DISABLED,
            ..EventAttr::default()
        };
        // SAFETY: the attribute lives through the call and says its size; any CPU, no group.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attr,
                task as i32,
                -1,
                -1,
                PERF_FLAG_FD_CLOEXEC,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
    }

    /// Has a program run at the hits of its trace event; the link holds the perf event.
    ///
    /// # Errors
    /// The kernel's.
    pub fn run(&self, program: BorrowedFd<'_>, cookie: u64) -> io::Result<OwnedFd> {
        let mut attr = LinkAttr {
            program_fd: program.as_raw_fd() as u32,
            target_fd: self.0.as_raw_fd() as u32,
            attach_type: BPF_PERF_EVENT,
            flags: 0,
            cookie,
        };
        descriptor(bpf(BPF_LINK_CREATE, &mut attr)?)
    }

    /// A map that holds it, to be pinned: a perf event itself cannot be.
    ///
    /// # Errors
    /// The kernel's.
    pub fn held(&self) -> io::Result<OwnedFd> {
        let mut attr = MapAttr {
            map_type: BPF_MAP_TYPE_PERF_EVENT_ARRAY,
            key_size: 4,
            value_size: 4,
            max_entries: 1,
            map_flags: BPF_F_PRESERVE_ELEMS,
        };
        let map = descriptor(bpf(BPF_MAP_CREATE, &mut attr)?)?;
        let (key, value) = (0u32, self.0.as_raw_fd() as u32);
        let mut attr = ElementAttr {
            map_fd: map.as_raw_fd() as u32,
            padding: 0,
            key: (&raw const key) as u64,
            value_or_next_key: (&raw const value) as u64,
            flags: 0,
        };
        bpf(BPF_MAP_UPDATE_ELEM, &mut attr)?;
        Ok(map)
    }
}

/// Pins a map or a link.
///
/// # Errors
/// The kernel's.
pub fn pin(object: &OwnedFd, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = ObjectAttr {
        path: path.as_ptr() as u64,
        bpf_fd: object.as_raw_fd() as u32,
        file_flags: 0,
    };
    bpf(BPF_OBJ_PIN, &mut attr).map(drop)
}

fn descriptor(given: i64) -> io::Result<OwnedFd> {
    let fd = i32::try_from(given).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
