//! The user registers of a thread that is in the kernel, as the kernel saved them at its entry: by a BPF task iterator.
//!
//! Nothing is stopped, nothing stays loaded: a program of eighteen instructions is loaded, run once over the one thread,
//! and gone with its descriptors. It needs CAP_BPF + CAP_PERFMON (or root), and Linux 6.1. For a thread that sleeps the
//! saved registers are exact; for one that runs they are those of its last entry into the kernel.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use super::registers::{PT_REGS, Registers};

// include/uapi/linux/bpf.h.
const BPF_PROG_LOAD: u32 = 5;
const BPF_LINK_CREATE: u32 = 28;
const BPF_ITER_CREATE: u32 = 33;
const BPF_PROG_TYPE_TRACING: u32 = 26;
const BPF_TRACE_ITER: u32 = 28;
const FN_PROBE_READ_KERNEL: i32 = 113;
const FN_SEQ_WRITE: i32 = 127;
const FN_TASK_PT_REGS: i32 = 175;

/// The kernel function whose arguments are the program's context.
const ITERATOR: &str = "bpf_iter_task";
const PT_REGS_BYTES: i32 = (PT_REGS * 8) as i32;

/// The registers of a thread.
///
/// # Errors
/// The kernel refused, or the thread has ended.
pub fn of_thread(tid: u32) -> io::Result<Registers> {
    let btf = std::fs::read("/sys/kernel/btf/vmlinux")?;
    let function = function_id(&btf, ITERATOR).ok_or_else(|| io::Error::other("the kernel has no task iterator"))?;
    let program = load(function)?;
    let link = link(&program, tid)?;
    let mut iterator = File::from(iterate(&link)?);
    let mut bytes = [0; PT_REGS * 8];
    iterator.read_exact(&mut bytes)?;
    let mut words = [0; PT_REGS];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().map_err(io::Error::other)?);
    }
    Ok(Registers::from_pt_regs(&words))
}

/// `code | dst << 8 | src << 12 | offset << 16 | immediate << 32` (struct bpf_insn).
const fn instruction(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> u64 {
    code as u64
        | (dst as u64) << 8
        | (src as u64) << 12
        | (offset.cast_unsigned() as u64) << 16
        | (immediate.cast_unsigned() as u64) << 32
}

const LOAD_64: u8 = 0x79;
const MOVE: u8 = 0xbf;
const MOVE_CONSTANT: u8 = 0xb7;
const ADD_CONSTANT: u8 = 0x07;
const JUMP_IF_EQUAL: u8 = 0x15;
const JUMP_IF_NOT_EQUAL: u8 = 0x55;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

/// Writes the task's `struct pt_regs` to the iterator's reader. Its context is `struct bpf_iter__task`: two pointers, to
/// `struct bpf_iter_meta`, whose first member is the sequence file, and to the task, which is NULL at the end.
const PROGRAM: [u64; 18] = [
    instruction(MOVE, 6, 1, 0, 0),
    instruction(LOAD_64, 1, 6, 8, 0),
    instruction(JUMP_IF_EQUAL, 1, 0, 13, 0),
    instruction(CALL, 0, 0, 0, FN_TASK_PT_REGS),
    instruction(MOVE, 3, 0, 0, 0),
    instruction(MOVE, 1, 10, 0, 0),
    instruction(ADD_CONSTANT, 1, 0, 0, -PT_REGS_BYTES),
    instruction(MOVE_CONSTANT, 2, 0, 0, PT_REGS_BYTES),
    instruction(CALL, 0, 0, 0, FN_PROBE_READ_KERNEL),
    instruction(JUMP_IF_NOT_EQUAL, 0, 0, 6, 0),
    instruction(LOAD_64, 1, 6, 0, 0),
    instruction(LOAD_64, 1, 1, 0, 0),
    instruction(MOVE, 2, 10, 0, 0),
    instruction(ADD_CONSTANT, 2, 0, 0, -PT_REGS_BYTES),
    instruction(MOVE_CONSTANT, 3, 0, 0, PT_REGS_BYTES),
    instruction(CALL, 0, 0, 0, FN_SEQ_WRITE),
    instruction(MOVE_CONSTANT, 0, 0, 0, 0),
    instruction(EXIT, 0, 0, 0, 0),
];

/// The part of `union bpf_attr` for BPF_PROG_LOAD, as far as `attach_btf_id`.
#[derive(Default)]
#[repr(C)]
struct LoadAttr {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach_type: u32,
    btf_fd: u32,
    function_info_size: u32,
    function_info: u64,
    function_info_count: u32,
    line_info_size: u32,
    line_info: u64,
    line_info_count: u32,
    attach_btf_id: u32,
}

const _: () = assert!(std::mem::offset_of!(LoadAttr, attach_btf_id) == 108 && size_of::<LoadAttr>() == 112);

/// The part for BPF_LINK_CREATE with an iterator's parameters.
#[repr(C)]
struct LinkAttr {
    program_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    iterator_info: u64,
    iterator_info_length: u32,
    padding: u32,
}

/// `union bpf_iter_link_info`, for tasks: only this thread.
#[repr(C)]
struct TaskIteratorInfo {
    tid: u32,
    pid: u32,
    pid_fd: u32,
    padding: u32,
}

/// The part for BPF_ITER_CREATE.
#[repr(C)]
struct IteratorAttr {
    link_fd: u32,
    flags: u32,
}

fn load(function: u32) -> io::Result<OwnedFd> {
    let license = c"GPL";
    bpf(
        BPF_PROG_LOAD,
        &mut LoadAttr {
            program_type: BPF_PROG_TYPE_TRACING,
            instruction_count: PROGRAM.len() as u32,
            instructions: PROGRAM.as_ptr() as u64,
            license: license.as_ptr() as u64,
            name: *b"memscope_regs\0\0\0",
            expected_attach_type: BPF_TRACE_ITER,
            attach_btf_id: function,
            ..LoadAttr::default()
        },
    )
}

fn link(program: &OwnedFd, tid: u32) -> io::Result<OwnedFd> {
    let info = TaskIteratorInfo {
        tid,
        pid: 0,
        pid_fd: 0,
        padding: 0,
    };
    bpf(
        BPF_LINK_CREATE,
        &mut LinkAttr {
            program_fd: program.as_raw_fd().cast_unsigned(),
            target_fd: 0,
            attach_type: BPF_TRACE_ITER,
            flags: 0,
            iterator_info: (&raw const info) as u64,
            iterator_info_length: size_of::<TaskIteratorInfo>() as u32,
            padding: 0,
        },
    )
}

fn iterate(link: &OwnedFd) -> io::Result<OwnedFd> {
    bpf(
        BPF_ITER_CREATE,
        &mut IteratorAttr {
            link_fd: link.as_raw_fd().cast_unsigned(),
            flags: 0,
        },
    )
}

/// A bpf(2) command that makes a descriptor.
fn bpf<T>(command: u32, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the attribute lives through the call and its size is told; every pointer in it is to a buffer of the caller's
    // that lives as long, with its length beside it.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    let fd = i32::try_from(fd)
        .ok()
        .filter(|fd| *fd >= 0)
        .ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The id of a function in BTF (Documentation/bpf/btf.rst).
fn function_id(btf: &[u8], name: &str) -> Option<u32> {
    const FUNCTION: u32 = 12;
    let word = |at: usize| Some(u32::from_le_bytes(btf.get(at..at.checked_add(4)?)?.try_into().ok()?));
    if btf.get(..2)? != [0x9f, 0xeb] {
        return None;
    }
    let header = word(4)? as usize;
    let types = header.checked_add(word(8)? as usize)?;
    let types_end = types.checked_add(word(12)? as usize)?;
    let strings = header.checked_add(word(16)? as usize)?;
    let (mut at, mut id) = (types, 1);
    while at < types_end {
        let (name_at, info) = (word(at)? as usize, word(at + 4)?);
        let (kind, members) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        if kind == FUNCTION {
            let found = btf.get(strings.checked_add(name_at)?..)?;
            if found.starts_with(name.as_bytes()) && found.get(name.len()) == Some(&0) {
                return Some(id);
            }
        }
        let more = match kind {
            // Integer, variable, declaration tag.
            1 | 14 | 17 => 4,
            // Array.
            3 => 12,
            // Structure, union, data section, 64-bit enumeration.
            4 | 5 | 15 | 19 => members * 12,
            // Enumeration, function prototype.
            6 | 13 => members * 8,
            2 | 7..=12 | 16 | 18 => 0,
            _ => return None,
        };
        at = at.checked_add(12 + more)?;
        id += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_found_past_types_with_members() {
        let strings = b"\0int\0bpf_iter_task\0bpf_iter\0";
        let mut types: Vec<u32> = Vec::new();
        types.extend([1, 1 << 24, 4, 32]);
        types.extend([0, 4 << 24 | 2, 8, 1, 1, 0, 1, 1, 32]);
        types.extend([0, 13 << 24, 1]);
        types.extend([19, 12 << 24, 3]);
        types.extend([5, 12 << 24, 3]);
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_le_bytes()).collect();
        let header = [
            0xeb9f | 1 << 16,
            24,
            0,
            types.len() as u32,
            types.len() as u32,
            strings.len() as u32,
        ];
        let mut btf: Vec<u8> = header.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
        btf.extend(&types);
        btf.extend(strings);
        assert_eq!(function_id(&btf, "bpf_iter_task"), Some(5));
        assert_eq!(function_id(&btf, "bpf_iter"), Some(4));
        assert_eq!(function_id(&btf, "int"), None);
        for cut in 0..btf.len() - 1 {
            // However it is cut short, there is an answer or none, and no panic.
            let _ = function_id(&btf[..cut], "bpf_iter_task");
        }
    }
}
