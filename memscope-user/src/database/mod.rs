//! The database: kernel maps and files of one target, from create to destroy.

pub mod bpffs;
pub mod clock;
pub mod error;
pub mod family;
pub mod folder;
pub mod generations;
pub mod kernel_map;
pub mod links;
pub mod live_set;
pub mod load;
pub mod paths;
pub mod regions;
pub mod session;
pub mod session_file;
pub mod sites;
pub mod store;
pub mod tally;
