//! Stacks against a reference: every stack that memscope recorded of a program, whole sets with counts, against those that
//! libgcc's unwinder gave inside the program at the same calls.

pub mod corpus;
pub mod debugger;
pub mod difference;
pub mod ledger;
pub mod postgres;
pub mod reported;
pub mod run;
