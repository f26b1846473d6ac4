//! What can go wrong with marks and snapshots.

use thiserror::Error;

use crate::database::error::DatabaseError;

/// A failure of the history.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// The folder or a file.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// No mark of this name.
    #[error("process {pid} has no mark `{name}`{}", known(marks))]
    NoMark {
        /// Whose session.
        pid: u32,
        /// What was asked for.
        name: String,
        /// What there is.
        marks: Vec<String>,
    },
    /// A name that cannot be one.
    #[error("`{0}` is no name for a mark: 1 to 64 letters, digits, `-`, `_`, `.` or `:`")]
    BadName(String),
    /// The second mark is not after the first.
    #[error("mark `{until}` is not after mark `{from}`")]
    Order {
        /// The first.
        from: String,
        /// The second.
        until: String,
    },
}

fn known(marks: &[String]) -> String {
    if marks.is_empty() {
        "; `memscope mark PID NAME` sets one".to_owned()
    } else {
        format!("; it has: {}", marks.join(", "))
    }
}
