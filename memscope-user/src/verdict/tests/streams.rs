//! How a site's blocks come and go: the processes that shapes are made of.

use std::collections::BTreeMap;

use super::model::{FOREVER, Random, Stream};

/// Blocks that are never freed.
pub fn forever(moments: &[u64]) -> Stream {
    lives(moments, |_| FOREVER)
}

/// Blocks that die when this says.
pub fn lives(moments: &[u64], mut died: impl FnMut(u64) -> u64) -> Stream {
    let mut stream = Stream::default();
    moments.iter().for_each(|at| stream.add(*at, died(*at), 64));
    stream
}

/// Bursts of `least` blocks and up to `more` others, some milliseconds apart in a burst; the time between bursts varies by a share.
pub fn bursts(random: &mut Random, to: u64, every: f64, varies: f64, (least, more): (u64, u64)) -> Stream {
    let (mut stream, mut at) = (Stream::default(), 0.0);
    loop {
        at += every * (1.0 + varies * (2.0 * random.unit() - 1.0));
        if at >= to as f64 {
            return stream;
        }
        for _ in 0..least + random.below(more) {
            at += random.exponential(8.0);
            stream.add(at as u64, FOREVER, 64);
        }
    }
}

/// A share of requests is lost; the rest lives an exponential time.
pub fn requests(random: &mut Random, to: u64, mean: f64, share: f64, life: f64) -> Stream {
    let moments = random.moments(mean, 0, to);
    lives(&moments, |at| lost_or(random, at, share, life))
}

/// When a block of such requests dies.
pub fn lost_or(random: &mut Random, at: u64, share: f64, life: f64) -> u64 {
    if random.unit() < share {
        FOREVER
    } else {
        at + random.exponential(life) as u64 + 1
    }
}

/// Keys asked for at random, the first ones the more often the greater `skew`, of a cache that evicts the least lately used.
pub fn cached(random: &mut Random, from: u64, to: u64, mean: f64, room: f64, keys: f64, skew: f64) -> Stream {
    let requests: Vec<(u64, u64)> = random
        .moments(mean, from.min(to), to)
        .into_iter()
        .map(|at| (at, (random.unit().powf(skew) * keys) as u64))
        .collect();
    lru_of(&requests, room as usize)
}

fn lru_of(requests: &[(u64, u64)], room: usize) -> Stream {
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

/// A buffer that grows by reallocation: each place takes that of the one before it.
pub fn buffer(sizes: impl IntoIterator<Item = (u64, u64)>) -> Stream {
    let mut stream = Stream::default();
    for (at, size) in sizes {
        if let Some(last) = stream.0.last_mut() {
            last.died = at;
        }
        stream.add(at, FOREVER, size);
    }
    stream
}
