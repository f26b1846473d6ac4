//! A snapshot of the history whose checksum is right.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use memscope::database::session_file::Moment;
use memscope::history::{Snapshot, Totals};
use memscope::report::model::SiteId;
use memscope::report::sites::Amount;
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
});

fn seed() -> Vec<u8> {
    let amount = |number| Amount {
        blocks: number,
        bytes: number << 20,
    };
    let totals = |number| Totals {
        allocated: amount(number * 2),
        live: amount(number),
    };
    let snapshot = Snapshot {
        at: Moment {
            unix_s: 1_700_000_000,
            monotonic_ms: 5_000_000,
        },
        last_number: 1 << 47,
        resident: Some(1 << 30),
        complete: true,
        sites: (0..20)
            .map(|id| (SiteId(id << 58 | id), totals(id)))
            .collect::<BTreeMap<_, _>>(),
    };
    let bytes = snapshot.encode();
    bytes[..bytes.len() - 8].to_vec()
}
