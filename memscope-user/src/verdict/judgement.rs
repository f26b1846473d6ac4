//! What a judgement says: verdict, reason, evidence.

use std::fmt;

use super::standing::{Found, Ground};
use crate::report::model::SiteId;
use crate::report::quantity::Seconds;

/// What a site is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Blocks pile up without end.
    Leaking,
    /// Too little to say.
    Undecided,
    /// Bounded, or flattening.
    Cache,
    /// Born early, no more.
    Startup,
    /// Only young blocks live.
    Churn,
}

impl Verdict {
    /// Every verdict, in the order reports list them.
    pub const ALL: [Self; 5] = [Self::Leaking, Self::Undecided, Self::Cache, Self::Startup, Self::Churn];

    /// As reports and JSON print it.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Leaking => "LEAKING",
            Self::Undecided => "UNDECIDED",
            Self::Cache => "CACHE",
            Self::Startup => "STARTUP",
            Self::Churn => "CHURN",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text())
    }
}

/// Why the verdict is what it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// Survivors at a steady share over birth time.
    SteadySurvivors,
    /// What is alive grew steadily from report to report, and what was alive earlier still is.
    SteadyGrowth,
    /// A few blocks that only grow, from report to report.
    GrowingContainer,
    /// An earlier report found it; what was seen since is too little to say so anew, and contradicts nothing.
    Standing {
        /// By which rule.
        ground: Ground,
        /// When first.
        first_ms_ago: u64,
        /// When last.
        confirmed_ms_ago: u64,
        /// What is missing to say so anew.
        need: Need,
    },
    /// Fewer and fewer survivors: the newer half against the older.
    Flattened {
        /// Births of the newer half over those of the older.
        ratio: f64,
    },
    /// No births for a time in which many would have come.
    Stopped {
        /// How long, milliseconds.
        silent_ms: u64,
    },
    /// What is alive no longer grows from report to report, though the site goes on allocating.
    Bounded,
    /// Older blocks are freed: nothing or little of them is alive.
    TurnsOver,
    /// Born at the start; none since.
    BornEarly,
    /// Only young blocks live.
    YoungOnly,
    /// Nothing is alive.
    AllFreed,
    /// Not enough to say.
    Needs(Need),
}

/// What is missing for a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// More time of collection.
    Time {
        /// About this many seconds more.
        seconds: u64,
    },
    /// More time of collection: sampling began on the way, and births that go on need not be in the sample yet.
    Sample {
        /// About this many seconds more.
        seconds: u64,
    },
    /// More blocks.
    Events {
        /// About this many more survivors.
        survivors: u64,
    },
    /// A later report, to see whether older blocks are freed.
    LaterReport,
    /// A later report, to see whether a buffer grows on.
    Growth {
        /// It has grown not long ago.
        grew_lately: bool,
    },
    /// Reports that are not of a span of marks, to see whether a buffer grows on: each of a span stands alone.
    WholeTime {
        /// It has grown not long ago.
        grew_lately: bool,
    },
    /// Whether growth goes on: it slows, or comes in few bursts.
    Course {
        /// About this many seconds more.
        seconds: u64,
    },
    /// A longer span: one between marks has ended, and its births are too uneven for their course to be seen.
    LongerSpan,
    /// The verdict on what it holds: a container that grows in step with a leaking site.
    Contents {
        /// The site whose blocks it holds.
        of: SiteId,
    },
    /// Fewer missed frees: these could explain the survivors.
    SeenFrees,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time { seconds } | Self::Sample { seconds } => write!(f, "needs time: {seconds} s more"),
            Self::Events { survivors } => write!(f, "needs events: {survivors} more survivors"),
            Self::LaterReport => f.write_str("needs a later report: are old blocks still being freed?"),
            Self::Growth { .. } => f.write_str("needs a later report: does this buffer still grow?"),
            Self::WholeTime { .. } => {
                f.write_str("needs reports without marks: whether this buffer still grows is seen from one to the next")
            }
            Self::Course { seconds } => write!(f, "needs time: {seconds} s more to see whether growth goes on"),
            Self::LongerSpan => {
                f.write_str("needs a longer span between the marks, with what is asked for spread over it")
            }
            Self::Contents { of } => write!(f, "holds what leaks: judge it once site {:#018x} is fixed", of.0),
            Self::SeenFrees => {
                f.write_str("needs a collection that misses fewer frees: they could explain the survivors")
            }
        }
    }
}

impl Reason {
    /// What is meant is a container that grows, or has not long ago.
    #[must_use]
    pub const fn is_container(self) -> bool {
        matches!(
            self,
            Self::GrowingContainer
                | Self::Needs(Need::Growth { grew_lately: true } | Need::WholeTime { grew_lately: true })
                | Self::Standing {
                    ground: Ground::GrowingContainer,
                    ..
                }
        )
    }

    /// Found by an earlier report, and not anew.
    #[must_use]
    pub const fn is_standing(self) -> bool {
        matches!(self, Self::Standing { .. })
    }

    /// Name in JSON.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::SteadySurvivors => "steady_survivors",
            Self::SteadyGrowth => "steady_growth",
            Self::GrowingContainer => "growing_container",
            Self::Standing { .. } => "standing",
            Self::Flattened { .. } => "flattened",
            Self::Stopped { .. } => "stopped",
            Self::Bounded => "bounded",
            Self::TurnsOver => "turns_over",
            Self::BornEarly => "born_early",
            Self::YoungOnly => "young_only",
            Self::AllFreed => "all_freed",
            Self::Needs(Need::Time { .. } | Need::Sample { .. }) => "needs_time",
            Self::Needs(Need::Events { .. }) => "needs_events",
            Self::Needs(Need::LaterReport) => "needs_later_report",
            Self::Needs(Need::Growth { .. }) => "needs_growth",
            Self::Needs(Need::WholeTime { .. }) => "needs_whole_time",
            Self::Needs(Need::Course { .. }) => "needs_course",
            Self::Needs(Need::LongerSpan) => "needs_longer_span",
            Self::Needs(Need::Contents { .. }) => "holds_what_leaks",
            Self::Needs(Need::SeenFrees) => "needs_seen_frees",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SteadySurvivors => f.write_str("survivors at a steady share over birth time"),
            Self::SteadyGrowth => f.write_str("steady growth between reports, and old blocks stay"),
            Self::GrowingContainer => f.write_str("a container that only grows from report to report"),
            Self::Standing {
                ground,
                first_ms_ago,
                confirmed_ms_ago,
                need,
            } => write!(
                f,
                "found leaking {} ago ({}); the last {} contradict nothing and are too quiet to say it anew: {need}",
                Seconds(first_ms_ago / 1000),
                ground.reason(),
                Seconds(confirmed_ms_ago / 1000)
            ),
            Self::Flattened { ratio } => write!(
                f,
                "flattening: the newer half of the time has {:.0} % of the older half's survivors",
                ratio * 100.0
            ),
            Self::Stopped { silent_ms } => write!(f, "growth stopped: no births for {} s", silent_ms / 1000),
            Self::Bounded => f.write_str("bounded: no growth between reports while it goes on allocating"),
            Self::TurnsOver => f.write_str("older blocks are freed"),
            Self::BornEarly => f.write_str("born early, no more since"),
            Self::YoungOnly => f.write_str("only young blocks live"),
            Self::AllFreed => f.write_str("all freed"),
            Self::Needs(need) => need.fmt(f),
        }
    }
}

/// Growth by surviving blocks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Blocks a minute.
    pub blocks_per_minute: f64,
    /// Bytes a minute.
    pub bytes_per_minute: f64,
    /// R² of a straight line through the cumulated births: 1 is perfectly steady.
    pub fit: f64,
}

/// What the verdict rests on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// Growth by survivors, without the youngest and the oldest part of the window; `None` when there are none.
    pub rate: Option<Rate>,
    /// Blocks freed of those allocated, 0 to 1; `None` when none was allocated in the window.
    pub share_freed: Option<f64>,
    /// Mean life of a block by Little's law, milliseconds; `None` when none was allocated.
    pub mean_life_ms: Option<u64>,
    /// Survivors counted: without the youngest and the oldest part.
    pub survivors: u64,
    /// Earlier reports that were used.
    pub earlier_reports: usize,
    /// Of a leak, the time since a report first found it; 0 at that report.
    pub leaking_for_ms: Option<u64>,
    /// 0 to 1: falls with few events, short windows, uneven growth, losses and doubts.
    pub confidence: f64,
}

/// A verdict and what it rests on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    /// What it is.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// On what ground.
    pub evidence: Evidence,
    /// It grows, whatever the verdict: an undecided site that grows keeps a database from being called clean.
    pub grows: bool,
    /// Of a leak, when it was found and confirmed: for later reports.
    pub found: Option<Found>,
}

impl Judgement {
    /// Of a leak, the time since a report last found it by its own evidence: 0 when this one did.
    #[must_use]
    pub const fn confirmed_ms_ago(&self) -> Option<u64> {
        match (self.verdict, self.reason) {
            (Verdict::Leaking, Reason::Standing { confirmed_ms_ago, .. }) => Some(confirmed_ms_ago),
            (Verdict::Leaking, _) => Some(0),
            _ => None,
        }
    }
}
