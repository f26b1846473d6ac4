//! History: what a session remembers between commands — sites at each report, and marks — so that growth between two runs
//! of cron needs no resident process.
//!
//! Everything lies in the session's run folder, bounded, each file written whole and renamed. A file that is torn, foreign
//! or tampered with is passed over: it can take evidence away, never invent any.

pub mod error;
pub mod marks;
pub mod snapshot;
pub mod store;

pub use error::HistoryError;
pub use marks::{Mark, Span};
pub use snapshot::{Snapshot, Totals};
