//! What a database is made with, and keeps: a later start, attach or refresh goes by it.

use super::error::CollectionError;
use crate::allocator::discovery::Wanted;
use crate::allocator::spec::CustomSpec;
use crate::database::session::Session;
use crate::database::session_file::Limits;
use crate::host::preflight::{Accepted, Danger};

/// What a database is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Live blocks it can hold; `None`: as many as any.
    pub live_capacity: Option<u32>,
    /// Functions named by hand.
    pub by_hand: Vec<CustomSpec>,
    /// Memory regions are followed, too.
    pub regions: bool,
    /// What collection may cost, and whether it samples.
    pub limits: Limits,
    /// `limits.over_budget` was asked for, and is not merely what goes without saying.
    pub over_budget_given: bool,
    /// Dangers to the target that the user accepts.
    pub accepted: Accepted,
}

impl Settings {
    /// Those a session was made with. A specification that this version no longer understands is passed over: the version
    /// in the file is checked before.
    #[must_use]
    pub fn of(session: &Session) -> Self {
        let saved = session.file.by_hand.iter();
        Self {
            live_capacity: Some(session.file.capacities.live),
            by_hand: saved
                .filter_map(|spec| CustomSpec::parse(spec.kind, &spec.text).ok())
                .collect(),
            regions: session.file.capacities.regions > 0,
            limits: session.file.limits,
            over_budget_given: true,
            accepted: session.file.accepted,
        }
    }

    /// What a survey is to look for.
    #[must_use]
    pub fn wanted(&self) -> Wanted<'_> {
        Wanted {
            by_hand: &self.by_hand,
            regions: self.regions,
            accept_exceptions: self.accepted.has(Danger::Exceptions),
        }
    }

    /// Refuses settings given to a database that was made with others: they would be taken for followed.
    ///
    /// # Errors
    /// As said.
    pub fn require_those_of(&self, session: &Session) -> Result<(), CollectionError> {
        let made_with = Self::of(session);
        let (limits, theirs) = (self.limits, made_with.limits);
        let given_and_other = [
            ("settings, without --regions", self.regions && !made_with.regions),
            (
                "functions named by hand",
                !self.by_hand.is_empty() && self.by_hand != made_with.by_hand,
            ),
            (
                "room for blocks than this --max-blocks",
                self.live_capacity.is_some() && self.live_capacity != made_with.live_capacity,
            ),
            (
                "sampling than this --sample-bytes",
                limits.sample_bytes.is_some() && limits.sample_bytes != theirs.sample_bytes,
            ),
            (
                "limits than this --max-cpu",
                limits.max_cpu.is_some() && limits.max_cpu != theirs.max_cpu,
            ),
            (
                "limits than this --max-cpu and --over-budget",
                self.over_budget_given && limits.over_budget != theirs.over_budget,
            ),
        ];
        match given_and_other.into_iter().find(|(_, other)| *other) {
            Some((what, _)) => Err(CollectionError::OtherSettings {
                pid: session.file.target.pid.0,
                what,
            }),
            None => Ok(()),
        }
    }
}
