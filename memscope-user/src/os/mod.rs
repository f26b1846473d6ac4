//! The OS keys: what Linux says about the target around a memory problem.
//!
//! Each key is one file: procfs and sysfs are gathered into a value, the value is serialized or shown as text with one
//! line of what it means. Gathering needs a live process; showing is pure. Nothing here changes the target; the only key
//! that may stop a thread, for a fraction of a millisecond, is `t`, and it says so.

pub mod answer;
pub mod cache;
pub mod call_stack;
mod cgroup;
pub mod cpu;
mod descriptor_queue;
pub mod error;
pub mod faults;
pub mod heap;
pub mod key;
pub mod looks;
pub mod memory;
mod page_cache;
mod process_files;
mod quantity;
pub mod queues;
mod signal_name;
pub mod stacks;
mod syscall_name;
pub mod system_v;
pub mod tasks;
pub mod thread;
pub mod thread_stack;
pub mod threads;
pub mod watchdog;

pub use answer::{Answer, Question, ask, thread_ids};
pub use error::OsError;
pub use key::Key;
pub use looks::Looks;
