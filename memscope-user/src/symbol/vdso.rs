//! The vDSO: a library without a file, whose bytes are in every process's memory.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;

use crate::target::mapping::{Mapping, parse_maps};

/// Name of its mapping.
pub(super) const NAME: &str = "[vdso]";

/// Largest vDSO read; Linux's is two pages on x86-64.
const SIZE_LIMIT: u64 = 1 << 20;

/// The vDSO of this kernel, from our own memory, as a file of its own.
pub(super) fn of_this_process() -> io::Result<File> {
    let maps = parse_maps(&std::fs::read("/proc/self/maps")?);
    let vdso = maps.iter().find(|mapping| mapping.path == NAME);
    let vdso = vdso.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "this process has no vDSO"))?;
    copy(&File::open("/proc/self/mem")?, vdso)
}

/// The bytes of a mapping in a file of their own. `memory` is a `/proc/PID/mem`.
pub(super) fn copy(memory: &File, mapping: &Mapping) -> io::Result<File> {
    let size = mapping.end.0.saturating_sub(mapping.start.0).min(SIZE_LIMIT);
    let mut bytes = vec![0; size as usize];
    memory.read_exact_at(&mut bytes, mapping.start.0)?;
    let mut file = super::image::memory_file()?;
    file.write_all(&bytes)?;
    Ok(file)
}
