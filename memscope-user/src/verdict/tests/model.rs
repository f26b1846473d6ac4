//! The naive allocator: a list of blocks with birth, death and size, looked at at any moment.

use crate::report::cohorts::Cohorts;
use crate::report::sites::{Amount, BIRTH_BINS};
use crate::verdict::database::Doubts;
use crate::verdict::{Found, Judgement, PastPoint, SiteView, judge_site};

/// Never freed.
pub const FOREVER: u64 = u64::MAX;

/// One block; times in milliseconds since collection began.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    pub born: u64,
    pub died: u64,
    pub size: u64,
}

/// Every block a site ever made.
#[derive(Clone, Debug, Default)]
pub struct Stream(pub Vec<Life>);

impl Stream {
    pub fn add(&mut self, born: u64, died: u64, size: u64) {
        self.0.push(Life { born, died, size });
    }

    fn alive(&self, at: u64) -> impl Iterator<Item = &Life> {
        self.0.iter().filter(move |life| life.born <= at && life.died > at)
    }

    fn amount<'a>(lives: impl Iterator<Item = &'a Life>) -> Amount {
        lives.fold(Amount::default(), |mut sum, life| {
            sum.add(1, life.size);
            sum
        })
    }

    pub fn point(&self, at: u64) -> PastPoint {
        PastPoint {
            at_ms: at,
            allocated: Self::amount(self.0.iter().filter(|life| life.born <= at)),
            live: Self::amount(self.alive(at)),
            cohorts: Some(self.cohorts(at)),
        }
    }

    pub fn cohorts(&self, at: u64) -> Cohorts {
        let mut cohorts = Cohorts::of_window(at);
        self.alive(at).for_each(|life| cohorts.add(life.born));
        cohorts
    }

    pub fn births(&self, at: u64) -> Vec<Amount> {
        let mut births = vec![Amount::default(); BIRTH_BINS];
        for life in self.alive(at) {
            let bin = (life.born * BIRTH_BINS as u64 / at.max(1)) as usize;
            births[bin.min(BIRTH_BINS - 1)].add(1, life.size);
        }
        births
    }

    /// The judgement at a moment, with reports before it at others.
    pub fn judge(&self, at: u64, reports: &[u64]) -> Judgement {
        self.judge_doubting(at, reports, Doubts::default())
    }

    pub fn judge_doubting(&self, at: u64, reports: &[u64], doubts: Doubts) -> Judgement {
        self.judge_knowing(at, reports, doubts, None)
    }

    /// One judgement after the other at these moments, each knowing what the one before it found.
    pub fn watch(&self, reports: &[u64]) -> Vec<Judgement> {
        let mut found = None;
        (0..reports.len())
            .map(|index| {
                let judgement = self.judge_knowing(reports[index], &reports[..index], Doubts::default(), found);
                found = judgement.found;
                judgement
            })
            .collect()
    }

    pub fn judge_knowing(&self, at: u64, reports: &[u64], doubts: Doubts, found: Option<Found>) -> Judgement {
        let past: Vec<PastPoint> = reports.iter().map(|at| self.point(*at)).collect();
        self.judge_given(at, &past, doubts, found)
    }

    /// With what is known of earlier moments.
    pub fn judge_by(&self, at: u64, past: &[PastPoint]) -> Judgement {
        self.judge_given(at, past, Doubts::default(), None)
    }

    fn judge_given(&self, at: u64, past: &[PastPoint], doubts: Doubts, found: Option<Found>) -> Judgement {
        let births = self.births(at);
        let cohorts = self.cohorts(at);
        let now = self.point(at);
        let ages = || self.alive(at).map(|life| at - life.born);
        let view = SiteView {
            allocated: now.allocated,
            live: now.live,
            births: &births,
            cohorts: Some(&cohorts),
            window_ms: at,
            settled_ms: 0,
            oldest_ms: ages().max().unwrap_or(0),
            youngest_ms: ages().min().unwrap_or(0),
            found,
        };
        judge_site(&view, past, doubts)
    }
}

/// A small generator of random numbers (xorshift64*), so that every failure can be made again from its seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// 0 to 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    /// A number in a range, each order of magnitude as likely.
    pub fn pick(&mut self, from: f64, to: f64) -> f64 {
        from * (to / from).powf(self.unit())
    }

    /// A time to wait at a mean rate, milliseconds.
    pub fn exponential(&mut self, mean_ms: f64) -> f64 {
        -(1.0 - self.unit()).ln() * mean_ms
    }

    /// The moments of a Poisson process over a time.
    pub fn moments(&mut self, mean_ms: f64, from: u64, to: u64) -> Vec<u64> {
        let mut at = from as f64;
        let mut moments = Vec::new();
        loop {
            at += self.exponential(mean_ms);
            if at >= to as f64 {
                return moments;
            }
            moments.push(at as u64);
        }
    }
}
