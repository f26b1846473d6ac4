//! Marks: named moments of a session, exact by entry number — what was born after a mark has a higher number.

use std::collections::BTreeMap;
use std::path::PathBuf;

use memscope_ebpf::live::EntryNumber;
use serde::{Deserialize, Serialize};

use super::error::HistoryError;
use super::snapshot::Snapshot;
use super::store;
use crate::database::folder::{self, FolderLock};
use crate::database::paths::SessionPaths;
use crate::database::session_file::Moment;
use crate::report::model::SiteId;
use crate::report::sites::Amount;
use crate::target::identity::TargetId;

/// Marks a session keeps; setting one more forgets the oldest.
pub const MOST_MARKS: usize = 32;

const FORMAT: &str = "memscope.marks/v1";
const LONGEST_NAME: usize = 64;

/// A named moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Its name.
    pub name: String,
    /// When it was set.
    pub at: Moment,
    /// The last entry number given out then.
    pub number: u64,
}

#[derive(Serialize, Deserialize)]
struct MarksFile {
    schema: String,
    marks: Vec<Mark>,
}

/// The marks of a session, oldest first; none when the file is not one of ours.
#[must_use]
pub fn list(paths: &SessionPaths) -> Vec<Mark> {
    std::fs::read(file(paths)).map_or_else(|_| Vec::new(), |text| parse(&text))
}

/// The marks in a file's text, oldest first; none when it is not one of ours.
#[must_use]
pub fn parse(text: &[u8]) -> Vec<Mark> {
    let parsed: Option<MarksFile> = serde_json::from_slice(text).ok();
    parsed
        .filter(|file| file.schema == FORMAT)
        .map_or_else(Vec::new, |file| file.marks)
}

/// Sets a mark; one of the same name moves. `moment` holds the number and every site's totals.
///
/// # Errors
/// The name cannot be one; the files cannot be written.
pub fn set(paths: &SessionPaths, name: &str, moment: &Snapshot) -> Result<Mark, HistoryError> {
    check_name(name)?;
    let folder = store::folder(paths);
    folder::make_private(&folder)?;
    let _lock = FolderLock::acquire(&folder)?;
    let mut marks = list(paths);
    let (gone, mut kept): (Vec<Mark>, Vec<Mark>) = marks.drain(..).partition(|mark| mark.name == name);
    let mark = Mark {
        name: name.to_owned(),
        at: moment.at,
        number: moment.last_number,
    };
    // The totals first: a mark in the list always has them.
    folder::replace_file(&totals_file(paths, &mark), &moment.encode())?;
    kept.push(mark.clone());
    let too_many = kept.len().saturating_sub(MOST_MARKS);
    let forgotten: Vec<Mark> = kept.drain(..too_many).chain(gone).collect();
    let text = serde_json::to_vec(&MarksFile {
        schema: FORMAT.to_owned(),
        marks: kept,
    })
    .map_err(|source| crate::database::error::DatabaseError::SessionFile {
        path: file(paths),
        source,
    })?;
    folder::replace_file(&file(paths), &text)?;
    for old in forgotten {
        if totals_file(paths, &old) != totals_file(paths, &mark) {
            folder::remove_file(&totals_file(paths, &old))?;
        }
    }
    Ok(mark)
}

fn check_name(name: &str) -> Result<(), HistoryError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(fits) {
        return Err(HistoryError::BadName(name.escape_debug().collect()));
    }
    Ok(())
}

fn file(paths: &SessionPaths) -> PathBuf {
    store::folder(paths).join("marks.json")
}

fn totals_file(paths: &SessionPaths, mark: &Mark) -> PathBuf {
    store::folder(paths).join(format!("{}-{}.mark", mark.at.monotonic_ms, mark.number))
}

/// Which blocks are meant, by birth: after one mark and up to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Born after this.
    pub from: Option<Edge>,
    /// Born up to this.
    pub until: Option<Edge>,
}

/// A mark with what every site had allocated by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The mark.
    pub mark: Mark,
    /// Allocated until then; empty when the file with it is gone.
    pub allocated: BTreeMap<SiteId, Amount>,
}

impl Span {
    /// From one mark to another, or to now.
    ///
    /// # Errors
    /// There is no such mark; they stand in the other order.
    pub fn of(paths: &SessionPaths, target: TargetId, from: &str, until: Option<&str>) -> Result<Self, HistoryError> {
        let marks = list(paths);
        let edge = |name: &str| -> Result<Edge, HistoryError> {
            let mark = marks
                .iter()
                .find(|mark| mark.name == name)
                .cloned()
                .ok_or_else(|| HistoryError::NoMark {
                    pid: target.pid.0,
                    name: name.escape_debug().collect(),
                    marks: marks.iter().map(|mark| mark.name.clone()).collect(),
                })?;
            let totals = store::read(&totals_file(paths, &mark)).map(|snapshot| snapshot.sites);
            let allocated = totals.unwrap_or_default().into_iter();
            Ok(Edge {
                mark,
                allocated: allocated.map(|(site, totals)| (site, totals.allocated)).collect(),
            })
        };
        let span = Self {
            from: Some(edge(from)?),
            until: until.map(edge).transpose()?,
        };
        if let Some(end) = span.until.as_ref()
            && span
                .from
                .as_ref()
                .is_some_and(|start| start.mark.at.monotonic_ms > end.mark.at.monotonic_ms)
        {
            return Err(HistoryError::Order {
                from: from.to_owned(),
                until: end.mark.name.clone(),
            });
        }
        Ok(span)
    }

    /// Everything is meant.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.from.is_none() && self.until.is_none()
    }

    /// Whether a block of this number is meant.
    #[must_use]
    pub fn takes(&self, number: EntryNumber) -> bool {
        self.from.as_ref().is_none_or(|edge| number.0 > edge.mark.number)
            && self.until.as_ref().is_none_or(|edge| number.0 <= edge.mark.number)
    }

    /// Allocated in the span, of a site that has allocated `now` until now.
    #[must_use]
    pub fn allocated(&self, site: SiteId, now: Amount) -> Amount {
        let at = |edge: &Option<Edge>, otherwise: Amount| {
            edge.as_ref()
                .map_or(otherwise, |edge| edge.allocated.get(&site).copied().unwrap_or_default())
        };
        let (end, start) = (at(&self.until, now), at(&self.from, Amount::default()));
        Amount {
            blocks: end.blocks.saturating_sub(start.blocks),
            bytes: end.bytes.saturating_sub(start.bytes),
        }
    }

    /// As a report's header says it; `None` for everything.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let name = |edge: &Option<Edge>| edge.as_ref().map(|edge| edge.mark.name.clone());
        match (name(&self.from), name(&self.until)) {
            (Some(from), Some(until)) => Some(format!("only blocks born between marks {from} and {until}")),
            (Some(from), None) => Some(format!("only blocks born since mark {from}")),
            (None, Some(until)) => Some(format!("only blocks born until mark {until}")),
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::paths::Roots;
    use crate::history::Totals;
    use crate::target::identity::{Pid, StartTime};

    const TARGET: TargetId = TargetId {
        pid: Pid(1),
        start_time: StartTime(2),
    };

    fn paths(scratch: &std::path::Path) -> SessionPaths {
        let roots = Roots {
            bpf: scratch.join("bpf"),
            run: scratch.to_path_buf(),
        };
        let paths = roots.session(TARGET);
        folder::make_private(&paths.run).unwrap();
        paths
    }

    fn moment(monotonic_ms: u64, number: u64, allocated: u64) -> Snapshot {
        let totals = Totals {
            allocated: Amount {
                blocks: allocated,
                bytes: allocated * 10,
            },
            ..Totals::default()
        };
        Snapshot {
            at: Moment {
                unix_s: 1,
                monotonic_ms,
            },
            last_number: number,
            resident: None,
            complete: true,
            window_start_ms: None,
            sites: [(SiteId(9), totals)].into(),
        }
    }

    #[test]
    fn a_span_takes_what_was_born_in_it() {
        let scratch = tempfile::tempdir().unwrap();
        let paths = paths(scratch.path());
        set(&paths, "before", &moment(1000, 50, 40)).unwrap();
        set(&paths, "after", &moment(2000, 80, 65)).unwrap();
        let span = Span::of(&paths, TARGET, "before", Some("after")).unwrap();
        let taken: Vec<u64> = (45..90).filter(|number| span.takes(EntryNumber(*number))).collect();
        assert_eq!((taken[0], taken[taken.len() - 1]), (51, 80));
        let now = Amount {
            blocks: 100,
            bytes: 1000,
        };
        assert_eq!(span.allocated(SiteId(9), now).blocks, 25);
        assert_eq!(span.allocated(SiteId(10), now).blocks, 0);
        let open = Span::of(&paths, TARGET, "before", None).unwrap();
        assert_eq!(open.allocated(SiteId(9), now).bytes, 600);
        assert_eq!(open.text().unwrap(), "only blocks born since mark before");
        assert!(Span::default().takes(EntryNumber(1)) && Span::default().is_whole());
    }

    #[test]
    fn marks_that_are_not_there_or_stand_the_wrong_way_round_are_refused() {
        let scratch = tempfile::tempdir().unwrap();
        let paths = paths(scratch.path());
        let error = Span::of(&paths, TARGET, "x", None).unwrap_err().to_string();
        assert_eq!(error, "process 1 has no mark `x`; `memscope mark PID NAME` sets one");
        set(&paths, "a", &moment(1000, 1, 1)).unwrap();
        set(&paths, "b", &moment(2000, 2, 1)).unwrap();
        assert!(matches!(
            Span::of(&paths, TARGET, "b", Some("a")),
            Err(HistoryError::Order { .. })
        ));
        let error = Span::of(&paths, TARGET, "c", None).unwrap_err().to_string();
        assert_eq!(error, "process 1 has no mark `c`; it has: a, b");
        for name in ["", "a b", "../x", "ä", "a\n", &"x".repeat(65)] {
            assert!(
                matches!(set(&paths, name, &moment(1, 1, 1)), Err(HistoryError::BadName(_))),
                "{name}"
            );
        }
    }

    #[test]
    fn a_mark_of_the_same_name_moves_and_the_oldest_are_forgotten() {
        let scratch = tempfile::tempdir().unwrap();
        let paths = paths(scratch.path());
        for round in 0..100 {
            set(&paths, &format!("m{}", round % 50), &moment(round * 1000, round, 1)).unwrap();
        }
        let marks = list(&paths);
        assert_eq!(marks.len(), MOST_MARKS);
        assert_eq!(
            marks[31],
            Mark {
                name: "m49".into(),
                at: moment(99_000, 0, 0).at,
                number: 99
            }
        );
        let files = std::fs::read_dir(store::folder(&paths)).unwrap().count();
        assert_eq!(files, MOST_MARKS + 1, "no totals are left behind");
    }

    #[test]
    fn a_foreign_file_of_marks_is_no_mark() {
        let scratch = tempfile::tempdir().unwrap();
        let paths = paths(scratch.path());
        folder::make_private(&store::folder(&paths)).unwrap();
        for text in ["", "{}", r#"{"schema":"other","marks":[]}"#, "[1"] {
            std::fs::write(file(&paths), text).unwrap();
            assert_eq!(list(&paths), []);
        }
    }
}
