//! Collection: the four steps of a database's life (create, start, stop, destroy), and what they refuse.

pub mod calls;
pub mod code;
pub mod error;
pub mod reading;
pub mod region_owner;
pub mod settings;
pub mod status;
pub mod steps;
pub mod survey;
