//! A snapshot of the history whose checksum is right: read, and judged by.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use memscope::database::session_file::Moment;
use memscope::history::{Snapshot, Totals};
use memscope::report::cohorts::Cohorts;
use memscope::report::model::SiteId;
use memscope::report::sites::{Amount, BIRTH_BINS};
use memscope::verdict::{Doubts, Found, Ground, PastPoint, SiteView, judge_site};
use memscope_fuzz::seeds;

fuzz_target!(init: seeds::plant([seed()]), |data: &[u8]| {
    // FNV-1a, as the format's description says.
    let hash = data.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let whole = [data, &hash.to_le_bytes()].concat();
    let Some(snapshot) = Snapshot::decode(&whole) else { return };
    let _total = snapshot.total_live();
    assert_eq!(Snapshot::decode(&snapshot.encode()).as_ref(), Some(&snapshot));
    for totals in snapshot.sites.values() {
        judge(totals);
    }
});

/// A site of two minutes, an even leak, whose reports after one and a half say what the snapshot does.
fn judge(totals: &Totals) {
    let births = [Amount { blocks: 10, bytes: 640 }; BIRTH_BINS];
    let mut cohorts = Cohorts::of_window(120_000);
    (0..320).for_each(|block| cohorts.add(block * 375));
    let live = Amount {
        blocks: 320,
        bytes: 20_480,
    };
    let point = |at_ms| PastPoint {
        at_ms,
        allocated: totals.allocated,
        live: totals.live,
        cohorts: totals.cohorts.clone(),
    };
    for freed in [0, 100, 10_000] {
        let view = SiteView {
            allocated: Amount {
                blocks: live.blocks + freed,
                bytes: live.bytes + freed * 64,
            },
            live,
            births: &births,
            cohorts: Some(&cohorts),
            window_ms: 120_000,
            settled_ms: 0,
            oldest_ms: 119_000,
            youngest_ms: 100,
            found: totals.found,
        };
        let judgement = judge_site(&view, &[point(60_000), point(90_000)], Doubts::default());
        assert!((0.0..=1.0).contains(&judgement.evidence.confidence), "{judgement:?}");
    }
}

fn seed() -> Vec<u8> {
    let amount = |number| Amount {
        blocks: number,
        bytes: number << 20,
    };
    let totals = |number| Totals {
        allocated: amount(number * 2),
        live: amount(number),
        cohorts: Cohorts::from_parts(4000, vec![number / 2, 0, number - number / 2]),
        found: number.is_multiple_of(3).then_some(Found {
            ground: Ground::SteadySurvivors,
            first_ms: 60_000,
            confirmed_ms: 60_000 + number,
            permille: 900,
        }),
    };
    let snapshot = Snapshot {
        at: Moment {
            unix_s: 1_700_000_000,
            monotonic_ms: 5_000_000,
        },
        last_number: 1 << 47,
        resident: Some(1 << 30),
        complete: true,
        window_start_ms: Some(4_900_000),
        sites: (0..20)
            .map(|id| (SiteId(id << 58 | id), totals(id)))
            .collect::<BTreeMap<_, _>>(),
    };
    let bytes = snapshot.encode();
    bytes[..bytes.len() - 8].to_vec()
}
