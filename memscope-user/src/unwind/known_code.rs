//! Code that a stack can lead into without a call, recognised by its bytes where call frame information says nothing useful.

use memscope_ebpf::unwind::row::{Row, RowKind};

use super::image::CodeSegment;
use super::interval::Interval;

/// Signal restorers, as gdb and libgcc recognise them: glibc's has CFI, musl's and others' have none.
const RESTORERS: [&[u8]; 2] = [
    // mov $15, %rax; syscall: rt_sigreturn
    &[0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05],
    // mov $15, %eax; syscall
    &[0xb8, 15, 0, 0, 0, 0x0f, 0x05],
];

/// glibc's `__start_context` (sysdeps/unix/sysv/linux/x86_64/__start_context.S): what the function of a `makecontext` stack
/// returns to, so that stack's outermost frame.
const CONTEXT_STARTS: [&[u8]; 3] = [
    // mov %rbx, %rsp; mov (%rsp), %rdi; test %rdi, %rdi
    &[0x48, 0x89, 0xdc, 0x48, 0x8b, 0x3c, 0x24, 0x48, 0x85, 0xff],
    // mov %rbx, %rsp; pop %rdi; test %rdi, %rdi
    &[0x48, 0x89, 0xdc, 0x5f, 0x48, 0x85, 0xff],
    // testl $2, %fs:0x48, where shadow stacks are possible
    &[0x64, 0xf7, 0x04, 0x25, 0x48, 0, 0, 0, 2, 0, 0, 0],
];
const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];

/// A file with more of them than any real one is not searched further.
const MAX_FOUND: usize = 256;

/// Signal restorers of a segment. Each range begins one byte early: the handler "returns" to the first instruction, and
/// return addresses are looked up less one.
#[must_use]
pub fn restorers(segment: &CodeSegment<'_>) -> Vec<Interval> {
    find(segment, &RESTORERS)
        .map(|(at, pattern)| Interval {
            start: at.saturating_sub(1),
            end: at + pattern.len() as u64,
            rule: Row::bare(RowKind::SignalFrame),
        })
        .collect()
}

/// The bytes before each `__start_context` of a segment. Only a look-up of its first address as a return address comes
/// there; if a call ends there instead, that call's CFI is to be preferred to this.
#[must_use]
pub fn context_starts(segment: &CodeSegment<'_>) -> Vec<Interval> {
    find(segment, &CONTEXT_STARTS)
        .map(|(at, _)| {
            let before = usize::try_from(at - segment.address).unwrap_or(0);
            let marked = segment.bytes[..before].ends_with(&ENDBR64);
            let first = if marked { at - ENDBR64.len() as u64 } else { at };
            Interval {
                start: first.saturating_sub(1),
                end: first,
                rule: Row::bare(RowKind::Outermost),
            }
        })
        .collect()
}

/// Places of the patterns that do not begin a segment.
fn find<'a>(
    segment: &'a CodeSegment<'_>,
    patterns: &'a [&'static [u8]],
) -> impl Iterator<Item = (u64, &'static [u8])> + 'a {
    (1..segment.bytes.len())
        .filter_map(|at| {
            let rest = &segment.bytes[at..];
            let pattern = patterns.iter().find(|pattern| rest.starts_with(pattern))?;
            Some((segment.address + at as u64, *pattern))
        })
        .take(MAX_FOUND)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(bytes: &[u8]) -> CodeSegment<'_> {
        CodeSegment {
            address: 0x1000,
            offset: 0,
            bytes,
        }
    }

    #[test]
    fn a_restorer_is_covered_from_the_byte_before_it() {
        let bytes = [&[0x90; 7][..], RESTORERS[0], &[0x90; 3]].concat();
        let found = restorers(&segment(&bytes));
        assert_eq!((found[0].start, found[0].end, found.len()), (0x1006, 0x1010, 1));
        assert_eq!(found[0].rule.kind(), Some(RowKind::SignalFrame));
    }

    #[test]
    fn a_context_start_is_the_byte_before_it_and_before_its_landing_pad() {
        let bytes = [&[0xc3; 9][..], CONTEXT_STARTS[0], &ENDBR64, CONTEXT_STARTS[2]].concat();
        let found = context_starts(&segment(&bytes));
        assert_eq!((found[0].start, found[0].end), (0x1008, 0x1009));
        assert_eq!((found[1].start, found[1].end), (0x1012, 0x1013));
        assert_eq!(found[1].rule.kind(), Some(RowKind::Outermost));
    }

    #[test]
    fn code_at_a_segment_s_start_is_passed_over() {
        assert!(restorers(&segment(RESTORERS[1])).is_empty());
        assert!(restorers(&segment(&[])).is_empty());
    }
}
