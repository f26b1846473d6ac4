//! The shapes a program's memory takes, each with its label and with rates that stay the same.

use super::model::{FOREVER, Random, Stream};
use super::streams::{bursts, cached, forever, lives, replaced, requests};

/// What a shape really is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    /// A leak that goes on.
    Leak,
    /// No leak, or one that has stopped.
    Sound,
}

/// A shape: name, label, and how its stream is made over a time in milliseconds.
pub struct Shape {
    pub name: &'static str,
    pub label: Label,
    pub make: fn(&mut Random, u64) -> Stream,
}

/// A leak.
pub const fn leak(name: &'static str, make: fn(&mut Random, u64) -> Stream) -> Shape {
    Shape {
        name,
        label: Label::Leak,
        make,
    }
}

/// No leak.
pub const fn sound(name: &'static str, make: fn(&mut Random, u64) -> Stream) -> Shape {
    Shape {
        name,
        label: Label::Sound,
        make,
    }
}

/// Every shape.
pub const SHAPES: &[Shape] = &[
    leak("steady leak, small", |random, to| {
        forever(&random.moments(100.0, 0, to))
    }),
    leak("steady leak, large", |random, to| {
        forever(&random.moments(1000.0, 0, to))
    }),
    leak("steady leak, periodic", |_, to| every(to, 500, 64)),
    leak("steady leak, rare", |_, to| every(to, 3000, 512)),
    leak("bursty leak", |random, to| bursts(random, to, 6000.0, 0.05, (40, 40))),
    leak("one thread of many", |random, to| {
        requests(random, to, 20.0, 0.05, 50.0)
    }),
    leak("leak behind a cache", |random, to| {
        requests(random, to, 50.0, 0.2, 3000.0)
    }),
    leak("leak in a container's elements", |random, to| {
        forever(&random.moments(30.0, 0, to))
    }),
    leak("one request in ten", |random, to| requests(random, to, 20.0, 0.1, 20.0)),
    leak("double-speed leak", |random, to| {
        let mut moments = random.moments(200.0, 0, to / 2);
        moments.extend(random.moments(100.0, to / 2, to));
        forever(&moments)
    }),
    leak("vector that never ends", |_, to| vector(to, 2000, u64::MAX)),
    sound("LRU cache, full", |random, to| {
        cached(random, 0, to, 50.0, 200.0, 1e9, 1.0)
    }),
    sound("LRU cache, full, hot keys", |random, to| {
        cached(random, 0, to, 20.0, 300.0, 5000.0, 4.0)
    }),
    sound("LRU cache, filling", |random, to| {
        cached(random, 0, to, 40.0, 2000.0, 1500.0, 1.0)
    }),
    sound("growing but bounded map", |random, to| {
        cached(random, 0, to, 60.0, 1e6, 800.0, 1.0)
    }),
    sound("start-up tables", |random, _| forever(&random.moments(2.0, 0, 3000))),
    sound("arena that grows in steps", |_, to| {
        let mut stream = Stream::default();
        let mut at = 500;
        while at < to {
            stream.add(at, FOREVER, 1 << 20);
            at *= 2;
        }
        stream
    }),
    sound("periodic flush", |random, to| {
        lives(&random.moments(20.0, 0, to), |at| (at / 10_000 + 1) * 10_000)
    }),
    sound("request churn", |random, to| requests(random, to, 10.0, 0.0, 40.0)),
    sound("idle", |_, _| Stream::default()),
    sound("fragmentation: random replacement", |random, to| {
        replaced(random, to, 300, 30.0)
    }),
    sound("slow random replacement", |random, to| replaced(random, to, 3000, 30.0)),
    sound("leak that stops", |random, to| {
        forever(&random.moments(50.0, 0, to * 2 / 5))
    }),
    sound("vector that ends", |_, to| vector(to, 2000, 1 << 14)),
    sound("vector reused", |random, to| {
        let mut stream = Stream::default();
        let mut at = 0;
        while at < to {
            let mut size = 64;
            for _ in 0..random.below(9) + 1 {
                stream.add(at, at + 20, size);
                size *= 2;
                at += 20;
            }
            at += random.below(300);
        }
        stream
    }),
    sound("sessions of a few seconds", |random, to| {
        requests(random, to, 80.0, 0.0, 5000.0)
    }),
    sound("pool in use before attach", |random, to| {
        // Its old blocks were born before collection began; only replacements are seen.
        let mut stream = replaced(random, to + 60_000, 400, 60.0);
        stream.0.retain(|life| life.born >= 60_000);
        for life in &mut stream.0 {
            life.born -= 60_000;
            life.died = life.died.saturating_sub(60_000).max(life.born);
        }
        stream
    }),
];

fn every(to: u64, step: u64, size: u64) -> Stream {
    let mut stream = Stream::default();
    (step..to)
        .step_by(step as usize)
        .for_each(|at| stream.add(at, FOREVER, size));
    stream
}

/// A vector pushed to, whose buffer is reallocated to twice the first sizes and then by a fixed step.
fn vector(to: u64, step: u64, most: u64) -> Stream {
    let mut stream = Stream::default();
    let mut size = 64;
    for at in (step..to).step_by(step as usize) {
        if let Some(last) = stream.0.last_mut() {
            last.died = at;
        }
        stream.add(at, FOREVER, size);
        if size >= most {
            break;
        }
        size = if size < 4096 { size * 2 } else { size + 4096 };
    }
    stream
}
