//! How sure a verdict is: a product of shares, each of which says what would make it surer.

use super::database::Doubts;
use super::judgement::{Rate, Verdict};
use super::thresholds::{MIN_WINDOW_MS, NEVER_FREED_CEILING};

/// What a confidence is made of.
#[derive(Clone, Copy, Debug)]
pub struct Grounds {
    /// Length of the judged window and of the time it was watched on, milliseconds.
    pub window_ms: f64,
    /// Blocks the verdict rests on: settled survivors for a leak, allocations otherwise.
    pub events: u64,
    /// Growth.
    pub rate: Option<Rate>,
    /// The site never freed a block.
    pub never_freed: bool,
    /// Earlier reports used.
    pub earlier_reports: usize,
    /// What was not seen.
    pub doubts: Doubts,
}

/// 0 to 1.
///
/// - events `n`: n / (n + 8), half at eight, 0.95 at 150; the same once more when blocks are sampled, since each then stands
///   for others that were not seen;
/// - window `w`: w / (w + a quarter of the minimum), 0.8 at a minute, 0.98 at ten minutes;
/// - a leak's fit: its R²;
/// - allocations lost: their share off; survivors that missed frees could explain: their share off;
/// - each earlier report takes a tenth of what is missing to 1 off, three at most.
#[must_use]
pub fn confidence(verdict: Verdict, grounds: Grounds) -> f64 {
    let events = grounds.events as f64;
    let enough = events / (events + 8.0);
    let mut sure = enough;
    sure *= grounds.window_ms / (grounds.window_ms + MIN_WINDOW_MS as f64 / 4.0);
    if verdict == Verdict::Leaking {
        sure *= grounds.rate.map_or(1.0, |rate| rate.fit);
    }
    for _ in 0..grounds.earlier_reports.min(3) {
        sure += (1.0 - sure) * 0.1;
    }
    if verdict == Verdict::Leaking && grounds.never_freed {
        sure = sure.min(NEVER_FREED_CEILING);
    }
    if grounds.doubts.sampled {
        sure *= enough;
    }
    sure *= grounds.doubts.trust_in(grounds.events);
    if verdict == Verdict::Undecided {
        sure.min(0.5)
    } else {
        sure
    }
}
