//! Completes task ids after the keys that take one.

use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};

use crate::os::Key;
use crate::target::identity::TargetId;

/// Knows the threads of the target.
#[derive(Default)]
pub struct TaskIds {
    /// Whose threads; `None`: no target is chosen.
    pub target: Option<TargetId>,
}

impl Completer for TaskIds {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let Some((start, typed)) = typed_id(line, at) else {
            return Ok((at, Vec::new()));
        };
        // A target that has ended has no threads: nothing is offered.
        let ids = self.target.and_then(|target| crate::os::thread_ids(target).ok());
        let ids = ids.unwrap_or_default().into_iter().map(|tid| tid.to_string());
        Ok((start, ids.filter(|tid| tid.starts_with(typed)).collect()))
    }
}

/// Where the task id under the cursor begins, and what of it is typed.
fn typed_id(line: &str, at: usize) -> Option<(usize, &str)> {
    let typed = line.get(..at)?;
    let start = typed.rfind(' ')? + 1;
    let key: Key = typed.get(..start)?.trim().parse().ok()?;
    key.of_one_thread().then(|| (start, &typed[start..]))
}

impl Hinter for TaskIds {
    type Hint = String;
}

impl Highlighter for TaskIds {}
impl Validator for TaskIds {}
impl Helper for TaskIds {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_keys_that_take_a_task_are_completed() {
        assert_eq!(typed_id("I 12", 4), Some((2, "12")));
        assert_eq!(typed_id(" t ", 3), Some((3, "")));
        for other in ["", "I", "m 12", "p 3", "I 1 2", "target 12"] {
            assert_eq!(typed_id(other, other.len()), None, "{other}");
        }
        assert_eq!(typed_id("I 12", 99), None);
    }
}
