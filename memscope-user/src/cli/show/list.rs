//! `list`: every database on this host, a line each.

use std::io::{self, Write as _};

use serde::Serialize;

use super::{CostPart, costs, write_document, write_lines};
use crate::cli::arguments::{Format, ListArguments, TargetArguments};
use crate::cli::meant::Meant;
use crate::cli::run::{CommandError, complain};
use crate::collection::cost::Cost;
use crate::collection::status;
use crate::database::error::DatabaseError;
use crate::database::paths::Roots;
use crate::database::session::Session;
use crate::exit::ExitCode;
use crate::host::calibration::Calibration;
use crate::report::Escaped;
use crate::target::identity::TargetId;

/// Name of the format.
const LIST: &str = "memscope.list/v1";

/// One line of `list`.
#[derive(Debug, Serialize)]
struct Listed {
    pid: u32,
    start_time: u64,
    comm: String,
    state: String,
    seconds: u64,
    blocks: u64,
    bytes: u64,
    cost: Option<CostPart>,
}

fn listed(session: &Session, cost: Option<Cost>) -> Result<Listed, DatabaseError> {
    let id = session.file.target;
    let collection = status::collection(session)?;
    let totals = session.live_totals()?;
    Ok(Listed {
        pid: id.pid.0,
        start_time: id.start_time.0,
        comm: session.file.comm.clone(),
        state: collection.state.text().to_owned(),
        seconds: collection.seconds,
        blocks: totals.blocks,
        bytes: totals.bytes,
        cost: cost.map(CostPart::from),
    })
}

/// Runs `list`. A database that cannot be read is listed as such, and told of on stderr.
///
/// # Errors
/// The store cannot be read, or the output not written.
pub fn run(arguments: &ListArguments) -> Result<ExitCode, CommandError> {
    let roots = Roots::from_environment();
    let mut all = Vec::new();
    let unreadable = |id: TargetId, error: DatabaseError| {
        complain(&error);
        Listed {
            pid: id.pid.0,
            start_time: id.start_time.0,
            comm: String::new(),
            state: "unreadable".to_owned(),
            seconds: 0,
            blocks: 0,
            bytes: 0,
            cost: None,
        }
    };
    let mut sessions = Vec::new();
    // One that is being made just now is none yet.
    for id in Meant::of(&roots, &TargetArguments::default())?.ids {
        match Session::open(&roots, id) {
            Ok(session) => sessions.push(session),
            Err(error) => all.push(unreadable(id, error)),
        }
    }
    // Measuring this host takes a moment: `stats` does.
    let calibration = Calibration::kept(&roots);
    // A session that goes away meanwhile is told of below.
    let costs = costs(&sessions, calibration.as_ref()).unwrap_or_default();
    let costs = costs.into_iter().chain(std::iter::repeat(None));
    for (session, cost) in sessions.iter().zip(costs) {
        let id = session.file.target;
        all.push(listed(session, cost).unwrap_or_else(|error| unreadable(id, error)));
    }
    all.sort_by_key(|one| (one.pid, one.start_time));
    let mut out = io::stdout().lock();
    match arguments.format {
        Format::Text => {
            writeln!(
                out,
                "{:>8} {:<16} {:<11} {:>9} {:>12} {:>15} {:>9} {:>6}",
                "PID", "COMM", "STATE", "SECONDS", "BLOCKS", "BYTES", "EVENTS/S", "CPU%"
            )?;
            for one in &all {
                let comm = Escaped(&one.comm).to_string();
                let cost = one.cost.as_ref();
                let events = cost.map_or_else(|| "-".to_owned(), |cost| cost.events_per_s.to_string());
                let percent = cost.and_then(|cost| cost.percent_of_one_cpu);
                let percent = percent.map_or_else(|| "-".to_owned(), |percent| format!("{percent:.1}"));
                let Listed {
                    pid,
                    state,
                    seconds,
                    blocks,
                    bytes,
                    ..
                } = one;
                writeln!(
                    out,
                    "{pid:>8} {comm:<16} {state:<11} {seconds:>9} {blocks:>12} {bytes:>15} {events:>9} {percent:>6}"
                )?;
            }
        }
        Format::Json => write_document(&mut out, LIST, &all)?,
        Format::Ndjson => write_lines(&mut out, &all)?,
    }
    out.flush()?;
    Ok(ExitCode::Success)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::schemas::check;

    #[test]
    fn json_is_what_the_schema_says() {
        let listed = |state: &str, cost| Listed {
            pid: 1,
            start_time: 2,
            comm: "x".to_owned(),
            state: state.to_owned(),
            seconds: 3,
            blocks: 4,
            bytes: 5,
            cost,
        };
        let cost = CostPart {
            events_per_s: 12,
            percent_of_one_cpu: None,
        };
        let mut out = Vec::new();
        write_document(
            &mut out,
            LIST,
            &[listed("collecting", Some(cost)), listed("unreadable", None)],
        )
        .unwrap();
        check::document(&serde_json::from_slice(&out).unwrap());
    }
}
