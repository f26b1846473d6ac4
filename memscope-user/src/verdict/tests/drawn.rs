//! The shapes of the live corpus (`tests/programs/*_shapes.c`) as streams, with rates and lives drawn as they are there.

use super::model::{FOREVER, Random, Stream};
use super::shapes::{Shape, leak, sound};
use super::streams::{buffer, bursts, cached, forever, lives, lost_or, replaced, requests};

/// Every one.
pub const DRAWN: &[Shape] = &[
    leak("steady_small", |random, to| steady(random, to, 20.0, 200.0)),
    leak("steady_large", |random, to| steady(random, to, 500.0, 1500.0)),
    leak("rare", |random, to| steady(random, to, 2000.0, 4000.0)),
    leak("bursty", |random, to| {
        let (every, more) = (random.pick(4000.0, 8000.0), 10 + random.below(50));
        bursts(random, to, every, 0.3, (5, more))
    }),
    leak("one_thread_of_many", |random, to| {
        let (share, mean) = (1.0 / (3.0 + random.below(5) as f64), random.pick(60.0, 200.0));
        requests(random, to, mean * share, share, 20.0)
    }),
    leak("behind_cache", behind_cache),
    leak("some_requests", |random, to| {
        let (mean, share, life) = (random.pick(8.0, 40.0), random.pick(0.02, 0.3), random.pick(2.0, 200.0));
        requests(random, to, mean, share, life)
    }),
    leak("swinging_load", |random, to| {
        let (mean, share, life) = (random.pick(10.0, 60.0), random.pick(0.05, 1.0), random.pick(2.0, 200.0));
        swinging(random, to, mean, share, life)
    }),
    leak("double_speed", |random, to| {
        let (mean, faster) = (random.pick(50.0, 400.0), random.pick(30e3, 90e3) as u64);
        let mut moments = random.moments(mean, 0, faster.min(to));
        moments.extend(random.moments(mean / 2.0, faster.min(to), to));
        forever(&moments)
    }),
    leak("late", |random, to| {
        let (mean, from) = (random.pick(20.0, 200.0), random.pick(8e3, 30e3) as u64);
        forever(&random.moments(mean, from, to))
    }),
    leak("endless_vector", endless_vector),
    sound("vector_that_ends", |random, to| {
        let (mean, until) = (random.pick(200.0, 2000.0), random.pick(15e3, 45e3) as u64);
        let step = random.pick(64.0, 8192.0) as u64;
        let moments = random.moments(mean, 0, until.min(to));
        buffer(moments.into_iter().zip((1..).map(|steps| 64 + steps * step)))
    }),
    sound("vector_reused", |random, to| {
        let mean = random.pick(20.0, 200.0);
        let mut stream = Stream::default();
        for at in random.moments(mean, 0, to) {
            let doublings = 1 + random.below(9);
            (1..=doublings).for_each(|doubling| stream.add(at, at + u64::from(doubling == doublings), 64 << doubling));
            if let Some(last) = stream.0.last_mut() {
                last.died = at + random.exponential(mean / 2.0) as u64 + 1;
            }
        }
        stream
    }),
    sound("lru_full", |random, to| {
        let (room, mean) = (random.pick(50.0, 500.0), random.pick(5.0, 25.0));
        let keys = room * (3 + random.below(8)) as f64;
        cached(random, 0, to, mean, room, keys, 1.0)
    }),
    sound("lru_hot", |random, to| {
        let (room, mean, skew) = (
            random.pick(50.0, 300.0),
            random.pick(5.0, 25.0),
            1.0 + 3.0 * random.unit(),
        );
        let keys = room * (5 + random.below(20)) as f64;
        cached(random, 0, to, mean, room, keys, skew)
    }),
    sound("lru_filling", |random, to| {
        let (mean, skew) = (random.pick(10.0, 40.0), 1.0 + random.unit());
        let keys = 120e3 / mean / random.pick(3.0, 8.0);
        let room = keys * (0.5 + 0.4 * random.unit());
        cached(random, 0, to, mean, room, keys, skew)
    }),
    sound("late_cache", |random, to| {
        let (mean, skew, from) = (random.pick(10.0, 40.0), 1.0 + random.unit(), random.pick(8e3, 35e3));
        let keys = (120e3 - from) / mean / random.pick(3.0, 8.0);
        let room = keys * (0.5 + 0.4 * random.unit());
        cached(random, from as u64, to, mean, room, keys, skew)
    }),
    sound("bounded_map", |random, to| {
        let mean = random.pick(10.0, 40.0);
        let keys = 120e3 / mean / random.pick(2.5, 8.0);
        cached(random, 0, to, mean, keys, keys, 1.0)
    }),
    sound("late_map", |random, to| {
        let (mean, from) = (random.pick(10.0, 40.0), random.pick(8e3, 35e3));
        let keys = (120e3 - from) / mean / random.pick(2.5, 8.0);
        cached(random, from as u64, to, mean, keys, keys, 1.0)
    }),
    sound("ring_of_lines", |random, to| {
        let (mean, full) = (random.pick(5.0, 50.0), random.pick(2e3, 25e3));
        ring(random, to, mean, (full / mean) as usize)
    }),
    sound("expiring", |random, to| {
        let (mean, life) = (random.pick(10.0, 80.0), random.pick(5e3, 40e3) as u64);
        lives(&random.moments(mean, 0, to), |at| at + life)
    }),
    sound("startup_tables", |random, to| {
        let mut stream = Stream::default();
        load_tables(random, &mut stream, 0, to);
        stream
    }),
    sound("tables_loaded_later", |random, to| {
        let (mut stream, later) = (Stream::default(), random.pick(10e3, 80e3) as u64);
        load_tables(random, &mut stream, 0, to);
        load_tables(random, &mut stream, later, to);
        stream
    }),
    sound("leak_that_stops", |random, to| {
        let (mean, until) = (random.pick(20.0, 150.0), random.pick(20e3, 45e3) as u64);
        forever(&random.moments(mean, 0, until.min(to)))
    }),
    sound("arena_in_steps", arena_in_steps),
    sound("connection_pool", connection_pool),
    sound("churn", |random, to| {
        let (mean, life) = (random.pick(3.0, 20.0), random.pick(2.0, 100.0));
        requests(random, to, mean, 0.0, life)
    }),
    sound("sessions", |random, to| {
        let (mean, life) = (random.pick(30.0, 150.0), random.pick(2e3, 12e3));
        requests(random, to, mean, 0.0, life)
    }),
    sound("long_sessions", |random, to| {
        let (mean, life) = (random.pick(30.0, 150.0), random.pick(15e3, 40e3));
        requests(random, to, mean, 0.0, life)
    }),
    sound("mixed_lives", |random, to| {
        let (mean, share, life) = (random.pick(10.0, 60.0), random.pick(0.02, 0.3), random.pick(5e3, 40e3));
        let mut stream = Stream::default();
        for at in random.moments(mean, 0, to) {
            let life = if random.unit() < share { life } else { 20.0 };
            stream.add(at, at + random.exponential(life) as u64 + 1, 64);
        }
        stream
    }),
    sound("swinging_sessions", |random, to| {
        let (mean, life) = (random.pick(15.0, 60.0), random.pick(100.0, 6e3));
        swinging(random, to, mean, 0.0, life)
    }),
    sound("queue", |random, to| {
        let (mean, load) = (random.pick(10.0, 60.0), 0.7 + 0.25 * random.unit());
        let (mut stream, mut ready) = (Stream::default(), 0.0);
        for at in random.moments(mean, 0, to) {
            ready = f64::max(ready, at as f64) + random.exponential(mean * load);
            stream.add(at, ready as u64 + 1, 64);
        }
        stream
    }),
    sound("periodic_flush", |random, to| {
        let (mean, every) = (random.pick(10.0, 50.0), random.pick(4e3, 20e3) as u64);
        lives(&random.moments(mean, 0, to), |at| (at / every + 1) * every)
    }),
    sound("sweeps", |random, to| {
        let (mean, every, in_use) = (
            random.pick(5.0, 30.0),
            random.pick(3e3, 12e3) as u64,
            0.2 * random.unit(),
        );
        let moments = random.moments(mean, 0, to);
        lives(&moments, |at| {
            let mut sweep = at / every + 1;
            while random.unit() < in_use {
                sweep += 1;
            }
            sweep * every
        })
    }),
    sound("fragmentation", |random, to| {
        let (places, mean) = (random.pick(200.0, 1000.0) as usize, random.pick(5.0, 40.0));
        replaced(random, to, places, mean)
    }),
    sound("pool_from_before", |random, to| {
        let (places, mean) = (random.pick(200.0, 1000.0) as usize, random.pick(5.0, 40.0));
        let mut stream = replaced(random, to, places, mean);
        stream.0.retain(|life| life.born > 0);
        stream
    }),
];

fn steady(random: &mut Random, to: u64, least: f64, most: f64) -> Stream {
    let mean = random.pick(least, most);
    forever(&random.moments(mean, 0, to))
}

/// The same under a load that swings.
fn swinging(random: &mut Random, to: u64, mean: f64, share: f64, life: f64) -> Stream {
    let (period, swing, phase) = (random.pick(10e3, 40e3), 0.3 + 0.6 * random.unit(), random.unit());
    let (mut stream, mut at) = (Stream::default(), 0.0);
    loop {
        let load = 1.0 + swing * (2.0 * std::f64::consts::PI * (at / period + phase)).sin();
        at += random.exponential(mean / load);
        if at >= to as f64 {
            return stream;
        }
        stream.add(at as u64, lost_or(random, at as u64, share, life), 64);
    }
}

fn behind_cache(random: &mut Random, to: u64) -> Stream {
    let room = random.pick(50.0, 300.0);
    let keys = room * (3 + random.below(8)) as f64;
    let (mean, share) = (random.pick(10.0, 40.0), random.pick(0.05, 0.3));
    let mut stream = cached(random, 0, to, mean, room, keys, 1.0);
    for life in &mut stream.0 {
        if random.unit() < share {
            life.died = FOREVER;
        }
    }
    stream
}

fn ring(random: &mut Random, to: u64, mean: f64, room: usize) -> Stream {
    let moments = random.moments(mean, 0, to);
    let mut stream = Stream::default();
    for (number, at) in moments.iter().enumerate() {
        let died = moments.get(number + room.max(1)).copied().unwrap_or(FOREVER);
        stream.add(*at, died, 64);
    }
    stream
}

fn load_tables(random: &mut Random, stream: &mut Stream, from: u64, to: u64) {
    let lasts = random.pick(200.0, 4000.0);
    let mean = lasts / random.pick(500.0, 5000.0);
    for at in random.moments(mean, from, from + lasts as u64) {
        if at < to {
            stream.add(at, FOREVER, 64);
        }
    }
}

/// Chunks at the high-water mark of a random walk.
fn arena_in_steps(random: &mut Random, to: u64) -> Stream {
    let (mean, step) = (random.pick(10.0, 50.0), random.pick(0.02, 0.2));
    let (mut stream, mut used, mut chunks) = (Stream::default(), 0.0_f64, 0.0);
    for at in random.moments(mean, 0, to) {
        used = (used + if random.unit() < 0.5 { step } else { -step }).abs();
        while used > chunks {
            stream.add(at, FOREVER, 65_536);
            chunks += 1.0;
        }
    }
    stream
}

/// Connections opened when none is idle, and kept.
fn connection_pool(random: &mut Random, to: u64) -> Stream {
    let mean = random.pick(10.0, 60.0);
    let life = mean * random.pick(10.0, 80.0);
    let (mut stream, mut busy_until): (Stream, Vec<f64>) = (Stream::default(), Vec::new());
    for at in random.moments(mean, 0, to) {
        let until = at as f64 + random.exponential(life);
        match busy_until.iter_mut().find(|busy| **busy <= at as f64) {
            Some(idle) => *idle = until,
            None => {
                stream.add(at, FOREVER, 4096);
                busy_until.push(until);
            }
        }
    }
    stream
}

/// A vector of numbers without an end, that grows by steps or by a share of what it has.
fn endless_vector(random: &mut Random, to: u64) -> Stream {
    let growth = if random.unit() < 0.5 {
        1.0
    } else {
        random.pick(1.05, 1.25)
    };
    let (mean, step) = (random.pick(2.0, 20.0), random.pick(50.0, 200.0));
    let (mut room, mut grown) = (0, Vec::new());
    for (count, at) in random.moments(mean, 0, to).into_iter().enumerate() {
        if count == room {
            room = (room as f64 * growth + step) as usize;
            grown.push((at, room as u64 * 8));
        }
    }
    buffer(grown)
}
