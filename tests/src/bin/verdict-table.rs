//! Prints the confusion matrix of verdicts over the labelled corpus. `verdict-table [RUNS [SEED]]`: so many runs, two and a half
//! minutes each, with this seed and those after it; without one, from the clock.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use memscope_tests::corpus::{self, Matrix};

fn main() -> ExitCode {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|text| text.parse::<u64>().expect("a number"));
    let runs = arguments.next().unwrap_or(1);
    let seed = arguments.next().unwrap_or_else(|| {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("a clock after 1970");
        now.as_secs() % 1_000_000
    });
    let mut matrix = Matrix::default();
    for seed in seed..seed + runs {
        matrix.add(&corpus::run(seed));
    }
    println!("\n{matrix}");
    for (what, list) in [("accused", &matrix.accusations), ("missed", &matrix.missed)] {
        for one in list {
            println!(
                "{what}: {} copy {} {:?} after {} ms: {}",
                one.shape, one.copy, one.view, one.after_ms, one.line
            );
        }
    }
    if matrix.accusations.is_empty() && matrix.found * 100 >= matrix.leaks * 95 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
