//! The shapes a program's memory takes, each with its label.

use std::collections::BTreeMap;

use super::model::{FOREVER, Random, Stream};

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

const fn leak(name: &'static str, make: fn(&mut Random, u64) -> Stream) -> Shape {
    Shape {
        name,
        label: Label::Leak,
        make,
    }
}

const fn sound(name: &'static str, make: fn(&mut Random, u64) -> Stream) -> Shape {
    Shape {
        name,
        label: Label::Sound,
        make,
    }
}

/// Every shape.
pub const SHAPES: &[Shape] = &[
    leak("steady leak, small", |random, to| poisson_leak(random, to, 100.0, 32)),
    leak("steady leak, large", |random, to| {
        poisson_leak(random, to, 1000.0, 1 << 20)
    }),
    leak("steady leak, periodic", |_, to| every(to, 500, 64)),
    leak("steady leak, rare", |_, to| every(to, 3000, 512)),
    leak("bursty leak", |random, to| bursts(random, to, 6000)),
    leak("one thread of many", |random, to| {
        leak_among(random, to, 0.05, 20.0, 50.0)
    }),
    leak("leak behind a cache", |random, to| {
        leak_among(random, to, 0.2, 50.0, 3000.0)
    }),
    leak("leak in a container's elements", |random, to| {
        poisson_leak(random, to, 30.0, 48)
    }),
    leak("one request in ten", |random, to| {
        leak_among(random, to, 0.1, 20.0, 20.0)
    }),
    leak("double-speed leak", |random, to| {
        let mut stream = Stream::default();
        random
            .moments(200.0, 0, to / 2)
            .iter()
            .for_each(|at| stream.add(*at, FOREVER, 64));
        random
            .moments(100.0, to / 2, to)
            .iter()
            .for_each(|at| stream.add(*at, FOREVER, 64));
        stream
    }),
    leak("vector that never ends", |_, to| vector(to, 2000, u64::MAX)),
    sound("LRU cache, full", |random, to| lru(random, to, 200, 50.0, 1 << 30)),
    sound("LRU cache, full, hot keys", lru_skewed),
    sound("LRU cache, filling", |random, to| lru(random, to, 2000, 40.0, 1500)),
    sound("growing but bounded map", |random, to| {
        lru(random, to, 1 << 20, 60.0, 800)
    }),
    sound("start-up tables", |random, to| {
        let mut stream = Stream::default();
        random
            .moments(2.0, 0, 3000)
            .iter()
            .for_each(|at| stream.add(*at, FOREVER, 200));
        let _ = to;
        stream
    }),
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
        let mut stream = Stream::default();
        for at in random.moments(20.0, 0, to) {
            stream.add(at, (at / 10_000 + 1) * 10_000, 128);
        }
        stream
    }),
    sound("request churn", |random, to| leak_among(random, to, 0.0, 10.0, 40.0)),
    sound("idle", |_, _| Stream::default()),
    sound("fragmentation: random replacement", |random, to| {
        replaced(random, to, 300, 30.0)
    }),
    sound("slow random replacement", |random, to| replaced(random, to, 3000, 30.0)),
    sound("leak that stops", |random, to| {
        poisson_leak(random, to * 2 / 5, 50.0, 64)
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
        let mut stream = Stream::default();
        for at in random.moments(80.0, 0, to) {
            let life = random.exponential(5000.0) as u64 + 1;
            stream.add(at, at + life, 4096);
        }
        stream
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

fn poisson_leak(random: &mut Random, to: u64, mean_ms: f64, size: u64) -> Stream {
    let mut stream = Stream::default();
    random
        .moments(mean_ms, 0, to)
        .iter()
        .for_each(|at| stream.add(*at, FOREVER, size));
    stream
}

fn bursts(random: &mut Random, to: u64, step: u64) -> Stream {
    let mut stream = Stream::default();
    for start in (step / 2..to).step_by(step as usize) {
        for _ in 0..40 + random.below(40) {
            stream.add(start + random.below(300), FOREVER, 100);
        }
    }
    stream
}

/// A share of blocks leaks; the rest lives an exponential time.
fn leak_among(random: &mut Random, to: u64, share: f64, every_ms: f64, life_ms: f64) -> Stream {
    let mut stream = Stream::default();
    for at in random.moments(every_ms, 0, to) {
        let died = if random.unit() < share {
            FOREVER
        } else {
            at + random.exponential(life_ms) as u64 + 1
        };
        stream.add(at, died, 64);
    }
    stream
}

/// An LRU cache asked for uniformly random keys; `keys` of them, `room` places.
fn lru(random: &mut Random, to: u64, room: usize, every_ms: f64, keys: u64) -> Stream {
    let requests: Vec<(u64, u64)> = random
        .moments(every_ms, 0, to)
        .into_iter()
        .map(|at| (at, random.below(keys)))
        .collect();
    lru_of(&requests, room)
}

/// The same with keys of which few are asked for most of the time.
fn lru_skewed(random: &mut Random, to: u64) -> Stream {
    let requests: Vec<(u64, u64)> = random
        .moments(20.0, 0, to)
        .into_iter()
        .map(|at| (at, (random.unit().powi(4) * 5000.0) as u64))
        .collect();
    lru_of(&requests, 300)
}

pub fn lru_of(requests: &[(u64, u64)], room: usize) -> Stream {
    let mut stream = Stream::default();
    // Last use of a key by its number among the requests, and the key's place in the stream.
    let mut order: BTreeMap<usize, u64> = BTreeMap::new();
    let mut held: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
    for (now, (at, key)) in requests.iter().enumerate() {
        let place = match held.get(key) {
            Some((used, place)) => {
                order.remove(used);
                *place
            }
            None => {
                stream.add(*at, FOREVER, 256);
                stream.0.len() - 1
            }
        };
        held.insert(*key, (now, place));
        order.insert(now, *key);
        if held.len() > room
            && let Some((_, oldest)) = order.pop_first()
            && let Some((_, place)) = held.remove(&oldest)
        {
            stream.0[place].died = *at;
        }
    }
    stream
}

/// A pool of places of which a random one is replaced each time: the average size of what is alive never changes.
pub fn replaced(random: &mut Random, to: u64, places: usize, every_ms: f64) -> Stream {
    let mut stream = Stream::default();
    let mut pool = Vec::new();
    for _ in 0..places {
        pool.push(stream.0.len());
        stream.add(0, FOREVER, 50);
    }
    for at in random.moments(every_ms, 1, to) {
        let place = random.below(places as u64) as usize;
        stream.0[pool[place]].died = at;
        pool[place] = stream.0.len();
        stream.add(at, FOREVER, 20 + random.below(200));
    }
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
