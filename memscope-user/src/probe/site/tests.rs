//! Tests of the site choice: the rules on bytes, real libraries' prologues, the host's libc, code compiled here.

mod compiled;
mod elf;
mod kernel;
mod landing;
mod libraries;
mod rules;

use memscope_ebpf::call::{Argument, CallIndex, CallKind, CallResult, CallSpec};

use super::{Emulation, ProbeSite, SiteClass};

const PUSH: SiteClass = SiteClass::Emulated(Emulation::Push);
const JUMP: SiteClass = SiteClass::Emulated(Emulation::Jump);
const JCC: SiteClass = SiteClass::Emulated(Emulation::ConditionalJump);

fn argument(position: u8) -> Argument {
    Argument::new(position).expect("one of six")
}

/// Bytes written as hex, blanks allowed.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    assert!(digits.len().is_multiple_of(2), "half a byte in {text:?}");
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex"))
        .collect()
}

/// The row of one of the C library's allocation functions.
fn spec(function: &str) -> CallSpec {
    let (kind, size, count, pointer, result) = match function {
        "malloc" | "valloc" | "pvalloc" => (CallKind::Alloc, Some(0), None, None, CallResult::Returned),
        "calloc" => (CallKind::Alloc, Some(1), Some(0), None, CallResult::Returned),
        "aligned_alloc" | "memalign" => (CallKind::Alloc, Some(1), None, None, CallResult::Returned),
        "posix_memalign" => (CallKind::Alloc, Some(2), None, None, CallResult::Stored(argument(0))),
        "realloc" => (CallKind::Realloc, Some(1), None, Some(0), CallResult::Returned),
        "reallocarray" => (CallKind::Realloc, Some(2), Some(1), Some(0), CallResult::Returned),
        "free" => (CallKind::Free, None, None, Some(0), CallResult::Nothing),
        other => panic!("no row for {other}"),
    };
    CallSpec {
        kind,
        size: size.map(argument),
        count: count.map(argument),
        pointer: pointer.map(argument),
        result,
        zero_size_frees: false,
        failure_frees: false,
        flags: None,
        by_exits: false,
        rounds: false,
        stepped: false,
        index: CallIndex(0),
    }
}

fn summary(site: &ProbeSite) -> (u32, &str, SiteClass) {
    (site.offset, site.instruction.as_str(), site.class)
}
