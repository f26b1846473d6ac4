//! The truth as the target program tells it: every block it holds, address and size.

use std::collections::BTreeMap;

/// The live blocks of a target program by its own count: address → bytes asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger(pub BTreeMap<u64, u64>);

impl Ledger {
    /// Reads the lines of a dump, without its closing `end`. Panics on a line that is not `block <hexaddr> <size>` and
    /// on an address named twice: a ledger that contradicts itself proves nothing.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let mut blocks = BTreeMap::new();
        for line in lines {
            let (address, size) = block(line).unwrap_or_else(|| panic!("not a line of a ledger: {line:?}"));
            let known = blocks.insert(address, size);
            assert_eq!(known, None, "the program's ledger holds {address:#x} twice");
        }
        Self(blocks)
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no block is live.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sizes, ascending.
    pub fn sizes(&self) -> Vec<u64> {
        let mut sizes: Vec<u64> = self.0.values().copied().collect();
        sizes.sort_unstable();
        sizes
    }
}

fn block(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split(' ');
    let (Some("block"), Some(address), Some(size), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return None;
    };
    Some((
        u64::from_str_radix(address.strip_prefix("0x")?, 16).ok()?,
        size.parse().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_read_whole() {
        let ledger = Ledger::parse(["block 0x55d0c0 10007", "block 0x7f0000001000 0"]);
        assert_eq!(ledger.0, BTreeMap::from([(0x55_d0c0, 10_007), (0x7f00_0000_1000, 0)]));
        assert_eq!(ledger.sizes(), [0, 10_007]);
    }

    #[test]
    #[should_panic(expected = "twice")]
    fn a_ledger_that_holds_an_address_twice_is_refused() {
        Ledger::parse(["block 0x10 1", "block 0x10 2"]);
    }

    #[test]
    fn lines_of_another_form_are_no_blocks() {
        for line in [
            "",
            "block",
            "block 0x10",
            "block 10 1",
            "block 0x10 -1",
            "block 0x10 1 2",
            "blocks 0x10 1",
            "block 0xzz 1",
        ] {
            assert_eq!(block(line), None, "{line:?}");
        }
    }
}
