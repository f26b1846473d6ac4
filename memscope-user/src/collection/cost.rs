//! What collection costs its target now: events counted over a moment, times what one costs on this host.

use std::thread;
use std::time::{Duration, Instant};

use memscope_ebpf::counter::Counter;

use crate::database::error::DatabaseError;
use crate::database::session::Session;
use crate::database::tally::Tally;
use crate::host::calibration::Calibration;

/// How long events are counted for.
pub const MOMENT: Duration = Duration::from_millis(200);

/// The cost of one collection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Calls and frees a second.
    pub events_per_s: f64,
    /// Percent of one CPU; `None` when this host was not calibrated.
    pub percent: Option<f64>,
}

/// Calls that hit a probe at their entry and one at their return.
const RETURNED: [Counter; 6] = [
    Counter::Allocated,
    Counter::Failed,
    Counter::Unsampled,
    Counter::Nested,
    Counter::LiveFull,
    Counter::LiveNoMemory,
];
/// Calls that hit one probe.
const FREED: [Counter; 3] = [Counter::Freed, Counter::FreeUnknown, Counter::FreeNull];

struct Count {
    at: Instant,
    returned: u64,
    freed: u64,
}

impl Count {
    fn of(tally: &Tally) -> Self {
        let sum = |counters: &[Counter]| counters.iter().map(|counter| tally.get(*counter)).sum();
        Self {
            at: Instant::now(),
            returned: sum(&RETURNED),
            freed: sum(&FREED),
        }
    }

    fn cost_since(&self, before: &Self, frames: f64, calibration: Option<&Calibration>) -> Cost {
        let seconds = self.at.duration_since(before.at).as_secs_f64().max(1e-6);
        let returned = self.returned.saturating_sub(before.returned) as f64;
        let freed = self.freed.saturating_sub(before.freed) as f64;
        let ns = calibration.map(|calibration| calibration.cost_ns(2.0 * returned + freed, frames));
        Cost {
            events_per_s: (returned + freed) / seconds,
            percent: ns.map(|ns| ns / seconds / 1e7),
        }
    }
}

/// What these collections cost now; all are counted over the same moment.
///
/// # Errors
/// A map cannot be read.
pub fn now(sessions: &[&Session], calibration: Option<&Calibration>) -> Result<Vec<Cost>, DatabaseError> {
    let count = |session: &&Session| session.tally().map(|tally| Count::of(&tally));
    let before: Vec<Count> = sessions.iter().map(count).collect::<Result<_, _>>()?;
    if !sessions.is_empty() {
        thread::sleep(MOMENT);
    }
    let pairs = sessions.iter().zip(before);
    pairs
        .map(|(session, before)| {
            let after = count(session)?;
            Ok(after.cost_since(&before, mean_frames(session)?, calibration))
        })
        .collect()
}

/// What collection has cost its target on average, over so many seconds since it began; `None` for none.
///
/// # Errors
/// A map cannot be read.
pub fn since_start(
    session: &Session,
    seconds: u64,
    calibration: Option<&Calibration>,
) -> Result<Option<Cost>, DatabaseError> {
    if seconds == 0 {
        return Ok(None);
    }
    let count = Count::of(&session.tally()?);
    let ns = match calibration {
        Some(calibration) => {
            let hits = 2.0 * count.returned as f64 + count.freed as f64;
            Some(calibration.cost_ns(hits, mean_frames(session)?))
        }
        None => None,
    };
    Ok(Some(Cost {
        events_per_s: (count.returned + count.freed) as f64 / seconds as f64,
        percent: ns.map(|ns| ns / seconds as f64 / 1e7),
    }))
}

/// Frames of a stack on average, each site as often as it allocated.
fn mean_frames(session: &Session) -> Result<f64, DatabaseError> {
    let records = session.site_records()?;
    let (frames, blocks) = records.iter().fold((0u64, 0u64), |(frames, blocks), record| {
        (
            frames + u64::from(record.frames) * record.allocated,
            blocks + record.allocated,
        )
    });
    Ok(if blocks == 0 {
        0.0
    } else {
        frames as f64 / blocks as f64
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_by_the_second_and_cost_nothing_when_there_are_none() {
        let before = Count {
            at: Instant::now(),
            returned: 100,
            freed: 50,
        };
        let after = Count {
            at: before.at + Duration::from_secs(2),
            returned: 2100,
            freed: 2050,
        };
        let cost = after.cost_since(&before, 10.0, None);
        assert_eq!((cost.events_per_s, cost.percent), (2000.0, None));
        let idle = before.cost_since(&before, 10.0, None);
        assert_eq!(idle.events_per_s, 0.0);
    }
}
