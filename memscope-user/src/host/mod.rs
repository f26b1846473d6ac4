//! This host: what its kernel and this user are able to do.

pub mod checks;
pub mod privilege;
