//! Prints the oracle's table: every program with every allocator. `oracle-table [EVENTS]`: at least so many in all.

use std::process::ExitCode;

use memscope_tests::oracle::{Allocator, pair};
use memscope_tests::workload::Kind;

/// Rounds of each program that make about half a million calls of its allocator.
const fn rounds(kind: Kind) -> u32 {
    match kind {
        Kind::Redis => 16,
        Kind::Python => 5,
        Kind::Sqlite => 16,
        Kind::Nginx => 100,
        Kind::Git => 100,
        Kind::Perl => 8,
        Kind::Cxx => 6,
        Kind::Rust => 10,
    }
}

fn main() -> ExitCode {
    let wanted: u64 = std::env::args()
        .nth(1)
        .map_or(10_000_000, |text| text.parse().expect("a number of events"));
    let (mut events, mut wrong, mut pass) = (0, 0, 1);
    println!("{}", pair::TABLE_HEAD);
    while events < wanted {
        for kind in Kind::ALL {
            for allocator in Allocator::ALL {
                let row = pair::run(kind, allocator, rounds(kind) * pass);
                println!("{row}");
                events += row.events;
                wrong += usize::from(!row.exact());
            }
        }
        pass += 1;
    }
    println!("\n{events} events, {wrong} pairs that are not exact");
    if wrong == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
