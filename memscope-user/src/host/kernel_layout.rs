//! Where the running kernel keeps what the programs read of its structures: from the kernel's own BTF.

use std::fmt;
use std::io;
use std::sync::OnceLock;

use memscope_ebpf::family::{TASK_FIELDS, TaskField};

/// The kernel's description of its own types.
const BTF: &str = "/sys/kernel/btf/vmlinux";

/// Structure and member, by [`TaskField`].
const FIELDS: [(TaskField, &str, &str); TASK_FIELDS] = [
    (TaskField::Pid, "task_struct", "pid"),
    (TaskField::Tgid, "task_struct", "tgid"),
    (TaskField::RealParent, "task_struct", "real_parent"),
    (TaskField::Mm, "task_struct", "mm"),
    (TaskField::GroupLeader, "task_struct", "group_leader"),
    (TaskField::StartBoottime, "task_struct", "start_boottime"),
    (TaskField::Signal, "task_struct", "signal"),
    (TaskField::SignalLive, "signal_struct", "live"),
    (TaskField::SignalFlags, "signal_struct", "flags"),
];

/// Why the places are not known.
#[derive(Clone, Debug)]
pub struct LayoutError(String);

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot follow children: {}; attach them one by one, without --follow",
            self.0
        )
    }
}

impl std::error::Error for LayoutError {}

/// The places, by [`TaskField`].
///
/// # Errors
/// The kernel has no BTF, or another structure than those known.
pub fn task_layout() -> Result<[u32; TASK_FIELDS], LayoutError> {
    static LAYOUT: OnceLock<Result<[u32; TASK_FIELDS], LayoutError>> = OnceLock::new();
    LAYOUT.get_or_init(read_layout).clone()
}

fn read_layout() -> Result<[u32; TASK_FIELDS], LayoutError> {
    let bytes = std::fs::read(BTF).map_err(|error: io::Error| LayoutError(format!("cannot read {BTF}: {error}")))?;
    let unreadable = || LayoutError(format!("{BTF} cannot be understood"));
    let types = Types::parse(&bytes).ok_or_else(unreadable)?;
    let mut places = [0; TASK_FIELDS];
    for (field, structure, member) in FIELDS {
        let place = types.offset(structure, member);
        places[field as usize] =
            place.ok_or_else(|| LayoutError(format!("this kernel has no {structure}.{member} that is known")))?;
    }
    Ok(places)
}

/// Structures and unions have members; anonymous ones lend theirs to what holds them.
const STRUCTURE: u32 = 4;
const UNION: u32 = 5;
/// How deep anonymous structures are searched.
const DEPTH: usize = 4;

/// The types of a BTF file (Documentation/bpf/btf.rst).
struct Types<'a> {
    bytes: &'a [u8],
    strings: usize,
    /// Where each type is, by its id less one.
    places: Vec<usize>,
}

impl<'a> Types<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.get(..2)? != [0x9f, 0xeb] {
            return None;
        }
        let header = word(bytes, 4)? as usize;
        let first = header.checked_add(word(bytes, 8)? as usize)?;
        let end = first.checked_add(word(bytes, 12)? as usize)?;
        let strings = header.checked_add(word(bytes, 16)? as usize)?;
        let (mut at, mut places) = (first, Vec::new());
        while at < end {
            places.push(at);
            let info = word(bytes, at + 4)?;
            let (kind, members) = (kind(info), (info & 0xffff) as usize);
            let more = match kind {
                // Integer, variable, declaration tag.
                1 | 14 | 17 => 4,
                // Array.
                3 => 12,
                // Structure, union, data section, 64-bit enumeration.
                STRUCTURE | UNION | 15 | 19 => members * 12,
                // Enumeration, function prototype.
                6 | 13 => members * 8,
                2 | 7..=12 | 16 | 18 => 0,
                _ => return None,
            };
            at = at.checked_add(12 + more)?;
        }
        Some(Self { bytes, strings, places })
    }

    /// Bytes from the start of the structure to its member.
    fn offset(&self, structure: &str, member: &str) -> Option<u32> {
        let found = self.places.iter().find(|at| {
            word(self.bytes, **at + 4).is_some_and(|info| kind(info) == STRUCTURE)
                && word(self.bytes, **at).is_some_and(|name| self.is_named(name, structure))
        });
        self.member(*found?, member, DEPTH).map(|bits| bits / 8)
    }

    /// Bits.
    fn member(&self, at: usize, wanted: &str, depth: usize) -> Option<u32> {
        let info = word(self.bytes, at + 4)?;
        if depth == 0 || !matches!(kind(info), STRUCTURE | UNION) {
            return None;
        }
        // With this flag the upper byte of an offset is the width of a bit field.
        let mask = if info >> 31 == 1 { 0x00ff_ffff } else { u32::MAX };
        (0..(info & 0xffff) as usize).find_map(|number| {
            let at = at + 12 + number * 12;
            let (name, kind) = (word(self.bytes, at)?, word(self.bytes, at + 4)?);
            let bits = word(self.bytes, at + 8)? & mask;
            if self.is_named(name, wanted) {
                return Some(bits);
            }
            if !self.is_named(name, "") {
                return None;
            }
            let inner = *self.places.get((kind as usize).checked_sub(1)?)?;
            bits.checked_add(self.member(inner, wanted, depth - 1)?)
        })
    }

    fn is_named(&self, name: u32, wanted: &str) -> bool {
        let start = self.strings.saturating_add(name as usize);
        self.bytes
            .get(start..)
            .is_some_and(|text| text.starts_with(wanted.as_bytes()) && text.get(wanted.len()) == Some(&0))
    }
}

fn kind(info: u32) -> u32 {
    info >> 24 & 0x1f
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct task { int a; struct { int pid; }; }`
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0task\0a\0pid\0";
        let mut types: Vec<u32> = Vec::new();
        types.extend([1, 1 << 24, 4, 32]);
        types.extend([0, STRUCTURE << 24 | 1, 4, 12, 1, 0]);
        types.extend([5, STRUCTURE << 24 | 2, 8, 10, 1, 0, 0, 2, 32]);
        let types: Vec<u8> = types.iter().flat_map(|word| word.to_le_bytes()).collect();
        let length = types.len() as u32;
        let header = [0xeb9f | 1 << 16, 24, 0, length, length, strings.len() as u32];
        let mut btf: Vec<u8> = header.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
        btf.extend(&types);
        btf.extend(strings);
        btf
    }

    #[test]
    fn members_are_found_and_those_of_anonymous_structures_too() {
        let btf = sample();
        let types = Types::parse(&btf).unwrap();
        assert_eq!(types.offset("task", "a"), Some(0));
        assert_eq!(types.offset("task", "pid"), Some(4));
        assert_eq!(types.offset("task", "pi"), None);
        assert_eq!(types.offset("tas", "pid"), None);
    }

    #[test]
    fn however_it_is_cut_short_there_is_an_answer_or_none() {
        let btf = sample();
        for cut in 0..btf.len() {
            let _ = Types::parse(&btf[..cut]).and_then(|types| types.offset("task", "pid"));
        }
    }
}
