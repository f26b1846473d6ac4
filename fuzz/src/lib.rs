//! What the fuzz targets share: seeds made on the machine they run on, and ELF files put together from parts.

pub mod elf;
pub mod seeds;
pub mod table;
