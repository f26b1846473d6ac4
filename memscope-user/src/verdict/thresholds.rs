//! Every number the rules use, with its reason.
//!
//! Times that are shares are shares of the judged window: from the first start of collection (or the end of the last gap,
//! or the mark asked for) to the moment of reading.

/// Below this many milliseconds of collection nothing is judged: the contract's minute (`print` warns below it too).
pub const MIN_WINDOW_MS: u64 = 60_000;

/// Milliseconds since its oldest block that a site which frees nothing needs: one that began late is judged by the time
/// since, or what fills and flattens would look steady beside the empty time before it. Less than the minute, since the
/// first block of a rare leak takes its time.
pub const MIN_OWN_TIME_MS: u64 = 45_000;

/// Milliseconds after the end of a span of marks from which what was born in it is judged, however short it was: what is
/// freed with its request is freed by then.
pub const SETTLED_MS: u64 = 10_000;

/// Birth bins that must lie in the judged window: with fewer a quarter of it would be a bin or two.
pub const MIN_BINS: usize = 12;

/// Share of the window at its young end that is left out when survivors are counted: blocks of live requests would look
/// like survivors (async-profiler drops the last tenth for the same reason).
pub const YOUNG_TAIL: f64 = 0.125;

/// Share at its old end that is left out: what was filled at the start is not growth.
pub const OLD_HEAD: f64 = 0.0625;

/// Parts the rest is divided into to see whether survivors are spread over it.
pub const GROUPS: usize = 8;

/// Of these, how many must hold survivors before growth counts as steady: one burst is not, six are.
pub const MIN_GROUPS: usize = 5;

/// Settled survivors a leak needs: with fewer, the chance that even births and slowing ones look alike is not small. Those
/// of a burst count little more than once: the high-water mark of a load that wanders comes in bursts too.
pub const MIN_SURVIVORS: u64 = 16;

/// Settled survivors a leak needs at a site that frees some of its blocks: old ones must be seen to stay.
pub const MIN_SURVIVORS_AMONG_FREED: u64 = 32;

/// Share of a site's blocks freed below which it counts as freeing nothing.
pub const FREES_NOTHING: f64 = 0.01;

/// Log likelihood ratio by which "survivors are born evenly" must beat "every block dies after an exponential life, as
/// long as the share freed says": 3 is odds of 20 to 1.
pub const MIN_LOG_ODDS: f64 = 3.0;

/// At most this many survivors are taken as independent: beyond it a load that varies, not chance, is the error.
pub const MAX_EFFECTIVE: f64 = 1000.0;

/// Log likelihood ratio by which "born evenly" must beat "born ever more rarely, as the high-water mark of a load rises"
/// (with the square root of the time), and among freed blocks "every block dies after a life as long as the window". Even
/// births of 16 blocks beat the first by 0.9 in the mean. With twice the odds about as many of the arenas that grow at a
/// load's high-water mark were accused, and 6 % fewer leaks were found; what these rules find and whom they accuse is in
/// `tests/README.md`.
pub const GOING_ON_LOG_ODDS: f64 = 0.5;

/// The same odds from which births go on whatever their trend: of 240 even ones in one of 44 looks the trend is as if they
/// slowed (see [`SLOWING_TREND`]), at one after the other since most blocks are the same.
pub const GOING_ON_SURE: f64 = 1.5;

/// Standard deviations by which births are older in the mean than even ones, from which they may be slowing: even births
/// are in one of 44 looks.
pub const SLOWING_TREND: f64 = -2.0;

/// Newer half against older half below which growth slows, when chance is ruled out (see [`SLOWING_SURE_Z`]).
pub const SLOWING_SURE: f64 = 0.9;

/// Standard deviations that go with [`SLOWING_SURE`].
pub const SLOWING_SURE_Z: f64 = -3.0;

/// Newer half against older half below which growth has flattened: what is left of it is less than half.
pub const FLATTENED: f64 = 0.5;

/// Standard deviations that go with [`FLATTENED`].
pub const FLATTENED_Z: f64 = -2.0;

/// Newer half against older half above which survivors at a site that also frees look like blocks that merely have not
/// been freed yet.
pub const RISING: f64 = 1.25;

/// The same, above which older blocks are clearly being freed.
pub const RISING_SURE: f64 = 4.0;

/// Share of the window: when nothing alive is older, only young blocks live.
pub const YOUNG_ONLY: f64 = 0.25;

/// Share of the window: when nothing alive is younger, growth has ended.
pub const EARLY_ONLY: f64 = 0.5;

/// Blocks that must have been allocated for each one alive before "young only" is said: the set was replaced that often.
pub const TURNOVERS: u64 = 3;

/// Mean life, as a share of the window, from which a site that turns its blocks over is called a cache, not churn.
pub const CACHE_LIFE: f64 = 0.05;

/// Births that would have been expected in a stretch without any before it counts as an end: e^-5 is 1 in 150.
pub const EXPECTED_IN_SILENCE: f64 = 5.0;

/// The same for blocks born in the first quarter only, where a stretch three times as long is silent.
pub const EXPECTED_AFTER_START: f64 = 3.0;

/// A silence is an end when it is this many times as long as the longest one before it.
pub const SILENCE_FACTOR: f64 = 2.0;

/// Old blocks of a site at an earlier report that are worth following.
pub const MIN_COHORT: u64 = 12;

/// How old: shares of the time until that report. Among the younger are blocks of requests under way, more of them the
/// longer requests take.
pub const OLD_AT_A_REPORT: [f64; 3] = [0.125, 0.25, 0.5];

/// Share of these that must still be alive for a leak.
pub const RETAINED: f64 = 0.95;

/// Share of these below which old blocks are being freed: what was found to leak no longer counts as found.
pub const LET_GO: f64 = 0.8;

/// Share of the time until now that a found leak must have been confirmed in: unconfirmed for longer than it was watched
/// before, it is undecided again.
pub const STANDS: f64 = 0.5;

/// Growth of the later part of the window against the earlier, by time, from which growth between reports is steady.
pub const STEADY_GROWTH: f64 = 0.75;

/// Growth of the later part against the earlier below which what is alive is bounded.
pub const BOUNDED_GROWTH: f64 = 0.1;

/// Share freed now against share freed at an earlier report, above which frees are catching up with old blocks: under a
/// constant life the share freed grows with time, under a leak it stays.
pub const FREES_CATCH_UP: f64 = 1.3;

/// Blocks of a site at most, to be looked at as a container that grows by reallocation.
pub const CONTAINER_BLOCKS: u64 = 4;

/// Mean size of a container's blocks against those it replaced, from which it has grown.
pub const CONTAINER_GREW: f64 = 1.5;

/// Times a container must have grown, in the later half of the time until it last did, for its course to be known.
pub const CONTAINER_STEPS: u64 = 3;

/// Growth by which a container's size and the time until the next one rise, as a share: beyond it its end would not show for
/// long, and it is not called a leak. CPython's lists grow by an eighth, many vectors by half or double.
pub const CONTAINER_SMALL_STEPS: f64 = 1.0 / 3.0;

/// Times the time after which a container's next growth is due: within it growth goes on (after [`EXPECTED_IN_SILENCE`]
/// times, it has ended).
pub const CONTAINER_IN_TIME: f64 = 2.0;

/// Share of the window within which it must have grown last.
pub const CONTAINER_LATELY: f64 = 1.0 / 3.0;

/// Quiet time, as a multiple of the time in which a container grew, after which it has ended even if it doubles each time
/// (that it grew was seen, four times at least): doubling, it would have grown after once that time.
pub const CONTAINER_OVERDUE: f64 = 1.5;

/// Share of the window after which reports must not have begun to tell that a container only grows.
pub const CONTAINER_WATCHED_FROM: f64 = 0.6;

/// Of several containers of a site, how large those replaced must be in the mean, against those alive before.
pub const CONTAINERS_ALIKE: f64 = 0.5;

/// Share of survivors that missed frees could explain, above which a leak is not said.
pub const MAX_GHOSTS: f64 = 0.5;

/// Most confidence a site gets that never freed a block: it may be a store that is still filling.
pub const NEVER_FREED_CEILING: f64 = 0.9;

/// Confidence below which a leak is not said.
pub const MIN_CONFIDENCE: f64 = 0.3;

/// Bytes alive from which undecided sites that grow, together, keep a database from being called clean.
pub const MATERIAL_BYTES: u64 = 1 << 20;

/// Share of allocations lost from which no clean bill is given (any loss is told; this many leave too much unseen) —
/// zero: a lossy answer never reads as a clean one.
pub const LOSSES_A_CLEAN_ANSWER_BEARS: u64 = 0;
