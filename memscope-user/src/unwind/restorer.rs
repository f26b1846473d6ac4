//! Signal restorers, recognised by their code as gdb and libgcc do: glibc's has CFI, musl's and others' have none.

use super::image::CodeSegment;
use super::interval::Interval;
use memscope_ebpf::unwind::row::{Row, RowKind};

/// `mov $15, %rax; syscall`: rt_sigreturn.
const LONG: [u8; 9] = [0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05];
/// `mov $15, %eax; syscall`.
const SHORT: [u8; 7] = [0xb8, 15, 0, 0, 0, 0x0f, 0x05];
/// A file with more of them than any real one is not searched further.
const MAX_RESTORERS: usize = 64;

/// The ranges of a segment's restorers. Each begins one byte early: the handler "returns" to the first instruction, and
/// return addresses are looked up less one.
#[must_use]
pub fn restorers(segment: &CodeSegment<'_>) -> Vec<Interval> {
    let mut found = Vec::new();
    for at in 0..segment.bytes.len() {
        let rest = &segment.bytes[at..];
        let length = if rest.starts_with(&LONG) {
            LONG.len()
        } else if rest.starts_with(&SHORT) {
            SHORT.len()
        } else {
            continue;
        };
        let start = segment.address + at as u64;
        found.push(Interval {
            start: start.saturating_sub(1),
            end: start + length as u64,
            rule: Row::bare(RowKind::SignalFrame),
        });
        if found.len() == MAX_RESTORERS {
            break;
        }
    }
    found
}
