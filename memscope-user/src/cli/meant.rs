//! The databases a reading command means, each read so that one which cannot be keeps none of the others from being.

use std::collections::BTreeSet;
use std::io::{self, Write as _};

use super::arguments::TargetArguments;
use super::run::{CommandError, complain};
use super::select;
use crate::collection::error::CollectionError;
use crate::database::error::DatabaseError;
use crate::database::paths::Roots;
use crate::database::store::{self, Presence};
use crate::exit::ExitCode;
use crate::report::Escaped;
use crate::target::identity::TargetId;
use crate::target::process::Target;

/// Databases to read.
#[derive(Debug, Default)]
pub struct Meant {
    /// Which.
    pub ids: Vec<TargetId>,
    /// Those that a PID named: what goes wrong with one of them ends the command.
    named: BTreeSet<TargetId>,
    /// Processes that a name or an executable meant, and that have no database.
    pub untraced: Vec<TargetId>,
    /// How many were read.
    read: usize,
    /// How many could not be, and what the first of them would have ended the command with.
    unreadable: usize,
    failed: Option<ExitCode>,
}

impl Meant {
    /// The databases of a command line; every one of this host where no target is named. Processes that are meant by what
    /// they are called, and have no database, are named on stderr.
    ///
    /// # Errors
    /// A PID has no database; nothing matches, or nothing of what matches has one.
    pub fn of(roots: &Roots, target: &TargetArguments) -> Result<Self, CommandError> {
        if target.is_empty() {
            let mut ids = store::list(roots)?;
            ids.retain(|id| store::presence(&roots.session(*id)) == Presence::There);
            return Ok(Self { ids, ..Self::default() });
        }
        let mut found = Self::default();
        for pid in &target.pids {
            let id = select::database_of(roots, crate::target::identity::Pid(*pid))?;
            if found.named.insert(id) {
                found.ids.push(id);
            }
        }
        for matched in select::matched(roots, target)? {
            if found.ids.contains(&matched.id) {
                continue;
            }
            match store::presence(&roots.session(matched.id)) {
                Presence::There => found.ids.push(matched.id),
                Presence::Gone | Presence::BeingMade => {
                    tell_untraced(&matched);
                    found.untraced.push(matched.id);
                }
            }
        }
        Ok(found)
    }

    /// One database, whose errors are the command's.
    #[must_use]
    pub fn exactly(id: TargetId) -> Self {
        Self {
            ids: vec![id],
            named: [id].into(),
            ..Self::default()
        }
    }

    /// The same for commands without a text of old for "none": they say it on stderr.
    ///
    /// # Errors
    /// As [`Meant::of`].
    pub fn of_or_say_none(roots: &Roots, target: &TargetArguments) -> Result<Self, CommandError> {
        let meant = Self::of(roots, target)?;
        if meant.ids.is_empty() {
            say_none();
        }
        Ok(meant)
    }

    /// The same for a command that counts what it cannot read: no error of a database ends it.
    #[must_use]
    pub fn forgiving(self) -> Self {
        Self {
            named: BTreeSet::new(),
            ..self
        }
    }

    /// Reads one of them. `None`: another command is making or removing it just now, or it cannot be read, which is told of
    /// on stderr; the others can be all the same.
    ///
    /// # Errors
    /// The reading's, if a PID named this database, or if it is not about the database: the output is gone, a mark does not
    /// exist.
    pub fn read<T>(
        &mut self,
        roots: &Roots,
        id: TargetId,
        mut reading: impl FnMut() -> Result<T, CommandError>,
    ) -> Result<Option<T>, CommandError> {
        let mut again = true;
        loop {
            let error = match reading() {
                Ok(value) => {
                    self.read += 1;
                    return Ok(Some(value));
                }
                Err(error) if self.named.contains(&id) || !matches!(error, CommandError::Collection(_)) => {
                    return Err(error);
                }
                Err(error) => error,
            };
            match store::presence(&roots.session(id)) {
                Presence::Gone | Presence::BeingMade => return Ok(None),
                // A detach takes its maps away before its files.
                Presence::There if is_incomplete(&error) && store::is_locked(&roots.session(id)) => return Ok(None),
                // Finished since.
                Presence::There if is_incomplete(&error) && again => again = false,
                Presence::There => {
                    complain(&error);
                    self.unreadable += 1;
                    self.failed.get_or_insert(error.exit_code());
                    return Ok(None);
                }
            }
        }
    }

    /// How many could not be read.
    #[must_use]
    pub const fn unreadable(&self) -> usize {
        self.unreadable
    }

    /// Everything that was meant was looked at.
    #[must_use]
    pub const fn is_all_seen(&self) -> bool {
        self.unreadable == 0 && self.untraced.is_empty()
    }

    /// None was read, and nothing went wrong: all were gone when their turn came.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.read == 0 && self.unreadable == 0
    }

    /// What a command ends with that judges nothing.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self.failed {
            Some(code) => code,
            None if self.is_none() => ExitCode::NotFound,
            None => ExitCode::Success,
        }
    }
}

/// Says on stderr that there is no database.
pub fn say_none() {
    // Nothing more can be done when stderr is gone.
    let _ = writeln!(
        io::stderr(),
        "memscope: MemScope database does not exist: `memscope attach PID` makes one"
    );
}

fn tell_untraced(target: &Target) {
    let comm = target.comm().unwrap_or_default();
    let _ = writeln!(
        io::stderr(),
        "memscope: process {pid} {} has no database and is not looked at: `memscope attach {pid}` makes one",
        Escaped(&comm),
        pid = target.id.pid
    );
}

/// Pieces of the session are not there.
fn is_incomplete(error: &CommandError) -> bool {
    let CommandError::Collection(CollectionError::Database(error)) = error else {
        return false;
    };
    match error {
        DatabaseError::Missing(_) | DatabaseError::Unfinished { .. } => true,
        DatabaseError::File { source, .. } => source.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}
