//! Harness of memscope's end-to-end suites: target programs, the command under test, and the comparison of whole live sets.

pub mod corpus;
mod coverage;
pub mod deadline;
pub mod difference;
pub mod family;
pub mod follower;
pub mod ledger;
pub mod memscope;
pub mod oracle;
pub mod planted;
pub mod process;
pub mod program;
pub mod report;
pub mod schema;
pub mod server;
pub mod session;
pub mod stacks;
pub mod state_dirs;
pub mod stepper;
pub mod target;
pub mod terminal;
pub mod text;
pub mod told;
pub mod traced;
pub mod workload;
