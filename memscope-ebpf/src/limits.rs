//! Sizes both sides agree on. Everything bounded in the kernel is bounded here.

/// Live blocks a database can hold unless the user asks for another number. A power of two: the kernel's hash map
/// rounds its bucket array up to one.
pub const LIVE_CAPACITY: u32 = 1 << 20;
/// Regions a database made with `--regions` can hold: as many as a process can have mappings by default
/// (`vm.max_map_count`).
pub const REGION_CAPACITY: u32 = 1 << 16;
/// Distinct call stacks a database can hold.
pub const SITE_CAPACITY: u32 = 1 << 15;
/// Frame addresses of all sites together.
pub const FRAME_CAPACITY: u32 = 1 << 19;
/// Threads that can be inside an allocator call at once, or have been since they were born.
pub const INFLIGHT_CAPACITY: u32 = 1 << 14;
/// Frames of one stack, without the allocator function itself.
pub const MAX_FRAMES: usize = 128;
/// Probed calls of one thread that can be open at once: one, and one more for each signal handler on top of another that interrupted
/// one. A power of two.
pub const MAX_NESTING: usize = 8;
/// Living processes of one followed family.
pub const FAMILY_CAPACITY: u32 = 4096;
/// Bytes of the ring that tells a follower of its family: some twelve hundred records.
pub const FAMILY_EVENT_BYTES: u32 = 64 << 10;
/// Sessions that can share probes on one host.
pub const SHARED_SESSIONS: u32 = 4096;
/// In place of a slot: the hits of this process are nobody's any more, and nothing is lost with them.
pub const NOWHERE: u32 = u32::MAX;
/// Names of the maps, as pinned in the session's folder of the BPF file system.
pub mod map {
    /// address → [`crate::live::LiveBlock`]
    pub const LIVE: &str = "LIVE";
    /// thread id → [`crate::inflight::InFlight`]
    pub const INFLIGHT: &str = "INFLIGHT";
    /// stack hash → site index
    pub const SITES: &str = "SITES";
    /// site index → [`crate::site::SiteRecord`]
    pub const SITE_RECORDS: &str = "SITE_RECORDS";
    /// frame addresses of all sites, each site's in one run
    pub const FRAMES: &str = "FRAMES";
    /// [`crate::counter::Counter`] → count, per CPU
    pub const COUNTERS: &str = "COUNTERS";
    /// one [`crate::state::Control`]
    pub const CONTROL: &str = "CONTROL";
    /// one [`crate::state::State`]
    pub const STATE: &str = "STATE";
    /// the target's executable mappings, two [`crate::unwind::mapping::MappingTable`]
    pub const MAPPINGS: &str = "MAPPINGS";
    /// one [`crate::unwind::mapping::Generation`]
    pub const GENERATION: &str = "GENERATION";
    /// [`crate::unwind::row::Page`] of each 1 KiB of code
    pub const PAGES: &str = "PAGES";
    /// [`crate::unwind::row::Row`] of all tables
    pub const ROWS: &str = "ROWS";
    /// first address → [`crate::region::Region`]
    pub const REGIONS: &str = "REGIONS";
    /// one [`crate::region::RegionWork`]
    pub const REGION_WORK: &str = "REGION_WORK";
    /// process id → [`crate::family::Member`]; of a followed family, not of a session
    pub const FAMILY: &str = "FAMILY";
    /// ring of [`crate::family::FamilyEvent`]
    pub const FAMILY_EVENTS: &str = "FAMILY_EVENTS";
    /// counts of what a follower could not be told
    pub const FAMILY_TALLY: &str = "FAMILY_TALLY";
    /// process id → slot of its session in the arrays below; of the shared probes, not of a session
    pub const SLOTS: &str = "SLOTS";
    /// hits of the shared probes that no session was found for
    pub const UNROUTED: &str = "UNROUTED";
    /// Each kind of probe's programs by slot, of the shared probes: the program's name, its array, and the program that hands over to it.
    pub const ROUTES: [(&str, &str, &str); 7] = [
        ("free_enter", "TO_FREE_ENTER", "route_free_enter"),
        ("call_return", "TO_CALL_RETURN", "route_call_return"),
        ("call_enter", "TO_CALL_ENTER", "route_call_enter"),
        ("call_exit", "TO_CALL_EXIT", "route_call_exit"),
        ("exception_seen", "TO_EXCEPTION", "route_exception"),
        ("region_return", "TO_REGION_OUT", "route_region_return"),
        ("region_enter", "TO_REGION_IN", "route_region_enter"),
    ];
    /// Every map of a followed family.
    pub const OF_FAMILY: [&str; 3] = [FAMILY, FAMILY_EVENTS, FAMILY_TALLY];
    /// Every map that outlives the program that loads it.
    pub const PINNED: [&str; 14] = [
        LIVE,
        REGIONS,
        REGION_WORK,
        INFLIGHT,
        SITES,
        SITE_RECORDS,
        FRAMES,
        COUNTERS,
        CONTROL,
        STATE,
        MAPPINGS,
        GENERATION,
        PAGES,
        ROWS,
    ];
}
