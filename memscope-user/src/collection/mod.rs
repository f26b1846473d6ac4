//! Collection: the four steps of a database's life (create, start, stop, destroy), and what they refuse.

pub mod attach;
pub mod budget;
pub mod calls;
pub mod code;
pub mod cost;
pub mod error;
pub mod estimate;
pub mod follow;
pub mod memory_use;
mod naming;
mod progress;
pub mod reading;
pub mod refresh;
pub mod region_owner;
mod replaced;
pub mod room;
pub mod settings;
pub mod site_reading;
pub mod stack_shares;
pub mod status;
pub mod steps;
pub mod survey;
