//! Everything the programs count: events, and every way an event or a part of one can be lost.

/// What a counter means for the truth of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Ordinary traffic.
    Event,
    /// Worth knowing, but the live set stays exact.
    Anomaly,
    /// A block, or a part of its record, is missing or doubtful: reports carry a note.
    Loss,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident = $key:literal, $weight:ident, $text:literal;)*) => {
        /// One counter; its number is its index in the COUNTERS map.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        pub enum Counter { $($(#[$doc])* $name,)* }

        impl Counter {
            /// Every counter, in map order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Name in JSON and in `stats`.
            #[must_use]
            pub const fn key(self) -> &'static str {
                match self { $(Self::$name => $key,)* }
            }

            /// What it means for the truth of a report.
            #[must_use]
            pub const fn weight(self) -> Weight {
                match self { $(Self::$name => Weight::$weight,)* }
            }

            /// One line that a person reads after the number.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

counters! {
    /// Blocks recorded.
    Allocated = "allocated", Event, "blocks recorded";
    /// Tracked blocks that ended.
    Freed = "freed", Event, "tracked blocks freed";
    /// Successful reallocations of tracked blocks.
    Reallocated = "reallocated", Event, "tracked blocks reallocated";
    /// Calls that failed: NULL, MAP_FAILED or an error code.
    Failed = "failed", Event, "calls that returned no block";
    /// free(NULL), where the probe sits before the test for it.
    FreeNull = "free_null", Event, "frees of NULL";
    /// Frees of blocks we do not hold: mostly born before attach.
    FreeUnknown = "free_unknown", Event, "frees of blocks not held: from before attach, or left out by sampling";
    /// Calls inside another probed call, counted once for the outermost.
    Nested = "nested", Event, "calls nested in another probed call";
    /// Returns of calls that began before their entry probe was attached.
    ReturnUnknown = "return_unknown", Event, "returns of calls begun before attach";
    /// In-flight calls that never returned (longjmp, exception, cancellation).
    Abandoned = "abandoned", Anomaly, "calls that never returned";
    /// A new block at an address that was live: its free was not seen.
    MissedFree = "missed_free", Anomaly, "frees that were not seen (address reused)";
    /// Blocks refused because LIVE was full.
    LiveFull = "live_full", Loss, "blocks not recorded: the live map is full";
    /// Blocks refused because the kernel had no memory for an element.
    LiveNoMemory = "live_no_memory", Loss, "blocks not recorded: the kernel had no memory for them";
    /// Blocks recorded without a stack because SITES, SITE_RECORDS or FRAMES were full.
    SitesFull = "sites_full", Loss, "blocks recorded without their stack: the site map is full";
    /// Calls not followed because INFLIGHT was full.
    InflightFull = "inflight_full", Loss, "calls not followed: too many threads";
    /// Calls not followed because a thread had too many open ones.
    NestingFull = "nesting_full", Loss, "calls not followed: nested too deep";
    /// Nested calls left out under a call that later proved to have been abandoned.
    AbandonedNested = "abandoned_nested", Loss, "calls taken for nested ones of a call that never returned";
    /// Results that could not be read through their pointer.
    ResultUnreadable = "result_unreadable", Loss, "blocks not recorded: the result could not be read";
    /// Failed reallocations whose old block was put back; readers use it to see that one was on its way.
    Restored = "restored", Event, "failed reallocations, block kept";
    /// Blocks that sampling left out.
    Unsampled = "unsampled", Event, "blocks left out by sampling";
    /// Old blocks that could not be put back after a failed reallocation.
    RestoreFailed = "restore_failed", Loss, "blocks lost: a failed reallocation could not put them back";
    /// Regions recorded (`--regions`), those that mremap moved or resized included.
    Mapped = "mapped", Event, "regions mapped";
    /// Regions, or parts of them, that ended.
    Unmapped = "unmapped", Event, "regions unmapped, whole or in part";
    /// Regions refused because REGIONS was full.
    RegionsFull = "regions_full", Loss, "regions not recorded: the region map is full";
    /// Changes to regions given up because other threads held the region map all the time.
    RegionsBusy = "regions_busy", Loss, "changes to regions not recorded: the region map was busy";
    /// Stacks that CFI led into an address of no known executable mapping: the tables were stale (or the stack is broken).
    StaleTables = "stale_tables", Anomaly, "stacks that led into code mapped since the last refresh";
    /// Frames whose row neither the thread's last stack nor the rule cache had.
    RowsSearched = "rows_searched", Event, "frames whose unwind row was searched for, not remembered";
    /// Hits of a probe that sessions share, by a process that runs in some target's memory and is no known target's child.
    Unrouted = "unrouted", Loss, "calls not recorded: of processes in a traced target's memory that are not its children";
    /// Calls that ended by an exception (`bad_alloc`): no block.
    Thrown = "thrown", Event, "calls left by an exception";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_numbered_without_gaps_and_named_apart() {
        for (index, counter) in Counter::ALL.iter().enumerate() {
            assert_eq!(*counter as usize, index);
            assert!(
                Counter::ALL.iter().filter(|c| c.key() == counter.key()).count() == 1,
                "{}",
                counter.key()
            );
        }
    }
}
