//! The folder of snapshots: one file each, thinned so that many runs of cron stay bounded.

use std::fs;
use std::path::{Path, PathBuf};

use super::snapshot::Snapshot;
use crate::database::error::DatabaseError;
use crate::database::folder::{self, FolderLock};
use crate::database::paths::SessionPaths;
use crate::report::model::SiteId;
use crate::report::sites::SitesReport;
use crate::verdict::{Found, PastPoint, PastSites};

/// Snapshots kept; at most 8 MiB with [`super::snapshot::MOST_SITES`] sites each.
pub const MOST_SNAPSHOTS: usize = 32;

/// Reports nearer to each other than this are one.
const LEAST_APART_MS: u64 = 1_000;

/// A snapshot this soon after the start is that of the attach: it says what memory was then, nothing of sites.
const AT_THE_START_MS: u64 = 2_000;

/// The largest file read: no snapshot of ours comes near it.
const LARGEST_FILE: u64 = 16 << 20;

/// The folder.
#[must_use]
pub fn folder(paths: &SessionPaths) -> PathBuf {
    paths.run.join("history")
}

/// Adds a snapshot; none when the last one is almost as new.
///
/// # Errors
/// The folder cannot be written.
pub fn save(paths: &SessionPaths, snapshot: &Snapshot) -> Result<(), DatabaseError> {
    let folder = folder(paths);
    folder::make_private(&folder)?;
    let _lock = FolderLock::acquire(&folder)?;
    let mut times = times(&folder);
    let now = snapshot.at.monotonic_ms;
    if times
        .last()
        .is_some_and(|last| now < last.saturating_add(LEAST_APART_MS))
    {
        return Ok(());
    }
    folder::replace_file(&file(&folder, now), &snapshot.encode())?;
    times.push(now);
    while times.len() > MOST_SNAPSHOTS {
        let least = least_missed(&times);
        folder::remove_file(&file(&folder, times.remove(least)))?;
    }
    Ok(())
}

/// Every snapshot that can be read, oldest first.
#[must_use]
pub fn load(paths: &SessionPaths) -> Vec<Snapshot> {
    let folder = folder(paths);
    times(&folder)
        .into_iter()
        .filter_map(|time| read(&file(&folder, time)))
        .collect()
}

/// Reads one; `None` when it is not one of ours.
pub(super) fn read(path: &Path) -> Option<Snapshot> {
    let metadata = path.symlink_metadata().ok()?;
    if !metadata.is_file() || metadata.len() > LARGEST_FILE {
        return None;
    }
    Snapshot::decode(&fs::read(path).ok()?)
}

fn file(folder: &Path, monotonic_ms: u64) -> PathBuf {
    folder.join(format!("{monotonic_ms:016}.sites"))
}

fn times(folder: &Path) -> Vec<u64> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut times: Vec<u64> = entries
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".sites")?.parse().ok())
        .collect();
    times.sort_unstable();
    times
}

/// The one whose going leaves the smallest hole for its age; the first and the last stay.
fn least_missed(times: &[u64]) -> usize {
    let last = times.last().copied().unwrap_or(0);
    (1..times.len().saturating_sub(1))
        .min_by_key(|index| {
            let hole = times[index + 1] - times[index - 1];
            let age = last - times[*index] + 1;
            u128::from(hole) * 1_000_000 / u128::from(age)
        })
        .unwrap_or(0)
}

/// Snapshots as verdicts take them.
#[derive(Clone, Copy, Debug)]
pub struct PastOf<'a> {
    snapshots: &'a [Snapshot],
    window_start_ms: u64,
    until_ms: u64,
}

impl<'a> PastOf<'a> {
    /// The snapshots taken in a report's window.
    #[must_use]
    pub const fn new(snapshots: &'a [Snapshot], report: &SitesReport) -> Self {
        Self {
            snapshots,
            window_start_ms: report.window.start,
            until_ms: report.window.end,
        }
    }
}

impl PastOf<'_> {
    /// What counts from the start of a window counts in that one only.
    fn is_of_window(&self, snapshot: &Snapshot) -> bool {
        snapshot.window_start_ms == Some(self.window_start_ms)
    }
}

impl PastSites for PastOf<'_> {
    fn of(&self, site: SiteId) -> Vec<PastPoint> {
        self.snapshots
            .iter()
            .filter(|snapshot| {
                (self.window_start_ms + AT_THE_START_MS..self.until_ms).contains(&snapshot.at.monotonic_ms)
            })
            .filter_map(|snapshot| {
                let totals = match snapshot.sites.get(&site) {
                    Some(totals) => totals.clone(),
                    // Nothing of it was alive then.
                    None if snapshot.complete => super::Totals::default(),
                    None => return None,
                };
                Some(PastPoint {
                    at_ms: snapshot.at.monotonic_ms - self.window_start_ms,
                    allocated: totals.allocated,
                    live: totals.live,
                    cohorts: totals.cohorts.filter(|_| self.is_of_window(snapshot)),
                })
            })
            .collect()
    }

    fn found(&self, site: SiteId) -> Option<Found> {
        let mut before = self.snapshots.iter().rev();
        let last = before.find(|snapshot| snapshot.at.monotonic_ms < self.until_ms)?;
        let found = last.sites.get(&site)?.found?;
        let taken_ms = last.at.monotonic_ms.checked_sub(self.window_start_ms)?;
        (self.is_of_window(last) && found.confirmed_ms <= taken_ms).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::paths::Roots;
    use crate::database::session_file::Moment;
    use crate::history::Totals;
    use crate::report::cohorts::Cohorts;
    use crate::target::identity::{Pid, StartTime, TargetId};
    use crate::verdict::Ground;

    fn paths(scratch: &Path) -> SessionPaths {
        let roots = Roots {
            bpf: scratch.join("bpf"),
            run: scratch.to_path_buf(),
        };
        let paths = roots.session(TargetId {
            pid: Pid(1),
            start_time: StartTime(2),
        });
        folder::make_private(&paths.run).unwrap();
        paths
    }

    fn at(monotonic_ms: u64) -> Snapshot {
        Snapshot {
            at: Moment {
                unix_s: 1,
                monotonic_ms,
            },
            last_number: 0,
            resident: None,
            complete: true,
            window_start_ms: Some(0),
            sites: [].into(),
        }
    }

    fn loaded(paths: &SessionPaths) -> Vec<u64> {
        load(paths).iter().map(|snapshot| snapshot.at.monotonic_ms).collect()
    }

    #[test]
    fn many_runs_stay_bounded_and_keep_the_first_the_last_and_the_recent() {
        let scratch = tempfile::tempdir().unwrap();
        let paths = paths(scratch.path());
        for minute in 1..=1000 {
            save(&paths, &at(minute * 60_000)).unwrap();
        }
        let times = loaded(&paths);
        assert_eq!(times.len(), MOST_SNAPSHOTS);
        assert_eq!((times[0], times[31]), (60_000, 60_000_000));
        assert_eq!(times[30], 999 * 60_000);
        // Some from every quarter of the time, or growth over it could not be seen.
        for quarter in 0..4 {
            let range = quarter * 15_000_000..(quarter + 1) * 15_000_000;
            assert!(times.iter().any(|time| range.contains(time)), "{times:?}");
        }
    }

    #[test]
    fn runs_in_quick_succession_are_one() {
        let scratch = tempfile::tempdir().unwrap();
        let paths = paths(scratch.path());
        for time in [1000, 1500, 1999, 2000] {
            save(&paths, &at(time)).unwrap();
        }
        assert_eq!(loaded(&paths), [1000, 2000]);
    }

    #[test]
    fn cohorts_and_findings_count_in_the_window_they_are_of_only() {
        let site = SiteId(7);
        let found = Found {
            ground: Ground::SteadyGrowth,
            first_ms: 60_000,
            confirmed_ms: 70_000,
            permille: 800,
        };
        let totals = Totals {
            cohorts: Cohorts::from_parts(4000, vec![20]),
            found: Some(found),
            ..Totals::default()
        };
        let of_window = |window_start_ms, at_ms, until_ms| {
            let snapshots = [Snapshot {
                window_start_ms,
                sites: [(site, totals.clone())].into(),
                ..at(at_ms)
            }];
            let past = PastOf {
                snapshots: &snapshots,
                window_start_ms: 1_000,
                until_ms,
            };
            let cohorts = past.of(site).first().and_then(|point| point.cohorts.clone());
            (cohorts.is_some(), past.found(site))
        };
        assert_eq!(of_window(Some(1_000), 71_000, 120_000), (true, Some(found)));
        assert_eq!(of_window(Some(2_000), 71_000, 120_000), (false, None));
        assert_eq!(of_window(None, 71_000, 120_000), (false, None));
        assert_eq!(of_window(Some(1_000), 71_000, 71_000), (false, None), "it is of later");
        // Confirmed after it was written.
        assert_eq!(of_window(Some(1_000), 70_999, 120_000), (true, None));
    }

    #[test]
    fn foreign_and_torn_files_are_passed_over() {
        let scratch = tempfile::tempdir().unwrap();
        let paths = paths(scratch.path());
        save(&paths, &at(5000)).unwrap();
        let folder = folder(&paths);
        fs::write(folder.join("0000000000006000.sites"), b"torn").unwrap();
        fs::write(folder.join("notes.txt"), b"mine").unwrap();
        fs::create_dir(folder.join("0000000000007000.sites")).unwrap();
        assert_eq!(loaded(&paths), [5000]);
    }
}
