//! Measures unwind tables: rows, bytes, the time to make one (cold) and to take it from the cache (warm).
//! `cargo run --release -p memscope-user --example unwind-tables [FILE…]`

use std::path::Path;
use std::time::{Duration, Instant};

use memscope::unwind::cache::{Found, TableCache};
use memscope::unwind::table_for_elf;

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
            let begin = Instant::now();
            work();
            begin.elapsed()
        })
        .collect();
    times.sort();
    times[ROUNDS / 2]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
