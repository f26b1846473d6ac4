//! What `stats` and `list` share: what each collection costs, and documents of many databases.

pub mod list;
pub mod stats;

use std::fmt;
use std::io::{self, Write};

use serde::Serialize;

use crate::collection::cost::{self, Cost};
use crate::collection::status;
use crate::database::error::DatabaseError;
use crate::database::session::Session;
use crate::host::calibration::Calibration;
use crate::report::model::CollectionState;

/// What collection costs the target now.
#[derive(Debug, Serialize)]
struct CostPart {
    events_per_s: u64,
    percent_of_one_cpu: Option<f64>,
}

impl From<Cost> for CostPart {
    fn from(cost: Cost) -> Self {
        Self {
            events_per_s: cost.events_per_s.round() as u64,
            // A thousandth of a percent is finer than it is known.
            percent_of_one_cpu: cost.percent.map(|percent| (percent * 1000.0).round() / 1000.0),
        }
    }
}

impl fmt::Display for CostPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.percent_of_one_cpu {
            Some(percent) => write!(f, "{percent:.1} % of one CPU, {} events/s", self.events_per_s),
            None => write!(f, "{} events/s", self.events_per_s),
        }
    }
}

/// What each collection costs; `None` for those that do not run.
fn costs(sessions: &[Session], calibration: Option<&Calibration>) -> Result<Vec<Option<Cost>>, DatabaseError> {
    let mut running = Vec::new();
    let mut runs = Vec::new();
    for session in sessions {
        let collects = status::state(session)? == CollectionState::Collecting;
        runs.push(collects);
        if collects {
            running.push(session);
        }
    }
    let mut costs = cost::now(&running, calibration)?.into_iter();
    Ok(runs
        .into_iter()
        .map(|collects| if collects { costs.next() } else { None })
        .collect())
}

#[derive(Serialize)]
struct Document<'a, T> {
    schema: &'static str,
    databases: &'a [T],
}

fn write_document<T: Serialize>(out: &mut dyn Write, schema: &'static str, databases: &[T]) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &Document { schema, databases })?;
    writeln!(out)
}

fn write_lines<T: Serialize>(out: &mut dyn Write, databases: &[T]) -> io::Result<()> {
    for one in databases {
        serde_json::to_writer(&mut *out, one)?;
        writeln!(out)?;
    }
    Ok(())
}
