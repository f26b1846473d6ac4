//! What collection costs its target now: events counted over a moment, times what one costs on this host.

use std::thread;
use std::time::{Duration, Instant};

use memscope_ebpf::counter::Counter;

use crate::database::error::DatabaseError;
use crate::database::session::Session;
use crate::database::tally::Tally;
use crate::host::calibration::Calibration;
use crate::probe::plan::PlannedCall;

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

    fn cost_since(&self, before: &Self, usual: Usual, calibration: Option<&Calibration>) -> Cost {
        let seconds = self.at.duration_since(before.at).as_secs_f64().max(1e-6);
        let returned = self.returned.saturating_sub(before.returned) as f64;
        let freed = self.freed.saturating_sub(before.freed) as f64;
        Cost::of(returned, freed, seconds, usual, calibration)
    }
}

impl Cost {
    /// Of so many calls and frees in so many seconds.
    fn of(returned: f64, freed: f64, seconds: f64, usual: Usual, calibration: Option<&Calibration>) -> Self {
        let ns = calibration.map(|calibration| {
            calibration.cost_ns(2.0 * returned + freed, usual.frames) + calibration.steps_ns(returned * usual.steps)
        });
        Self {
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
            Ok(after.cost_since(&before, Usual::of(session)?, calibration))
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
    let usual = Usual::of(session)?;
    Ok(Some(Cost::of(
        count.returned as f64,
        count.freed as f64,
        seconds as f64,
        usual,
        calibration,
    )))
}

/// What a call is like on average, each site as often as it allocated.
#[derive(Clone, Copy, Debug)]
struct Usual {
    /// Frames of its stack.
    frames: f64,
    /// Hits of it that are single-stepped: its return at a `ret`, its entry where no cheaper instruction was found.
    steps: f64,
}

impl Usual {
    fn of(session: &Session) -> Result<Self, DatabaseError> {
        let calls = &session.file.calls;
        let (mut blocks, mut frames, mut steps) = (0u64, 0u64, 0u64);
        for record in session.site_records()? {
            blocks += record.allocated;
            frames += u64::from(record.frames) * record.allocated;
            let call = calls.get(usize::from(record.call));
            if let Some(spec) = call.and_then(PlannedCall::spec) {
                steps += record.allocated * (u64::from(spec.by_exits) + u64::from(spec.stepped));
            }
        }
        let share = |part: u64| {
            if blocks == 0 { 0.0 } else { part as f64 / blocks as f64 }
        };
        Ok(Self {
            frames: share(frames),
            steps: share(steps),
        })
    }
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
        let usual = Usual {
            frames: 10.0,
            steps: 0.5,
        };
        let cost = after.cost_since(&before, usual, None);
        assert_eq!((cost.events_per_s, cost.percent), (2000.0, None));
        let idle = before.cost_since(&before, usual, None);
        assert_eq!(idle.events_per_s, 0.0);
    }
}
