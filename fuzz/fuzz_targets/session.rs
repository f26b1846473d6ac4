//! `session.json`, and what is made of a session's saved mappings and tables.
#![no_main]

use std::collections::BTreeSet;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use memscope_ebpf::live::SiteIndex;
use memscope_ebpf::site::SiteRecord;
use memscope::allocator::discovery::discover;
use memscope::allocator::spec::{SavedSpec, SpecKind};
use memscope::database::load::Capacities;
use memscope::database::generations::{MappedGeneration, modules_at};
use memscope::database::session_file::{LeftOut, Limits, Moment, Run, SCHEMA, SessionFile};
use memscope::host::preflight::Accepted;
use memscope::probe::exits;
use memscope::probe::plan::{PlannedCall, plan};
use memscope::symbol::{FileStamp, ModuleMap, SavedModule, SavedSegment, site_id};
use memscope::target::address::{BuildId, ElfAddress, FileOffset, RuntimeAddress};
use memscope::target::elf::ElfImage;
use memscope::target::identity::{Pid, StartTime, TargetId};
use memscope::target::loaded::{LoadError, LoadedImage};
use memscope::target::mapping::{FileKey, parse_maps};
use memscope::target::memory::NoMemory;
use memscope::target::process::Target;
use memscope::target::program::Program;
use memscope::unwind::{CodeMapping, CodeSource, Layout};
use memscope_fuzz::seeds;

const ID: TargetId = TargetId {
    pid: Pid(1),
    start_time: StartTime(2),
};

fuzz_target!(init: seeds::plant([seed()]), |data: &[u8]| {
    let Ok(mut file) = SessionFile::parse(data, Path::new("session.json"), ID) else { return };
    for call in &file.calls {
        let _used = (call.spec(), call.programs(), call.site.address());
    }
    let record = SiteRecord::default();
    for (index, generation) in file.generations.iter().enumerate() {
        let _belongs = (generation.holds(0), generation.holds(u16::MAX));
        let _believed = generation.believed(SiteIndex(1), &record, &[0, 1, u64::MAX]);
        let modules = modules_at(&file.generations, index);
        let map = ModuleMap::new(modules.clone());
        for segment in modules.iter().flat_map(|module| &module.segments) {
            for address in [segment.start, RuntimeAddress(segment.end.0.saturating_sub(1)), RuntimeAddress(u64::MAX)] {
                let _located = map.locate(address).map(|found| (found.offset, found.module.name()));
                let _id = site_id(map.identity(address), [map.identity(address)]);
            }
        }
    }
    let mapping = CodeMapping {
        start: RuntimeAddress(0x7f00_0000_0000),
        end: RuntimeAddress(0x7f00_0001_0000),
        offset: FileOffset(0),
        source: CodeSource::Image("new".to_owned()),
    };
    let known = file.layout.placed().next().map(|(key, _)| key.to_owned()).unwrap_or_default();
    let again = CodeMapping { source: CodeSource::Image(known), ..mapping.clone() };
    let _refresh = file.layout.refresh(&[mapping, again], &BTreeSet::new(), |_| None);
    let text = serde_json::to_vec(&file).expect("it came from JSON");
    SessionFile::parse(&text, Path::new("session.json"), ID).expect("what is written can be read");
});

fn seed() -> Vec<u8> {
    let moment = Moment {
        unix_s: 1_700_000_000,
        monotonic_ms: 5_000,
    };
    let module = SavedModule {
        path: "/lib/libc.so.6".into(),
        build_id: BuildId::from_bytes(&[1, 2, 3]),
        file: Some(FileStamp {
            device: 1,
            inode: 2,
            size: 3,
            modified_s: -4,
            modified_ns: 5,
        }),
        mapped: Some(FileKey {
            device: (8, 1),
            inode: 2,
        }),
        segments: vec![SavedSegment {
            start: RuntimeAddress(0x7f00_0000_0000),
            end: RuntimeAddress(0x7f00_0000_1000),
            offset: FileOffset(0x1000),
            elf_address: Some(ElfAddress(0x2000)),
        }],
    };
    let mut layout = Layout::new(1 << 10, 1 << 10);
    let mapping = CodeMapping {
        start: RuntimeAddress(0x7f00_0000_0000),
        end: RuntimeAddress(0x7f00_0000_1000),
        offset: FileOffset(0x1000),
        source: CodeSource::Image("010203".to_owned()),
    };
    layout.refresh(&[mapping], &BTreeSet::new(), |_| None);
    let file = SessionFile {
        schema: SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        target: ID,
        comm: "a".to_owned(),
        exe: "/a".to_owned(),
        program: Target::of_pid(Pid(std::process::id())).ok().and_then(|target| Program::of(&target).ok()),
        build_id: BuildId::from_bytes(&[4]),
        created: moment,
        capacities: Capacities::LEAST,
        limits: Limits::default(),
        accepted: Accepted::default(),
        followed: None,
        by_hand: vec![SavedSpec {
            kind: SpecKind::Free,
            text: "f(ptr=0)".to_owned(),
        }],
        runs: vec![Run { from: moment, to: None }],
        generations: vec![MappedGeneration::new(1, vec![module])],
        left_out: LeftOut::default(),
        mappings_seen: moment,
        unwatched: Some("a danger".to_owned()),
        found_ended: Some(moment),
        unrouted_before: Some(3),
        layout,
        calls: calls(),
    };
    let mut value = serde_json::to_value(&file).expect("a session file is JSON");
    value["version"] = memscope_version().into();
    serde_json::to_vec(&value).expect("so it is written")
}

/// The version that this build of memscope accepts: asked of it, by a file of another one.
fn memscope_version() -> String {
    let other = format!(r#"{{"schema":"{SCHEMA}","version":"none"}}"#);
    match SessionFile::parse(other.as_bytes(), Path::new(""), ID) {
        Err(memscope::database::error::DatabaseError::OtherVersion { ours, .. }) => ours.to_owned(),
        _ => String::new(),
    }
}

/// Two planned calls of the library that is compiled here; none without a C compiler.
fn calls() -> Vec<PlannedCall> {
    let Some(image) = seeds::images().into_iter().next() else {
        return Vec::new();
    };
    let Ok(image) = ElfImage::parse(image) else {
        return Vec::new();
    };
    let mapping = parse_maps(b"7f0000000000-7f0000010000 r-xp 00001000 08:01 42 /lib/seed.so\n").remove(0);
    let images = [LoadedImage::new(mapping, Ok::<_, LoadError>(image))];
    let discovery = discover(&images, &NoMemory);
    plan(&discovery, &images, &exits::find(&discovery, &images, &NoMemory))
}
