//! A database by site to test exports, comparisons and suppressions with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use memscope_ebpf::site::StackEnd;

use crate::report::model::{Collection, CollectionState, Frame, SiteId, SourceLine, Stack, TargetDescription};
use crate::report::sites::{Amount, SiteFigures, SitesReport};
use crate::symbol::{SavedModule, SavedSegment};
use crate::target::address::{BuildId, FileOffset, RuntimeAddress};
use crate::target::identity::{Pid, StartTime, TargetId};

pub(crate) fn program() -> BuildId {
    BuildId::from_bytes(&[0xab, 0xcd]).unwrap()
}

pub(crate) fn libc() -> BuildId {
    BuildId::from_bytes(&[0x11, 0x22]).unwrap()
}

/// A frame of the program.
pub(crate) fn own(address: u64, function: &str, line: u32) -> Frame {
    Frame {
        address: RuntimeAddress(address),
        function: Some(function.to_owned()),
        offset: 0x10,
        module: "gateway".to_owned(),
        build_id: Some(program()),
        file_offset: Some(FileOffset(address - 0x40_0000)),
        source: Some(SourceLine {
            file: "gateway.c".to_owned(),
            line: Some(line),
        }),
        inlined: false,
    }
}

/// The allocator function.
pub(crate) fn malloc() -> Frame {
    Frame {
        address: RuntimeAddress(0x7f00_0000_1000),
        function: Some("malloc".to_owned()),
        offset: 0,
        module: "libc.so.6".to_owned(),
        build_id: Some(libc()),
        file_offset: Some(FileOffset(0x1000)),
        source: None,
        inlined: false,
    }
}

pub(crate) fn whole(frames: Vec<Frame>) -> Stack {
    Stack {
        frames: frames.into_iter().map(Arc::new).collect(),
        end: StackEnd::Outermost,
        by_frame_pointer: false,
    }
}

/// A site: allocated and freed blocks of one size.
pub(crate) fn site(id: u64, stack: Stack, size: u64, allocated: u64, freed: u64) -> SiteFigures {
    let amount = |blocks| Amount {
        blocks,
        bytes: blocks * size,
    };
    SiteFigures {
        allocated: amount(allocated),
        freed: amount(freed),
        live: amount(allocated - freed),
        oldest_ms: (allocated > freed).then_some(90_500),
        youngest_ms: (allocated > freed).then_some(500),
        ..SiteFigures::empty(SiteId(id), stack)
    }
}

pub(crate) fn report(sites: Vec<SiteFigures>) -> SitesReport {
    SitesReport {
        target: TargetDescription {
            id: TargetId {
                pid: Pid(1234),
                start_time: StartTime(8_123_456),
            },
            comm: "gateway".to_owned(),
            exe: "/opt/gateway".to_owned(),
            build_id: Some(program()),
        },
        collection: Collection {
            state: CollectionState::Collecting,
            since_unix_s: Some(1_700_000_000),
            seconds: 7200,
        },
        at_unix_s: 1_700_007_200,
        at_monotonic_ms: 9_000_000,
        watched_until_ms: 9_000_000,
        window: 1_800_000..9_000_000,
        sites,
        gaps: Vec::new(),
        events: BTreeMap::new(),
        losses: BTreeMap::new(),
        sampling: None,
        notes: Vec::new(),
    }
}

/// Two allocating functions under one caller, one of them inlined; a stack cut short; a site of which nothing lives.
pub(crate) fn gateway() -> SitesReport {
    let main = || own(0x40_1100, "main", 9);
    let inlined = Frame {
        inlined: true,
        ..own(0x40_1200, "Pool<int>::take(unsigned long)", 70)
    };
    let bare = Frame {
        function: None,
        source: None,
        build_id: None,
        module: "libx.so".to_owned(),
        offset: 0x2000,
        ..own(0x7e00_0000_2000, "", 0)
    };
    let cut = Stack {
        end: StackEnd::NoTable,
        ..whole(vec![malloc(), bare])
    };
    report(vec![
        site(
            0x10,
            whole(vec![malloc(), inlined, own(0x40_1200, "serve", 44), main()]),
            1000,
            50,
            10,
        ),
        site(
            0x11,
            whole(vec![malloc(), own(0x40_1300, "keep", 20), main()]),
            64,
            100,
            0,
        ),
        site(0x12, cut, 10, 3, 1),
        site(
            0x13,
            whole(vec![malloc(), own(0x40_1400, "churn; 12", 30), main()]),
            8,
            1000,
            1000,
        ),
        site(
            0x14,
            whole(vec![malloc(), own(0x40_1310, "keep", 21), main()]),
            64,
            1,
            0,
        ),
    ])
}

pub(crate) fn modules() -> Vec<SavedModule> {
    let module = |path: &str, id: BuildId, start: u64, end: u64, offset: u64| SavedModule {
        path: PathBuf::from(path),
        build_id: Some(id),
        file: None,
        mapped: None,
        segments: vec![SavedSegment {
            start: RuntimeAddress(start),
            end: RuntimeAddress(end),
            offset: FileOffset(offset),
            elf_address: None,
        }],
    };
    vec![
        module("/lib/libc.so.6", libc(), 0x7f00_0000_0000, 0x7f00_0010_0000, 0),
        module("/opt/gateway", program(), 0x40_1000, 0x40_2000, 0x1000),
    ]
}
