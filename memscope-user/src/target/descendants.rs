//! The living descendants of a process, as procfs shows parents now.

use std::collections::BTreeMap;

use super::identity::{Pid, StartTime, TargetId};

/// A process and who its parent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinship {
    /// Who.
    pub id: TargetId,
    /// Its parent.
    pub parent: Pid,
}

/// The living descendants of `root`, parents before their children. A descendant whose own parent has ended is another's
/// child by now (init's, or a subreaper's) and is not found.
#[must_use]
pub fn living(root: Pid) -> Vec<Kinship> {
    let processes = procfs::process::all_processes().into_iter().flatten().flatten();
    let all = processes.filter_map(|process| {
        let stat = process
            .stat()
            .ok()
            .filter(|stat| !matches!(stat.state, 'Z' | 'X' | 'x'))?;
        Some(Kinship {
            id: TargetId {
                pid: Pid(u32::try_from(stat.pid).ok()?),
                start_time: StartTime(stat.starttime),
            },
            parent: Pid(u32::try_from(stat.ppid).ok()?),
        })
    });
    below(root, all)
}

fn below(root: Pid, all: impl Iterator<Item = Kinship>) -> Vec<Kinship> {
    let mut children: BTreeMap<Pid, Vec<Kinship>> = BTreeMap::new();
    for kinship in all {
        children.entry(kinship.parent).or_default().push(kinship);
    }
    let mut found: Vec<Kinship> = children.remove(&root).unwrap_or_default();
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|kinship| kinship.id.pid) {
        // Each list is taken once: whatever procfs says, this ends.
        found.extend(children.remove(&parent).unwrap_or_default());
        next += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kin(pid: u32, parent: u32) -> Kinship {
        Kinship {
            id: TargetId {
                pid: Pid(pid),
                start_time: StartTime(1),
            },
            parent: Pid(parent),
        }
    }

    #[test]
    fn every_generation_is_found_and_nobody_else() {
        let all = [
            kin(2, 1),
            kin(30, 20),
            kin(20, 10),
            kin(40, 30),
            kin(21, 10),
            kin(50, 2),
        ];
        let found: Vec<u32> = below(Pid(10), all.into_iter()).iter().map(|kin| kin.id.pid.0).collect();
        assert_eq!(found, [20, 21, 30, 40]);
    }

    #[test]
    fn a_circle_ends() {
        let found = below(Pid(10), [kin(20, 10), kin(10, 20)].into_iter());
        assert_eq!(found.len(), 2);
    }
}
