//! A stack, copied while its thread stood still.

use std::io;

use crate::target::address::RuntimeAddress;
use crate::target::memory::TargetMemory;

/// Bytes from an address on.
#[derive(Debug)]
pub struct StackCopy {
    start: u64,
    bytes: Vec<u8>,
}

impl StackCopy {
    /// These bytes, which were at this address.
    pub const fn new(start: u64, bytes: Vec<u8>) -> Self {
        Self { start, bytes }
    }
}

impl TargetMemory for StackCopy {
    fn read_into(&self, address: RuntimeAddress, buffer: &mut [u8]) -> io::Result<()> {
        let found = address
            .0
            .checked_sub(self.start)
            .and_then(|from| usize::try_from(from).ok())
            .and_then(|from| self.bytes.get(from..from.checked_add(buffer.len())?));
        let found = found.ok_or_else(|| io::Error::other("outside of the copied stack"))?;
        buffer.copy_from_slice(found);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_copied_is_read() {
        let copy = StackCopy::new(0x1000, (0..16).collect());
        assert_eq!(copy.read_word(RuntimeAddress(0x1008)).unwrap(), 0x0f0e_0d0c_0b0a_0908);
        for outside in [0, 0xfff, 0x1009, 0x1010, u64::MAX] {
            assert!(copy.read_word(RuntimeAddress(outside)).is_err(), "{outside:#x}");
        }
    }
}
