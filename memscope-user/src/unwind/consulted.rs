//! The addresses a walk can look up: the ends of everything that could be a call, and of system calls.
//!
//! x86 code cannot be disassembled reliably without knowing where instructions begin, so every byte is taken for a
//! beginning: a superset, which costs a few rows and cannot miss a real call.

use super::image::CodeSegment;

/// A set of addresses of one segment with constant-time range queries.
#[derive(Debug)]
pub struct ConsultedAddresses {
    start: u64,
    /// One bit an address.
    bits: Vec<u64>,
    /// Bits set before each word.
    ranks: Vec<u32>,
}

impl ConsultedAddresses {
    /// Scans a segment. A return address is looked up as itself minus one, a system call's as itself: a signal may
    /// interrupt the thread there.
    #[must_use]
    pub fn scan(segment: &CodeSegment<'_>) -> Self {
        let bytes = segment.bytes;
        let mut bits = vec![0u64; bytes.len() / 64 + 1];
        let mut mark = |position: usize| {
            if position < bytes.len()
                && let Some(word) = bits.get_mut(position / 64)
            {
                *word |= 1 << (position % 64);
            }
        };
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                // call rel32
                0xe8 => mark(at + 4),
                // call r/m64, far call
                0xff => {
                    if let Some(length) = indirect_call_length(&bytes[at + 1..]) {
                        mark(at + length - 1);
                    }
                }
                // syscall
                0x0f if bytes.get(at + 1) == Some(&0x05) => mark(at + 2),
                _ => {}
            }
        }
        let mut ranks = Vec::with_capacity(bits.len());
        let mut rank = 0;
        for word in &bits {
            ranks.push(rank);
            rank += word.count_ones();
        }
        Self {
            start: segment.address,
            bits,
            ranks,
        }
    }

    /// How many addresses of the set lie in `start..end`.
    #[must_use]
    pub fn count(&self, start: u64, end: u64) -> u32 {
        self.rank(end).saturating_sub(self.rank(start))
    }

    /// How many addresses of the set lie below `address`.
    fn rank(&self, address: u64) -> u32 {
        let position = address.saturating_sub(self.start);
        let word = usize::try_from(position / 64).unwrap_or(usize::MAX);
        match (self.bits.get(word), self.ranks.get(word)) {
            (Some(bits), Some(rank)) => rank + (bits & ((1 << (position % 64)) - 1)).count_ones(),
            _ => self.total(),
        }
    }

    /// Size of the set.
    #[must_use]
    pub fn total(&self) -> u32 {
        match (self.bits.last(), self.ranks.last()) {
            (Some(bits), Some(rank)) => rank + bits.count_ones(),
            _ => 0,
        }
    }
}

/// Length of `ff /2` and `ff /3` with what follows the opcode; `None` when it is another instruction.
fn indirect_call_length(operands: &[u8]) -> Option<usize> {
    let modrm = *operands.first()?;
    if !matches!(modrm >> 3 & 7, 2 | 3) {
        return None;
    }
    let (mode, rm) = (modrm >> 6, modrm & 7);
    let sib = mode != 3 && rm == 4;
    let displacement = match mode {
        0 if rm == 5 => 4,
        0 if sib && operands.get(1)? & 7 == 5 => 4,
        1 => 1,
        2 => 4,
        _ => 0,
    };
    Some(2 + usize::from(sib) + displacement)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(bytes: &[u8]) -> Vec<u64> {
        let set = ConsultedAddresses::scan(&CodeSegment {
            address: 0x1000,
            offset: 0,
            bytes,
        });
        let marked: Vec<u64> = (0x1000..0x1000 + bytes.len() as u64 + 1)
            .filter(|address| set.count(*address, address + 1) == 1)
            .collect();
        assert_eq!(marked.len(), set.total() as usize);
        assert_eq!(set.count(0, u64::MAX), set.total());
        marked
    }

    #[test]
    fn every_encoding_of_call_ends_where_the_processor_says() {
        let nop = 0x90;
        for (code, length) in [
            (&[0xe8, 1, 0, 0, 0][..], 5),         // call rel32
            (&[0xff, 0xd0], 2),                   // call *%rax
            (&[0xff, 0x10], 2),                   // call *(%rax)
            (&[0xff, 0x15, 1, 0, 0, 0], 6),       // call *1(%rip)
            (&[0xff, 0x14, 0x24], 3),             // call *(%rsp)
            (&[0xff, 0x14, 0xc5, 1, 0, 0, 0], 7), // call *1(,%rax,8)
            (&[0xff, 0x50, 8], 3),                // call *8(%rax)
            (&[0xff, 0x54, 0x24, 8], 4),          // call *8(%rsp)
            (&[0xff, 0x90, 0, 1, 0, 0], 6),       // call *256(%rax)
            (&[0xff, 0x94, 0xc3, 0, 1, 0, 0], 7), // call *256(%rbx,%rax,8)
            (&[0xff, 0x18], 2),                   // lcall *(%rax)
        ] {
            for prefix in [&[][..], &[0x41], &[0x3e, 0x66]] {
                let mut bytes = prefix.to_vec();
                bytes.extend_from_slice(code);
                bytes.extend_from_slice(&[nop; 8]);
                assert_eq!(
                    marks(&bytes),
                    [0x1000 + (prefix.len() + length) as u64 - 1],
                    "{code:x?}"
                );
            }
        }
    }

    #[test]
    fn a_system_call_is_looked_up_after_itself() {
        assert_eq!(marks(&[0x0f, 0x05, 0x90]), [0x1002]);
    }

    #[test]
    fn jumps_and_cut_off_calls_are_nothing() {
        assert!(marks(&[0xff, 0xe0, 0xff, 0x25, 0, 0, 0, 0]).is_empty());
        assert!(marks(&[0x90, 0xff]).is_empty());
        assert!(marks(&[0xe8, 0, 0]).is_empty());
    }

    #[test]
    fn ranges_across_words_are_counted() {
        let bytes: Vec<u8> = [0xe8, 0, 0, 0, 0].repeat(100);
        let set = ConsultedAddresses::scan(&CodeSegment {
            address: 0x400,
            offset: 0,
            bytes: &bytes,
        });
        assert_eq!(set.total(), 100);
        assert_eq!(set.count(0x400, 0x400 + 5 * 64), 64);
        assert_eq!(set.count(0x404, 0x405), 1);
        assert_eq!(set.count(0x405, 0x409), 0);
        assert_eq!(set.count(0x500, 0x500), 0);
        assert_eq!(set.count(0x500, 0x400), 0);
    }
}
