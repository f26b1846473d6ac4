//! Reports the renderers are tested with.

use std::collections::BTreeMap;
use std::sync::Arc;

use memscope_ebpf::live::{BlockFields, BlockKind, EntryNumber, LiveBlock, SiteIndex};
use memscope_ebpf::site::StackEnd;

use super::clock::TimeOfDay;
use super::entries::Entries;
use super::model::{
    Collection, CollectionState, DatabaseReport, Entry, Estimate, Frame, SiteId, SourceLine, Stack, TargetDescription,
};
use super::order::Runs;
use super::sites::{Amount, SitesReport};
use super::summary::{Memory, Summary};
use crate::database::live_set::RawEntry;
use crate::suppress::apply::{Applied, apply_to};
use crate::suppress::rules::{Origin, parse};
use crate::target::address::{BuildId, FileOffset, RuntimeAddress};
use crate::target::identity::{Pid, StartTime, TargetId};

pub const AT: TimeOfDay = TimeOfDay {
    hour: 22,
    minute: 10,
    second: 24,
    millisecond: 619,
};

pub const SITE: SiteId = SiteId(0x0123_4567_c120_29d8);

pub fn frame(address: u64, function: &str, offset: u64) -> Frame {
    Frame {
        address: RuntimeAddress(address),
        function: Some(function.to_owned()),
        offset,
        module: "gateway".to_owned(),
        build_id: BuildId::from_bytes(&[0xab, 0xcd]),
        file_offset: Some(FileOffset(address & 0xffff)),
        source: None,
        inlined: false,
    }
}

pub fn at_line(frame: Frame, file: &str, line: Option<u32>) -> Frame {
    let source = Some(SourceLine {
        file: file.to_owned(),
        line,
    });
    Frame { source, ..frame }
}

pub fn stack(frames: Vec<Frame>, end: StackEnd) -> Stack {
    Stack {
        frames: frames.into_iter().map(Arc::new).collect(),
        end,
        by_frame_pointer: false,
    }
}

pub fn entry(number: u64, address: u64, size: u64, age_ms: u64, site: SiteId) -> Entry {
    Entry {
        number: EntryNumber(number),
        address: RuntimeAddress(address),
        size,
        age_ms,
        tid: 4711,
        site,
        kind: BlockKind::Heap,
    }
}

/// Entries as the database packs them.
pub fn packed(entries: &[Entry]) -> Entries {
    let now_ms = entries.iter().map(|entry| entry.age_ms).max().unwrap_or(0);
    let mut sites: Vec<SiteId> = entries.iter().map(|entry| entry.site).collect();
    sites.sort_unstable();
    sites.dedup();
    let blocks = entries.iter().map(|entry| RawEntry {
        address: entry.address,
        block: LiveBlock::pack(BlockFields {
            number: entry.number,
            size: entry.size,
            born_ms: now_ms - entry.age_ms,
            tid: entry.tid,
            site: SiteIndex(sites.binary_search(&entry.site).unwrap() as u32),
            kind: entry.kind,
            sampled: false,
        }),
    });
    Entries::new(Runs::in_order(blocks.collect()), now_ms, sites)
}

/// A database without entries.
pub fn empty(pid: u32, comm: &str) -> DatabaseReport {
    DatabaseReport {
        target: TargetDescription {
            id: TargetId {
                pid: Pid(pid),
                start_time: StartTime(8_123_456),
            },
            comm: comm.to_owned(),
            exe: format!("/opt/{comm}"),
            build_id: BuildId::from_bytes(&[0xab, 0xcd]),
        },
        collection: Collection {
            state: CollectionState::Collecting,
            since_unix_s: Some(1_700_000_000),
            seconds: 7200,
        },
        age_s: 3600,
        entries: Entries::default(),
        sites: BTreeMap::new(),
        total: 0,
        gaps: Vec::new(),
        losses: BTreeMap::new(),
        estimate: None,
        suppressed: Applied::default(),
        notes: Vec::new(),
    }
}

/// A database of these entries and sites, all printed.
pub fn with(entries: Vec<Entry>, sites: Vec<(SiteId, Stack)>) -> DatabaseReport {
    DatabaseReport {
        total: entries.len() as u64,
        entries: packed(&entries),
        sites: sites.into_iter().collect(),
        ..empty(1234, "gateway")
    }
}

/// The report in the design, frame for frame.
pub fn design_sample() -> DatabaseReport {
    let frames = vec![
        frame(0xeb_61b0, "zOsMem_Alloc", 0x228),
        frame(0xeb_2750, "rn_getseg", 0x1c),
        at_line(frame(0x9e_3ea0, "servGetMem", 0x24), "serv/mem.c", Some(118)),
    ];
    with(
        vec![entry(79258, 0x1d49_6a80, 0x2c, 5_327_999, SITE)],
        vec![(SITE, stack(frames, StackEnd::Outermost))],
    )
}

/// One of everything: inlined frames, no symbols, no module, early ends, a lost stack, hostile names, a gap, losses.
pub fn everything() -> DatabaseReport {
    let (deep, nowhere, lost) = (SiteId(0x10), SiteId(0xffff_ffff_0000_0001), SiteId(0x99));
    let inlined = Frame {
        inlined: true,
        ..at_line(
            frame(0x5555_0000_1234, "Pool<int>::take(unsigned long)", 0x44),
            "pool.hpp",
            Some(9),
        )
    };
    let bare = |address, module: &str, offset| Frame {
        function: None,
        module: module.to_owned(),
        build_id: None,
        ..frame(address, "", offset)
    };
    let sites = vec![
        (
            deep,
            stack(
                vec![
                    frame(0x7f00_0000_1000, "malloc", 0),
                    inlined,
                    at_line(frame(0x5555_0000_1234, "main", 0x44), "src/main.cpp", None),
                ],
                StackEnd::Outermost,
            ),
        ),
        (
            nowhere,
            stack(
                vec![
                    bare(0x7f00_0000_2000, "libx.so.6", 0x2000),
                    bare(0x7fff_0000_0abc, "[vdso]", 0xabc),
                    Frame {
                        file_offset: None,
                        ..bare(0xdead_beef, "", 0xdead_beef)
                    },
                    at_line(
                        frame(0x1, "evil\nentry:1 address:0x0\x1b[2J", 0),
                        "a\rb\u{202e}.c",
                        Some(1),
                    ),
                    bare(0x2, "lib\nnote: all is well.so", 1),
                ],
                StackEnd::NoTable,
            ),
        ),
    ];
    let mut report = with(
        vec![
            entry(3, 0x10, 0, 9_000_000, deep),
            entry(4, u64::MAX, (1 << 48) - 1, 8_000_000, nowhere),
            entry(5, 0x20, 1, 7_000_000, lost),
            Entry {
                kind: BlockKind::Region,
                ..entry(6, 0x30, 4096, 3_600_000, deep)
            },
        ],
        sites,
    );
    report.total = 9;
    report.target.comm = "ev\nil\x1b".to_owned();
    report.target.build_id = None;
    report.collection.state = CollectionState::Exited;
    report.gaps = vec![super::model::Gap {
        lasted_ms: 20_500,
        ended_ms_ago: 7_500_000,
    }];
    report.losses = BTreeMap::from([("live_full", 12), ("missed_free", 3)]);
    report.notes = vec!["2 of 3 stacks are incomplete\nreally".to_owned()];
    report
}

/// Only some blocks are recorded, and one rule of two hides the site of one entry.
pub fn sampled_and_suppressed() -> DatabaseReport {
    let mut report = design_sample();
    let rules = parse("leak:^flush$\nleak:fixed", &Origin::Target("gateway".to_owned())).unwrap();
    let live = Amount { blocks: 2, bytes: 96 };
    let hidden = site_stack("flush");
    report.suppressed = apply_to(&rules, [(SiteId(0x77), &hidden, live)].into_iter(), &[]);
    report.total += live.blocks;
    report.estimate = Some(Estimate {
        sample_bytes: 512,
        blocks: 30.5,
        bytes: 1500.25,
        bytes_error: 700.0,
    });
    report
        .notes
        .extend(report.estimate.map(|estimate| estimate.to_string()));
    report
}

/// A database by site, without any, that has collected for so many milliseconds.
pub fn sites_report(window_ms: u64) -> SitesReport {
    let database = empty(1234, "gateway");
    SitesReport {
        target: database.target,
        collection: Collection {
            seconds: window_ms / 1000,
            ..database.collection
        },
        at_unix_s: 1_700_000_000 + window_ms / 1000,
        at_monotonic_ms: 5_000_000 + window_ms,
        watched_until_ms: 5_000_000 + window_ms,
        window: 5_000_000..5_000_000 + window_ms,
        sites: Vec::new(),
        gaps: Vec::new(),
        events: BTreeMap::new(),
        losses: BTreeMap::new(),
        sampling: None,
        notes: Vec::new(),
    }
}

/// malloc, called by a function, called by main.
pub fn site_stack(function: &str) -> Stack {
    let malloc = Frame {
        module: "libc.so.6".to_owned(),
        ..frame(0x7f00_0000_1000, "malloc", 0)
    };
    let frames = vec![
        malloc,
        at_line(frame(0x40_1234, function, 0x24), "src/gateway.c", Some(118)),
        frame(0x40_2000, "main", 0x44),
    ];
    stack(frames, StackEnd::Outermost)
}

/// A report judged, and nothing else known.
pub fn summary_of(report: SitesReport) -> Summary {
    Summary {
        judged: crate::verdict::judge_database(&report, &()),
        memory: Memory::default(),
        previous: None,
        allocators: BTreeMap::from([("glibc".to_owned(), 22)]),
        span: None,
        cost: None,
        suppressed: Applied::default(),
        report,
    }
}

/// Demands that a text is the one kept beside this file; with `MEMSCOPE_BLESS` set it is kept from now on.
pub fn golden(name: &str, shown: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/report")
        .join(name);
    if std::env::var_os("MEMSCOPE_BLESS").is_some() {
        std::fs::write(&path, shown).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    assert!(kept == shown, "{name} holds\n{kept}\nand this is\n{shown}");
}
