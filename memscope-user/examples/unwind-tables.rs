//! Measures unwind tables: rows, bytes, CPU time to make one (cold) and to take it from the cache (warm).
//! `cargo run --release -p memscope-user --example unwind-tables [FILE…]`

use std::path::Path;
use std::time::Duration;

use memscope::unwind::cache::{Found, TableCache};
use memscope::unwind::table_for_elf;
use rustix::time::{ClockId, clock_gettime};

const LIBRARIES: [&str; 4] = [
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
    "/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
    "/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0",
];
const ROUNDS: usize = 15;

fn main() {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let files: Vec<&str> = if given.is_empty() {
        LIBRARIES.to_vec()
    } else {
        given.iter().map(String::as_str).collect()
    };
    let folder = std::env::temp_dir().join(format!("memscope-unwind-tables-{}", std::process::id()));
    println!(
        "| file | rows | bytes | call sites with a rule | made in, ms | from the cache in, ms |\n|---|---:|---:|---:|---:|---:|"
    );
    for file in files {
        match std::fs::read(file) {
            Ok(elf) => measure(file, &elf, &folder),
            Err(error) => eprintln!("{file}: {error}"),
        }
    }
    if let Err(error) = std::fs::remove_dir_all(&folder) {
        eprintln!("{}: {error}", folder.display());
    }
}

fn measure(file: &str, elf: &[u8], folder: &Path) {
    let table = match table_for_elf(elf) {
        Ok(table) => table,
        Err(error) => return eprintln!("{file}: {error}"),
    };
    let cache = TableCache::open(folder).expect("a folder of our own");
    cache.table(elf).expect("it was made before");
    let cold = median(|| drop(table_for_elf(elf)));
    let warm = median(|| {
        let found = cache.table(elf).expect("it was made before").1;
        assert_eq!(found, Found::Warm);
    });
    let name = Path::new(file).file_name().unwrap_or_default().to_string_lossy();
    println!(
        "| {name} | {} | {} | {:.2} % | {:.1} | {:.1} |",
        table.rows.len(),
        (table.rows.len() + table.pages.len()) * 8,
        table.coverage.usable_share() * 100.0,
        milliseconds(cold),
        milliseconds(warm)
    );
}

fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begin = of_this_thread();
            work();
            of_this_thread().saturating_sub(begin)
        })
        .collect();
    times.sort();
    times[ROUNDS / 2]
}

/// Time on a CPU: others that want the CPU do not count.
fn of_this_thread() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
