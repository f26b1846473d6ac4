//! Work on a thread of its own, or on this one where the host gives no other.

use std::panic;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle};

/// A piece of work begun by [`beside`].
#[derive(Debug)]
pub enum Beside<'scope, T> {
    /// On its own thread.
    Running(ScopedJoinHandle<'scope, T>),
    /// It has been done.
    Done(T),
}

/// Begins a piece of work on another thread. A host at its limit of tasks (EAGAIN, clone(2)) has none to give: then it is done
/// here and now, since whoever looks for a leak on a host in need must still be answered.
pub fn beside<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Beside<'scope, T> {
    begin(Builder::new(), scope, work)
}

fn begin<'scope, T: Send + 'scope>(
    thread: Builder,
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Beside<'scope, T> {
    // A closure does not come back from a thread that could not be made.
    let ours = Arc::new(Mutex::new(Some(work)));
    let theirs = Arc::clone(&ours);
    match thread.spawn_scoped(scope, move || take(&theirs)()) {
        Ok(running) => Beside::Running(running),
        Err(_) => Beside::Done(take(&ours)()),
    }
}

fn take<W>(work: &Mutex<Option<W>>) -> W {
    let mut work = work.lock().unwrap_or_else(PoisonError::into_inner);
    work.take().expect("one of the two threads asks, once")
}

impl<T> Beside<'_, T> {
    /// What came of it.
    ///
    /// # Panics
    /// As the work did.
    pub fn join(self) -> T {
        match self {
            Self::Running(running) => running.join().unwrap_or_else(|panic| panic::resume_unwind(panic)),
            Self::Done(outcome) => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn work_is_done_whether_or_not_there_is_a_thread_for_it() {
        // More than any address space: mmap fails, and pthread_create with it.
        for stack in [1 << 20, 1 << 47] {
            let sum = thread::scope(|scope| {
                let begun = begin(Builder::new().stack_size(stack), scope, || (1..=10).sum::<u32>());
                assert_eq!(matches!(begun, Beside::Running(_)), stack == 1 << 20);
                begun.join()
            });
            assert_eq!(sum, 55);
        }
    }
}
