//! A thread's call stack at this moment: registers, then from frame to frame by the images' call frame information.
//!
//! The tables of the database's unwinder hold call sites only, since its walks begin at an allocator's return. A thread
//! that is looked at from outside stands anywhere — at a system call, in a prologue, in a signal handler — so here the
//! whole call frame information is read, rule by rule as it is written (`frame_info`), expressions included.
//!
//! A thread that sleeps in the kernel is not stopped: `/proc/PID/task/TID/syscall` tells its stack pointer and program
//! counter. Where a frame needs a register that this file lacks (rbp, in code with frame pointers), the kernel's saved
//! registers are read by a BPF iterator (`kernel_registers`). Afterwards it is checked that the thread has not run
//! meanwhile. A thread that runs is stopped, its registers and stack copied, and let go (`stop`).

mod code_map;
mod entry_index;
mod frame_info;
pub mod kernel_registers;
mod memory_copy;
mod registers;
pub mod stop;
mod walk;

pub use code_map::CodeMap;
pub use frame_info::{Caller, FrameInfo};
pub use memory_copy::StackCopy;
pub use registers::Registers;
pub use walk::{WalkEnd, Walked, walk};
