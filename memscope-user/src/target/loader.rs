//! How far a program's dynamic loader is, by what it keeps for debuggers (`struct r_debug`, <link.h>): read from outside.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use super::address::RuntimeAddress;
use super::identity::Pid;
use super::memory::{ProcessMemory, TargetMemory};

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loading {
    /// There is no loader: the program is static.
    Static,
    /// It has not mapped and relocated everything yet, or is loading a library just now.
    Underway,
    /// Everything is mapped and relocated.
    Done,
    /// The program keeps nothing for debuggers.
    Untold,
}

// <elf.h>, <link.h>.
const AT_PHDR: u64 = 3;
const AT_PHNUM: u64 = 5;
const AT_BASE: u64 = 7;
const AT_ENTRY: u64 = 9;
const AT_RANDOM: u64 = 25;
const PT_DYNAMIC: u32 = 2;
const PT_PHDR: u32 = 6;
const DT_NULL: u64 = 0;
const DT_DEBUG: u64 = 21;
const PROGRAM_HEADER_BYTES: usize = 56;
/// More than linkers write.
const MOST_HEADERS: u64 = 64;
const MOST_DYNAMIC: u64 = 512;

/// What the kernel told the program at its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Auxiliary {
    headers: u64,
    header_count: u64,
    /// Where on its stack the kernel put random bytes.
    random: u64,
    /// Where its loader was mapped; 0: it has none.
    pub base: u64,
    /// Its first instruction, after the loader.
    pub entry: u64,
}

impl Auxiliary {
    /// Of a process.
    ///
    /// # Errors
    /// It has ended, or may not be looked at.
    pub fn of(pid: Pid) -> io::Result<Self> {
        fs::read(format!("/proc/{pid}/auxv")).map(|bytes| Self::parse(&bytes))
    }

    fn parse(bytes: &[u8]) -> Self {
        let mut found = Self::default();
        for pair in bytes.chunks_exact(16) {
            let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| pair[at + byte]));
            let value = word(8);
            match word(0) {
                AT_PHDR => found.headers = value,
                AT_PHNUM => found.header_count = value,
                AT_BASE => found.base = value,
                AT_ENTRY => found.entry = value,
                AT_RANDOM => found.random = value,
                _ => {}
            }
        }
        found
    }
}

/// How far the loader of a process is.
///
/// # Errors
/// It has ended, or may not be looked at.
pub fn state(pid: Pid) -> io::Result<Loading> {
    state_in(&Auxiliary::of(pid)?, &ProcessMemory::open(pid)?)
}

/// The same, of a memory at hand.
///
/// # Errors
/// It cannot be read.
pub fn state_in(auxiliary: &Auxiliary, memory: &dyn TargetMemory) -> io::Result<Loading> {
    if auxiliary.base == 0 {
        return Ok(Loading::Static);
    }
    let Some(dynamic) = dynamic_section(auxiliary, memory)? else {
        return Ok(Loading::Untold);
    };
    for number in 0..MOST_DYNAMIC {
        let at = dynamic.wrapping_add(number * 16);
        match memory.read_word(RuntimeAddress(at))? {
            DT_NULL => return Ok(Loading::Untold),
            DT_DEBUG => {
                let debug = memory.read_word(RuntimeAddress(at.wrapping_add(8)))?;
                return debug_state(debug, memory);
            }
            _ => {}
        }
    }
    Ok(Loading::Untold)
}

/// `struct r_debug { int r_version; struct link_map *r_map; ElfW(Addr) r_brk; enum { RT_CONSISTENT, … } r_state; … }`: all
/// zero before the loader has set it up.
fn debug_state(debug: u64, memory: &dyn TargetMemory) -> io::Result<Loading> {
    if debug == 0 {
        return Ok(Loading::Underway);
    }
    let word = |offset: u64| memory.read_word(RuntimeAddress(debug.wrapping_add(offset)));
    let (version, map, state) = (word(0)? as u32, word(8)?, word(24)? as u32);
    Ok(if version != 0 && map != 0 && state == 0 {
        Loading::Done
    } else {
        Loading::Underway
    })
}

fn dynamic_section(auxiliary: &Auxiliary, memory: &dyn TargetMemory) -> io::Result<Option<u64>> {
    let (mut own, mut dynamic) = (None, None);
    for number in 0..auxiliary.header_count.min(MOST_HEADERS) {
        let mut header = [0; PROGRAM_HEADER_BYTES];
        let at = auxiliary.headers.wrapping_add(number * PROGRAM_HEADER_BYTES as u64);
        memory.read_into(RuntimeAddress(at), &mut header)?;
        let kind = u32::from_le_bytes(std::array::from_fn(|byte| header[byte]));
        let address = u64::from_le_bytes(std::array::from_fn(|byte| header[16 + byte]));
        match kind {
            PT_PHDR => own = Some(address),
            PT_DYNAMIC => dynamic = Some(address),
            _ => {}
        }
    }
    // A program without PT_PHDR is linked to run where it says.
    let bias = own.map_or(0, |own| auxiliary.headers.wrapping_sub(own));
    Ok(dynamic.map(|dynamic| bias.wrapping_add(dynamic)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory from 0x1000 on.
    struct Recorded(Vec<u8>);

    impl TargetMemory for Recorded {
        fn read_into(&self, address: RuntimeAddress, buffer: &mut [u8]) -> io::Result<()> {
            let from = address
                .0
                .checked_sub(0x1000)
                .and_then(|from| usize::try_from(from).ok());
            let bytes = from
                .and_then(|from| self.0.get(from..from.checked_add(buffer.len())?))
                .ok_or_else(|| io::Error::other("not mapped"))?;
            buffer.copy_from_slice(bytes);
            Ok(())
        }
    }

    /// Two program headers at 0x1000, a dynamic section at 0x1100, the loader's structure at 0x1200.
    fn recorded(debug: u64, version: u32, state: u32) -> (Auxiliary, Recorded) {
        let mut bytes = vec![0; 0x300];
        let mut put = |at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        put(0, u64::from(PT_PHDR));
        put(16, 0x40);
        put(PROGRAM_HEADER_BYTES, u64::from(PT_DYNAMIC));
        put(PROGRAM_HEADER_BYTES + 16, 0x140);
        put(0x100, 1);
        put(0x110, DT_DEBUG);
        put(0x118, debug);
        put(0x200, u64::from(version));
        put(0x208, 0x5555);
        put(0x218, u64::from(state));
        let auxiliary = Auxiliary {
            headers: 0x1000,
            header_count: 2,
            base: 0x7000,
            entry: 0,
            ..Auxiliary::default()
        };
        (auxiliary, Recorded(bytes))
    }

    fn told(debug: u64, version: u32, state: u32) -> Loading {
        let (auxiliary, memory) = recorded(debug, version, state);
        state_in(&auxiliary, &memory).unwrap()
    }

    #[test]
    fn the_loader_is_done_when_its_structure_says_consistent() {
        assert_eq!(told(0, 0, 0), Loading::Underway);
        assert_eq!(told(0x1200, 0, 0), Loading::Underway);
        assert_eq!(told(0x1200, 1, 1), Loading::Underway);
        assert_eq!(told(0x1200, 1, 0), Loading::Done);
    }

    #[test]
    fn a_program_without_loader_is_static_and_a_lie_is_an_error() {
        let (auxiliary, memory) = recorded(0x1200, 1, 0);
        let no_loader = Auxiliary { base: 0, ..auxiliary };
        assert_eq!(state_in(&no_loader, &memory).unwrap(), Loading::Static);
        let elsewhere = Auxiliary {
            headers: u64::MAX - 8,
            ..auxiliary
        };
        assert!(state_in(&elsewhere, &memory).is_err());
        assert!(told_lie().is_err());
    }

    fn told_lie() -> io::Result<Loading> {
        let (auxiliary, memory) = recorded(u64::MAX - 4, 1, 0);
        state_in(&auxiliary, &memory)
    }

    #[test]
    fn this_program_is_loaded() {
        let state = state(Pid(std::process::id())).unwrap();
        assert!(matches!(state, Loading::Done | Loading::Static), "{state:?}");
    }
}
