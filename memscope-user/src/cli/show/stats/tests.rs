//! `stats` as JSON against its schema, and what its text says.

use memscope_ebpf::site::StackEnd;

use super::*;
use crate::report::schemas::check;

fn cost() -> Option<CostPart> {
    Some(CostPart {
        events_per_s: 12,
        percent_of_one_cpu: None,
    })
}

#[test]
fn json_is_what_the_schema_says() {
    let live = || Live {
        blocks: 1,
        bytes: 2,
        capacity: 3,
    };
    let stacks = || {
        let mut shares = StackShares::default();
        shares.add(9, StackEnd::Outermost, true, String::new);
        shares.add(1, StackEnd::NotCode, false, || "/x".to_owned());
        shares
    };
    let stats = |regions| Stats {
        pid: 1,
        start_time: 2,
        comm: "x".to_owned(),
        exe: "/x".to_owned(),
        state: "stopped",
        since_unix_s: None,
        seconds: 3,
        followed: None,
        functions: 4,
        shared_probes: 5,
        cost: cost(),
        live: live(),
        regions,
        mappings: Mappings {
            generation: 1,
            seen_s_ago: 2,
        },
        left_out: LeftOut {
            mappings: 3,
            mappings_with_table: 1,
            images: vec!["a.so".to_owned()],
        },
        unnamed_files: 7,
        sites: Used { used: 1, capacity: 2 },
        stack_ends: BTreeMap::from([("outermost frame", 1)]),
        stacks: stacks(),
        events: BTreeMap::from([("allocated", 1)]),
        anomalies: BTreeMap::new(),
        losses: BTreeMap::new(),
    };
    let mut out = Vec::new();
    write_document(&mut out, STATS, &[stats(None), stats(Some(live()))]).unwrap();
    check::document(&serde_json::from_slice(&out).unwrap());
    let mut out = Vec::new();
    write_lines(&mut out, &[stats(None)]).unwrap();
    check::lines(STATS, &String::from_utf8(out).unwrap());
    let mut out = Vec::new();
    write_text(&stats(None), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(
        text.contains("\n    note: 3 executable mappings were left out"),
        "{text}"
    );
    assert!(
        text.contains(" 4 probed, by 5 probes shared with other sessions\n"),
        "{text}"
    );
    assert!(
        text.contains("\n    note: addresses in 7 files have no names: "),
        "{text}"
    );
}
