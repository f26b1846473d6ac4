//! Profiles read back with the same messages, as any reader of the format would.

use std::io::Read as _;

use prost::Message as _;

use super::messages::Profile;
use crate::export::Exported;
use crate::export::samples::{gateway, modules};
use crate::symbol::SavedModule;

fn written(modules: &[SavedModule]) -> Vec<u8> {
    let report = gateway();
    let mut out = Vec::new();
    super::write(
        Exported {
            report: &report,
            modules,
        },
        &mut out,
    )
    .unwrap();
    out
}

fn read(bytes: &[u8]) -> Profile {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    Profile::decode(plain.as_slice()).unwrap()
}

fn text(profile: &Profile, number: i64) -> &str {
    &profile.string_table[number as usize]
}

/// A sample's frames, innermost first, as `pprof` shows them.
fn stack(profile: &Profile, sample: usize) -> Vec<String> {
    let mut names = Vec::new();
    for id in &profile.sample[sample].location_id {
        let location = profile.location.iter().find(|location| location.id == *id).unwrap();
        if location.line.is_empty() {
            names.push(format!("{:#x}", location.address));
        }
        for line in &location.line {
            let function = profile
                .function
                .iter()
                .find(|function| function.id == line.function_id)
                .unwrap();
            names.push(format!("{}:{}", text(profile, function.name), line.line));
        }
    }
    names
}

#[test]
fn four_values_a_sample_in_the_usual_order() {
    let profile = read(&written(&modules()));
    let types: Vec<_> = profile
        .sample_type
        .iter()
        .map(|each| (text(&profile, each.kind), text(&profile, each.unit)))
        .collect();
    assert_eq!(
        types,
        [
            ("alloc_objects", "count"),
            ("alloc_space", "bytes"),
            ("inuse_objects", "count"),
            ("inuse_space", "bytes")
        ]
    );
    assert_eq!(text(&profile, profile.default_sample_type), "inuse_space");
    assert_eq!(profile.string_table[0], "");
    assert_eq!(profile.sample[0].value, [50, 50_000, 40, 40_000]);
    assert_eq!(
        profile.sample[3].value,
        [1000, 8000, 0, 0],
        "what was freed stays in the totals"
    );
    assert_eq!((profile.period, profile.time_nanos), (1, 1_700_007_200_000_000_000));
    assert_eq!(profile.duration_nanos, 7_200_000_000_000);
}

#[test]
fn inlined_functions_share_a_location_and_the_leaf_is_first() {
    let profile = read(&written(&modules()));
    assert_eq!(
        stack(&profile, 0),
        ["malloc:0", "Pool<int>::take(unsigned long):70", "serve:44", "main:9"]
    );
    assert_eq!(profile.sample[0].location_id.len(), 3);
    let shared = profile
        .location
        .iter()
        .find(|location| location.line.len() == 2)
        .unwrap();
    assert_eq!(shared.address, 0x40_1200);
    // `main` and `malloc` are one location and one function each, however many stacks they stand in.
    assert_eq!(
        profile.sample[0].location_id.last(),
        profile.sample[1].location_id.last()
    );
    let keeps = profile
        .function
        .iter()
        .filter(|function| text(&profile, function.name) == "keep");
    assert_eq!(keeps.count(), 1);
}

#[test]
fn a_stack_cut_short_says_so_and_an_unnamed_address_stays_an_address() {
    let profile = read(&written(&modules()));
    let names = stack(&profile, 2);
    assert_eq!(names[1], "0x7e0000002000");
    assert!(names[2].starts_with("[stack ends here: no unwind table"), "{names:?}");
    let labels: Vec<_> = profile.sample[2]
        .label
        .iter()
        .map(|label| (text(&profile, label.key), text(&profile, label.text)))
        .collect();
    assert_eq!(labels[0], ("site", "0x0000000000000012"));
    assert_eq!(labels[1].0, "stack_end");
}

#[test]
fn the_first_mapping_is_the_program_with_its_build_id() {
    for (modules, start) in [(modules(), 0x40_1000), (Vec::new(), 0)] {
        let profile = read(&written(&modules));
        let first = &profile.mapping[0];
        assert_eq!(text(&profile, first.filename), "/opt/gateway");
        assert_eq!(text(&profile, first.build_id), "abcd");
        assert_eq!((first.id, first.memory_start), (1, start));
        assert!(first.has_functions && first.has_inline_frames && first.has_line_numbers);
        let main = profile
            .location
            .iter()
            .find(|location| location.address == 0x40_1100)
            .unwrap();
        assert_eq!(main.mapping_id, 1);
        let unnamed = profile
            .mapping
            .iter()
            .find(|each| text(&profile, each.filename) == "libx.so")
            .unwrap();
        assert!(!unnamed.has_functions, "pprof may look for its names itself");
    }
}

#[test]
fn equal_reports_give_equal_files() {
    let file = written(&modules());
    assert_eq!(file, written(&modules()));
    assert_eq!(file[4..8], [0; 4], "no time in the gzip header");
}
