//! Saved reports, which anybody may have written: read, compared with themselves, merged, and shown in every form.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use memscope::compare::{diff, diff_json, merge, merge_render, saved};
use memscope_fuzz::seeds;

const ENTRIES: &[u8] = br#"{"schema":"memscope.entries/v1","host":"h","databases":[{"target":{"pid":1,"start_time":2,
"comm":"a","exe":"/a","build_id":"ab12"},"collection":{"seconds":9},"age_s":1,"entries":[{"site":"0x1","size":10},
{"site":"0x2","size":18446744073709551615},{"site":"0x1","size":5}],"sites":{"0x1":{"complete":true,"end":"outermost",
"frames":[{"address":"0x7f00","function":"malloc","offset":1,"module":"libc","build_id":null,"file_offset":3,
"file":"a.c","line":4,"inlined":false}]},"0x2":{"complete":false,"end":"x","frames":[]}},"printed":3,"total":4,
"losses":{"full":1}}]}"#;

const REPORT: &[u8] = br#"{"schema":"memscope.report/v1","databases":[{"target":{"pid":1,"start_time":2,"comm":"a",
"exe":"/a","build_id":null},"collection":{"seconds":9},"sites":[{"site":"0xff","complete":true,"end":"outermost",
"frames":[{"address":"0x7f00","function":null,"offset":1,"module":"libc","build_id":"ab","file_offset":null,"file":null,
"line":null,"inlined":true}],"live":{"blocks":3,"bytes":99},"verdict":"LEAKING"}],"losses":{}}]}"#;

fuzz_target!(init: seeds::plant([ENTRIES.to_vec(), REPORT.to_vec()]), |data: &[u8]| {
    let Ok(report) = saved::parse(Path::new("memscope-h-a-1.json"), data) else { return };
    let mut out = Vec::new();
    let same = diff::diff(&report, &report);
    diff_json::write(&same, &report, &report, &mut out).expect("memory takes everything");
    let merged = merge::merge(&[report.clone(), report]);
    merge_render::write_text(&merged, 10, &mut out).expect("memory takes everything");
    merge_render::write_json(&merged, &mut out).expect("memory takes everything");
});
