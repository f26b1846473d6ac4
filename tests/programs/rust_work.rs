//! A Rust program at ordinary work: strings, trees, hash maps, shared objects, threads.

use std::collections::{BTreeMap, HashMap};
use std::io::BufRead;
use std::sync::Arc;

#[derive(Default)]
struct Holding {
    words: BTreeMap<String, Vec<u32>>,
    shared: Vec<Arc<str>>,
    wide: Vec<Box<Wide>>,
}

#[repr(align(64))]
struct Wide([u8; 192]);

fn crunch(round: u32, part: u32) -> (usize, Holding) {
    let mut holding = Holding::default();
    let mut other = HashMap::new();
    let mut sum = 0;
    for n in 0..2500_u32 {
        let word = format!("{round}-a-rather-long-prefix-{}-{part}", n * n % 997);
        holding.words.entry(word.clone()).or_default().push(n);
        other.insert(format!("{word}!"), word.repeat(2));
        if n % 10 == 0 {
            holding.shared.push(Arc::from(word.as_str()));
        }
        if n % 25 == 0 {
            holding.wide.push(Box::new(Wide([n as u8; 192])));
            sum += vec![0_u8; 5000 + n as usize].len();
        }
    }
    sum += holding.words.iter().map(|(word, numbers)| word.len() * numbers.len()).sum::<usize>();
    sum += other.values().map(String::len).sum::<usize>();
    sum += holding.wide.iter().map(|wide| usize::from(wide.0[7])).sum::<usize>();
    (sum, holding)
}

fn main() {
    let mut kept: Vec<Holding> = Vec::new();
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("commands are text");
        let Some(round) = line.strip_prefix("work ").and_then(|number| number.parse().ok()) else { break };
        let threads: Vec<_> = (0..4).map(|part| std::thread::spawn(move || crunch(round, part))).collect();
        let mut total = 0;
        for (part, thread) in threads.into_iter().enumerate() {
            let (sum, holding) = thread.join().expect("crunching does not fail");
            total += sum;
            if part % 2 == 1 {
                kept.push(holding);
            }
        }
        if kept.len() > 8 {
            kept.drain(..3);
        }
        println!("done {total} {}", kept.len());
    }
}
