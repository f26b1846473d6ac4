//! Two live sets held against each other, whole: what was missed, what was invented, whose size differs.

use std::collections::BTreeMap;
use std::fmt;

use crate::ledger::Ledger;
use crate::report::{Database, Entry};

/// What is wrong with a report. Empty in all parts when it is the truth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Blocks the program holds and the report lacks: address, size.
    pub missed: Vec<(u64, u64)>,
    /// Blocks the report holds and the program does not, or holds once and the report twice: address, size.
    pub invented: Vec<(u64, u64)>,
    /// Blocks both hold: address, size in the ledger, size in the report.
    pub size_mismatch: Vec<(u64, u64, u64)>,
}

impl Difference {
    /// Whether both sets are the same.
    pub fn is_empty(&self) -> bool {
        self.missed.is_empty() && self.invented.is_empty() && self.size_mismatch.is_empty()
    }
}

/// Compares the whole set: every block once, none invented, sizes equal.
pub fn compare(ledger: &Ledger, entries: &[Entry]) -> Difference {
    let mut difference = Difference::default();
    let mut seen = BTreeMap::new();
    for entry in entries {
        let address = entry.address();
        let twice = seen.insert(address, entry.size).is_some();
        match ledger.0.get(&address) {
            Some(_) if twice => difference.invented.push((address, entry.size)),
            None => difference.invented.push((address, entry.size)),
            Some(&size) if size != entry.size => difference.size_mismatch.push((address, size, entry.size)),
            Some(_) => {}
        }
    }
    difference.missed = ledger
        .0
        .iter()
        .filter(|(a, _)| !seen.contains_key(a))
        .map(|(&a, &s)| (a, s))
        .collect();
    difference
}

/// Panics, with the whole difference and the stacks of what was invented, unless the report is the ledger.
pub fn assert_same(ledger: &Ledger, database: &Database, context: &str) {
    let difference = compare(ledger, &database.entries);
    if difference.is_empty() {
        return;
    }
    let mut stacks = String::new();
    for &(address, size) in difference.invented.iter().take(20) {
        for entry in database.entries.iter().filter(|entry| entry.address() == address) {
            let tid = entry.tid;
            stacks += &format!(
                "  {address:#x} size {size} tid {tid}: {:?}\n",
                database.functions(entry)
            );
        }
    }
    panic!(
        "{context}: the report is not the live set\n{difference}ledger holds {}, report {}\nstacks of the invented:\n{stacks}losses: {:?}\n{}",
        ledger.len(),
        database.entries.len(),
        database.losses,
        whole(database)
    );
}

fn whole(database: &Database) -> String {
    const ENTRIES_SHOWN: usize = 2_000;
    if database.entries.len() <= ENTRIES_SHOWN {
        format!("{database:#?}")
    } else {
        "(report too long to show)".to_owned()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 50;
        writeln!(
            f,
            "missed {}, invented {}, of another size {}",
            self.missed.len(),
            self.invented.len(),
            self.size_mismatch.len()
        )?;
        for (address, size) in self.missed.iter().take(SHOWN) {
            writeln!(f, "  missed   {address:#x} size {size}")?;
        }
        for (address, size) in self.invented.iter().take(SHOWN) {
            writeln!(f, "  invented {address:#x} size {size}")?;
        }
        for (address, ledger, report) in self.size_mismatch.iter().take(SHOWN) {
            writeln!(f, "  size     {address:#x} ledger {ledger} report {report}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(address: u64, size: u64) -> Entry {
        Entry {
            entry: 1,
            address: format!("{address:#x}"),
            size,
            age_s: 0,
            tid: 1,
            site: String::new(),
            kind: None,
        }
    }

    fn ledger(blocks: &[(u64, u64)]) -> Ledger {
        Ledger(blocks.iter().copied().collect())
    }

    #[test]
    fn equal_sets_have_no_difference_in_any_order() {
        let difference = compare(&ledger(&[(0x10, 1), (0x20, 2)]), &[entry(0x20, 2), entry(0x10, 1)]);
        assert!(difference.is_empty(), "{difference}");
    }

    #[test]
    fn a_block_the_report_lacks_is_missed() {
        let difference = compare(&ledger(&[(0x10, 1), (0x20, 2)]), &[entry(0x10, 1)]);
        assert_eq!(
            difference,
            Difference {
                missed: vec![(0x20, 2)],
                ..Difference::default()
            }
        );
    }

    #[test]
    fn a_block_the_program_does_not_hold_is_invented() {
        let difference = compare(&ledger(&[]), &[entry(0x10, 1)]);
        assert_eq!(
            difference,
            Difference {
                invented: vec![(0x10, 1)],
                ..Difference::default()
            }
        );
    }

    #[test]
    fn a_block_reported_twice_is_invented_once() {
        let difference = compare(&ledger(&[(0x10, 1)]), &[entry(0x10, 1), entry(0x10, 1)]);
        assert_eq!(
            difference,
            Difference {
                invented: vec![(0x10, 1)],
                ..Difference::default()
            }
        );
    }

    #[test]
    fn a_block_of_another_size_is_a_mismatch_and_not_missed() {
        let difference = compare(&ledger(&[(0x10, 1)]), &[entry(0x10, 3)]);
        assert_eq!(
            difference,
            Difference {
                size_mismatch: vec![(0x10, 1, 3)],
                ..Difference::default()
            }
        );
    }
}
