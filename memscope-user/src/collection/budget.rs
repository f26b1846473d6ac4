//! After a budget was exceeded: the programs have stopped recording, and the probes, which still cost their trap, go.
//!
//! The kernel lets a program do nothing about its own probe, so that a process must take it out; a foreground `trace` does
//! at once, and every command that reads databases does first.

use super::error::CollectionError;
use super::{status, steps};
use crate::database::paths::Roots;
use crate::database::session::Session;
use crate::database::session_file::{Exceeded, SessionFile};
use crate::database::store;
use crate::target::identity::TargetId;

/// Takes the probes out of every target that has exceeded its budget; how many that were. What cannot be looked at, or
/// belongs to a command that is at work on it, is left for the next.
#[must_use]
pub fn take_probes_out(roots: &Roots) -> usize {
    let ids = store::list(roots).unwrap_or_default();
    let exceeded = |id: &&TargetId| may_stop(roots, **id) && take_out_of(roots, **id).unwrap_or(false);
    ids.iter().filter(exceeded).count()
}

/// Whether this session is one that its budget can stop, from its file alone: most are not.
fn may_stop(roots: &Roots, id: TargetId) -> bool {
    let paths = roots.session(id);
    paths.links().symlink_metadata().is_ok()
        && SessionFile::read(&paths.file(), id)
            .is_ok_and(|file| file.limits.max_cpu.is_some() && file.limits.over_budget == Exceeded::Stop)
}

fn take_out_of(roots: &Roots, id: TargetId) -> Result<bool, CollectionError> {
    let paths = roots.session(id);
    {
        let Some(_lock) = store::try_lock(&paths)? else {
            return Ok(false);
        };
        if status::stopped_by_budget(&Session::open(roots, id)?)?.is_none() {
            return Ok(false);
        }
    }
    steps::stop(roots, id)?;
    Ok(true)
}
