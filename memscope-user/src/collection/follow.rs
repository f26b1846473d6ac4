//! Attaches the members of a followed family as they are born, each into a database of its own with the family's settings.

mod due;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use memscope_ebpf::family::Member;

use due::{Next, Seen, Watch, age, next};

use super::attach::{Attached, attach};
use super::error::CollectionError;
use super::settings::Settings;
use super::steps;
use crate::database::error::DatabaseError;
use crate::database::family::{Ended, Family, Name, Untold};
use crate::database::load::Diagnostics;
use crate::database::paths::Roots;
use crate::database::session_file::{Followed, SessionFile};
use crate::database::store;
use crate::target::descendants;
use crate::target::identity::{Pid, TargetId};
use crate::target::loader;
use crate::target::process::{Target, TargetError};

/// Different names of processes that were missed which are told; the others are counted.
const MOST_NAMES: usize = 100;
/// The tree of processes is looked at until nobody new is in it, but not without end.
const MOST_LOOKS: usize = 100;

/// Follows one family.
pub struct Follower<'a> {
    roots: &'a Roots,
    family: Family,
    settings: Settings,
    most_databases: usize,
    databases: usize,
    /// Children that were not noted: told of when there are so many.
    tell_untold_at: u64,
    seen: BTreeMap<TargetId, Seen>,
    /// What came of it.
    pub tally: Tally,
}

/// What became of the members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Children (and children's programs) attached.
    pub watched: usize,
    /// Those refused; why was told of each.
    pub refused: usize,
    /// Ended before they could be attached, by command name.
    pub missed: BTreeMap<String, usize>,
    /// The same, of further names.
    pub missed_others: usize,
}

/// Something to tell.
#[derive(Debug)]
pub enum News {
    /// A member is watched from now on.
    Watched {
        /// Who.
        id: TargetId,
        /// What was noted of it.
        member: Member,
        /// For how long it, or its program, ran unwatched, at most.
        unwatched: Duration,
    },
    /// It is not.
    Refused {
        /// Who.
        id: TargetId,
        /// What was noted of it.
        member: Member,
        /// Why.
        error: CollectionError,
    },
    /// Children could not even be noted; told of again when they are twice as many.
    Unnoted {
        /// The first target of their family.
        root: TargetId,
        /// How many, since the family was begun.
        children: u64,
    },
}

/// How a look at the family ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Living members.
    pub living: usize,
    /// When to look again though nothing happens.
    pub again: Option<Duration>,
}

impl<'a> Follower<'a> {
    /// Begins, or takes up what an earlier follower left: from here on no child of the target goes unnoted.
    ///
    /// # Errors
    /// Another command follows it; this kernel cannot.
    pub fn begin(
        roots: &'a Roots,
        root: TargetId,
        settings: &Settings,
        most_databases: usize,
    ) -> Result<Self, CollectionError> {
        Ok(Self {
            roots,
            family: Family::follow(roots, root)?,
            settings: settings.clone(),
            most_databases,
            databases: databases_of(roots, root)?,
            tell_untold_at: 1,
            seen: BTreeMap::new(),
            tally: Tally::default(),
        })
    }

    /// The first target has been attached, or has ended: its settings are its descendants', and those that live already are
    /// members.
    ///
    /// # Errors
    /// There are too many.
    pub fn first_is_attached(&mut self, settings: Settings) -> Result<(), CollectionError> {
        self.settings = settings;
        self.family.forget_the_dead()?;
        let root = self.family.root;
        let first = self.family.members()?.into_iter().find(|(id, _)| *id == root);
        if let Some((_, member)) = first {
            let program = member.exec_at_ns;
            self.seen.insert(root, Seen::new(program, Watch::On));
        }
        for _ in 0..MOST_LOOKS {
            let mut anybody = false;
            for kin in descendants::living(root.pid) {
                anybody |= self.family.enter(kin.id)?;
            }
            if !anybody {
                break;
            }
        }
        Ok(())
    }

    /// The family.
    #[must_use]
    pub fn family(&self) -> &Family {
        &self.family
    }

    /// Members that are attached now.
    #[must_use]
    pub fn watched_now(&self) -> usize {
        self.seen.values().filter(|seen| seen.watch == Watch::On).count()
    }

    /// Counts of what could not be noted.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn untold(&self) -> Result<Untold, DatabaseError> {
        self.family.untold()
    }

    /// Looks at the family and attaches who is due.
    ///
    /// # Errors
    /// The family's maps cannot be read; that a member cannot be attached is no error.
    pub fn look(&mut self, tell: &mut dyn FnMut(&News)) -> Result<Look, CollectionError> {
        for ended in self.family.ends() {
            self.account(&ended);
        }
        let children = self.family.untold()?.children;
        if children >= self.tell_untold_at {
            self.tell_untold_at = children.saturating_mul(2);
            tell(&News::Unnoted {
                root: self.family.root,
                children,
            });
        }
        let members = self.family.members()?;
        let (mut again, mut busy) = (None::<Duration>, false);
        for (id, member) in &members {
            let program = member.exec_at_ns;
            let seen = *self.seen.entry(*id).or_insert_with(|| Seen::new(program, Watch::Due));
            let seen = if seen.program == program {
                seen
            } else {
                if seen.watch == Watch::On {
                    // Whatever the database holds is of a program that is gone.
                    let _ = steps::destroy(self.roots, *id);
                    self.databases = self.databases.saturating_sub(usize::from(*id != self.family.root));
                }
                Seen::new(program, Watch::Due)
            };
            let mut next = next(&seen, member, || loader::state(Target { id: *id }.memory_pid()).ok());
            if next == Next::Attach && busy {
                // One at a time: whoever looks wants to see signals in between.
                next = Next::Later(Duration::ZERO);
            }
            let after = match next {
                Next::Nothing => seen,
                Next::Later(when) => {
                    again = Some(again.map_or(when, |again| again.min(when)));
                    seen
                }
                Next::Attach => {
                    busy = true;
                    again = Some(Duration::ZERO);
                    seen.after(self.attach(*id, member, tell)?)
                }
            };
            self.seen.insert(*id, after);
        }
        let living: BTreeSet<TargetId> = members.iter().map(|(id, _)| *id).collect();
        // Of those who went meanwhile the ring tells at the next look; but an end that went untold must not stay for ever.
        self.seen
            .retain(|id, seen| living.contains(id) || !std::mem::replace(&mut seen.gone, true));
        Ok(Look {
            living: living.len(),
            again,
        })
    }

    fn account(&mut self, ended: &Ended) {
        let watch = self.seen.remove(&ended.id).map(|seen| seen.watch);
        let watched_before = || self.roots.session(ended.id).file().exists();
        let missed = match watch {
            Some(Watch::On | Watch::Refused) => false,
            Some(Watch::Due) => true,
            // Perhaps an earlier follower attached it.
            None => !watched_before(),
        };
        // In its parent's memory nothing of it was missed.
        if missed && ended.member.shares_memory == 0 {
            self.tally.miss(Name(&ended.member).to_string());
        }
    }

    fn attach(&mut self, id: TargetId, member: &Member, tell: &mut dyn FnMut(&News)) -> Result<Watch, CollectionError> {
        let is_new = id != self.family.root && !self.roots.session(id).file().exists();
        let outcome = if is_new && !self.has_room()? {
            Err(CollectionError::TooManyChildren {
                root: self.family.root.pid.0,
                most: self.most_databases,
            })
        } else {
            attach(self.roots, &Target { id }, &self.settings, Diagnostics::Off)
        };
        match outcome {
            Ok(attached) => {
                if id != self.family.root {
                    self.databases += usize::from(is_new);
                    self.tally.watched += usize::from(matches!(attached, Attached::Started(_)));
                }
                if let Attached::Started(_) = attached {
                    self.started(id, member, tell);
                }
                Ok(Watch::On)
            }
            Err(CollectionError::Target(TargetError::Ended(_) | TargetError::NoSuchProcess(_))) => Ok(Watch::Due),
            // Whatever was refused, it was of a program that has gone meanwhile.
            Err(_) if self.has_changed(id, member)? => Ok(Watch::Due),
            Err(error) => {
                self.tally.refused += 1;
                let member = *member;
                tell(&News::Refused { id, member, error });
                Ok(Watch::Refused)
            }
        }
    }

    fn started(&self, id: TargetId, member: &Member, tell: &mut dyn FnMut(&News)) {
        let member = *member;
        let unwatched = age(&member);
        if id != self.family.root {
            let followed = Followed {
                root: self.family.root,
                parent: (member.parent != 0).then_some(Pid(member.parent)),
                unwatched_ms: u64::try_from(unwatched.as_millis()).unwrap_or(u64::MAX),
            };
            // It is watched all the same; only that it belongs to the family would not be known later.
            let _ = steps::note_followed(self.roots, id, followed);
        }
        tell(&News::Watched { id, member, unwatched });
    }

    fn has_room(&mut self) -> Result<bool, CollectionError> {
        if self.databases >= self.most_databases {
            // Somebody may have removed some.
            self.databases = databases_of(self.roots, self.family.root)?;
        }
        Ok(self.databases < self.most_databases)
    }

    fn has_changed(&self, id: TargetId, before: &Member) -> Result<bool, CollectionError> {
        let members = self.family.members()?;
        let now = members.iter().find(|(other, _)| *other == id);
        Ok(now.is_none_or(|(_, member)| member.exec_at_ns != before.exec_at_ns))
    }
}

impl Tally {
    fn miss(&mut self, name: String) {
        if self.missed.len() < MOST_NAMES || self.missed.contains_key(&name) {
            *self.missed.entry(name).or_default() += 1;
        } else {
            self.missed_others += 1;
        }
    }
}

/// Databases on this host that were made by following this target.
fn databases_of(roots: &Roots, root: TargetId) -> Result<usize, DatabaseError> {
    let all = store::list(roots)?.into_iter();
    Ok(all
        .filter(|id| {
            SessionFile::read(&roots.session(*id).file(), *id)
                .is_ok_and(|file| file.followed.is_some_and(|followed| followed.root == root))
        })
        .count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_missed_are_bounded_and_none_goes_uncounted() {
        let mut tally = Tally::default();
        for number in 0..MOST_NAMES + 5 {
            tally.miss(format!("name{number}"));
        }
        tally.miss("name0".to_owned());
        assert_eq!((tally.missed.len(), tally.missed_others), (MOST_NAMES, 5));
        assert_eq!(tally.missed["name0"], 2);
    }
}
