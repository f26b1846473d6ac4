//! The little of ELF that the tests need: functions and the text of a shared object of this host.

use std::fs;
use std::path::Path;

use crate::target::address::ElfAddress;

/// A function of the dynamic symbol table.
#[derive(Clone, Debug)]
pub struct Function {
    pub name: String,
    pub address: ElfAddress,
    pub size: usize,
}

/// A 64-bit little-endian ELF file with sections.
pub struct ElfFile {
    bytes: Vec<u8>,
    pub functions: Vec<Function>,
    text: (u64, usize, usize),
}

impl ElfFile {
    pub fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let half = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let short = |at: usize| usize::from(u16::from_le_bytes(bytes[at..at + 2].try_into().expect("2 bytes")));
        let headers = usize::try_from(word(0x20)).expect("offset");
        let text = (0..short(0x38))
            .map(|index| headers + index * 0x38)
            .find(|at| half(*at) == 1 && half(at + 4) & 1 == 1)
            .map(|at| (word(at + 0x10), word(at + 8) as usize, word(at + 0x20) as usize))
            .expect("an executable segment");
        let sections = word(0x28) as usize;
        let section = |index: usize| sections + index * 0x40;
        let mut functions = Vec::new();
        for header in (0..short(0x3c)).map(section).filter(|at| half(at + 4) == 11) {
            let names = word(section(half(header + 0x28) as usize) + 0x18) as usize;
            let (start, size) = (word(header + 0x18) as usize, word(header + 0x20) as usize);
            for symbol in (start..start + size).step_by(24) {
                let name = names + half(symbol) as usize;
                let length = bytes[name..].iter().position(|byte| *byte == 0).expect("terminated");
                if bytes[symbol + 4] & 0xf == 2 && word(symbol + 8) != 0 {
                    functions.push(Function {
                        name: String::from_utf8_lossy(&bytes[name..name + length]).into_owned(),
                        address: ElfAddress(word(symbol + 8)),
                        size: word(symbol + 16) as usize,
                    });
                }
            }
        }
        Self { bytes, functions, text }
    }

    pub fn text_address(&self) -> ElfAddress {
        ElfAddress(self.text.0)
    }

    pub fn text(&self) -> &[u8] {
        &self.bytes[self.text.1..self.text.1 + self.text.2]
    }

    pub fn code(&self, function: &Function) -> &[u8] {
        let start = usize::try_from(function.address.0 - self.text.0).expect("in the text");
        &self.text()[start..start + function.size]
    }

    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.name == name)
    }
}
