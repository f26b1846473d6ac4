//! Golden output of JSON and NDJSON, and both against the published schema.

use serde_json::Value;

use super::json::JsonReport;
use super::model::DatabaseReport;
use super::ndjson::NdjsonReport;
use super::samples::{design_sample, empty, everything, sampled_and_suppressed};
use super::schemas::check;

fn json(reports: &[DatabaseReport]) -> String {
    let mut out = Vec::new();
    let mut json = JsonReport::new(&mut out, "web-1").unwrap();
    for report in reports {
        json.database(report).unwrap();
    }
    json.finish().unwrap();
    String::from_utf8(out).unwrap()
}

fn ndjson(reports: &[DatabaseReport]) -> String {
    let mut out = Vec::new();
    let mut lines = NdjsonReport::new(&mut out, "web-1");
    for report in reports {
        lines.database(report).unwrap();
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn the_contracts_keys_in_its_order() {
    let expected = concat!(
        r#"{"schema":"memscope.entries/v1","host":"web-1","databases":["#,
        r#"{"target":{"pid":1234,"start_time":8123456,"comm":"gateway","exe":"/opt/gateway","build_id":"abcd"},"#,
        r#""collection":{"state":"collecting","since":1700000000,"seconds":7200,"gaps":[]},"age_s":3600,"#,
        r#""entries":[{"entry":79258,"address":"0x1d496a80","size":44,"age_s":5327,"tid":4711,"#,
        r#""site":"0x01234567c12029d8","block_kind":"heap"}],"#,
        r#""sites":{"0x01234567c12029d8":{"cookie":"0xc12029d8","complete":true,"end":"outermost frame","by_frame_pointer":false,"frames":["#,
        r#"{"address":"0xeb61b0","function":"zOsMem_Alloc","offset":552,"module":"gateway","build_id":"abcd","#,
        r#""file_offset":25008,"file":null,"line":null,"inlined":false},"#,
        r#"{"address":"0xeb2750","function":"rn_getseg","offset":28,"module":"gateway","build_id":"abcd","#,
        r#""file_offset":10064,"file":null,"line":null,"inlined":false},"#,
        r#"{"address":"0x9e3ea0","function":"servGetMem","offset":36,"module":"gateway","build_id":"abcd","#,
        r#""file_offset":16032,"file":"serv/mem.c","line":118,"inlined":false}]}},"#,
        r#""printed":1,"total":1,"losses":{},"notes":[]}]}"#,
        "\n",
    );
    assert_eq!(json(&[design_sample()]), expected);
}

#[test]
fn a_stack_that_was_followed_by_frame_pointer_is_not_complete() {
    let mut report = design_sample();
    report
        .sites
        .values_mut()
        .for_each(|stack| stack.by_frame_pointer = true);
    let text = json(&[report]);
    let expected = r#""complete":false,"end":"outermost frame","by_frame_pointer":true,"frames""#;
    assert!(text.contains(expected), "{text}");
    check::document(&serde_json::from_str(&text).unwrap());
}

#[test]
fn no_database_and_no_entries_are_documents_too() {
    assert_eq!(
        json(&[]),
        "{\"schema\":\"memscope.entries/v1\",\"host\":\"web-1\",\"databases\":[]}\n"
    );
    let text = json(&[empty(1, "init")]);
    assert!(
        text.contains(r#""entries":[],"sites":{},"printed":0,"total":0,"losses":{},"notes":[]"#),
        "{text}"
    );
}

#[test]
fn every_document_fits_the_schema() {
    for reports in [
        vec![],
        vec![design_sample()],
        vec![everything()],
        vec![sampled_and_suppressed()],
        vec![empty(1, "init"), everything(), design_sample()],
    ] {
        let document: Value = serde_json::from_str(&json(&reports)).unwrap();
        check::document(&document);
        check::lines("memscope.entries/v1", &ndjson(&reports));
        assert_eq!(document["databases"].as_array().unwrap().len(), reports.len());
    }
}

#[test]
fn the_schema_refuses_what_breaks_the_contract() {
    let good: Value = serde_json::from_str(&json(&[everything()])).unwrap();
    let database = "/databases/0";
    for (parent, key) in [
        ("", "schema"),
        (database, "losses"),
        ("/databases/0/target", "build_id"),
        ("/databases/0/entries/0", "site"),
        ("/databases/0/sites/0x0000000000000010", "complete"),
        ("/databases/0/sites/0x0000000000000010/frames/0", "file_offset"),
    ] {
        let mut bad = good.clone();
        bad.pointer_mut(parent)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .remove(key)
            .unwrap();
        assert!(!check::accepts("memscope.entries/v1", &bad), "{parent} without {key}");
    }
    let mut bad = good;
    bad["databases"][0]["entries"][0]["address"] = Value::from(16);
    assert!(!check::accepts("memscope.entries/v1", &bad));
}

#[test]
fn every_site_named_is_there_and_names_survive_unharmed() {
    let document: Value = serde_json::from_str(&json(&[everything()])).unwrap();
    let database = &document["databases"][0];
    for entry in database["entries"].as_array().unwrap() {
        assert!(
            database["sites"].get(entry["site"].as_str().unwrap()).is_some(),
            "{entry}"
        );
    }
    assert_eq!(database["target"]["comm"], "ev\nil\x1b");
    assert_eq!(
        database["sites"]["0xffffffff00000001"]["frames"][3]["function"],
        "evil\nentry:1 address:0x0\x1b[2J"
    );
    let lost = &database["sites"]["0x0000000000000099"];
    assert_eq!(
        (&lost["complete"], &lost["end"]),
        (&Value::from(false), &Value::from("stack was not recorded"))
    );
    assert_eq!(database["entries"][0]["before_gap"], Value::from(true));
    assert_eq!(database["entries"][2].get("before_gap"), None);
    assert_eq!(
        (&database["printed"], &database["total"]),
        (&Value::from(4), &Value::from(9))
    );
    assert_eq!(database["losses"]["live_full"], 12);
}

#[test]
fn ndjson_golden() {
    let expected = concat!(
        r#"{"schema":"memscope.entries/v1","kind":"database","host":"web-1","#,
        r#""target":{"pid":1234,"start_time":8123456,"comm":"gateway","exe":"/opt/gateway","build_id":"abcd"},"#,
        r#""collection":{"state":"collecting","since":1700000000,"seconds":7200,"gaps":[]},"age_s":3600}"#,
        "\n",
        r#"{"kind":"site","pid":1234,"site":"0x01234567c12029d8","cookie":"0xc12029d8","complete":true,"#,
        r#""end":"outermost frame","by_frame_pointer":false,"frames":["#,
        r#"{"address":"0xeb61b0","function":"zOsMem_Alloc","offset":552,"module":"gateway","build_id":"abcd","#,
        r#""file_offset":25008,"file":null,"line":null,"inlined":false},"#,
        r#"{"address":"0xeb2750","function":"rn_getseg","offset":28,"module":"gateway","build_id":"abcd","#,
        r#""file_offset":10064,"file":null,"line":null,"inlined":false},"#,
        r#"{"address":"0x9e3ea0","function":"servGetMem","offset":36,"module":"gateway","build_id":"abcd","#,
        r#""file_offset":16032,"file":"serv/mem.c","line":118,"inlined":false}]}"#,
        "\n",
        r#"{"kind":"entry","pid":1234,"entry":79258,"address":"0x1d496a80","size":44,"age_s":5327,"tid":4711,"#,
        r#""site":"0x01234567c12029d8","block_kind":"heap"}"#,
        "\n",
        r#"{"kind":"summary","pid":1234,"printed":1,"total":1,"losses":{},"notes":[]}"#,
        "\n",
    );
    assert_eq!(ndjson(&[design_sample()]), expected);
}

#[test]
fn ndjson_names_each_site_once_before_its_first_entry() {
    let text = ndjson(&[everything(), design_sample()]);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<&str> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    let (first, second) = kinds.split_at(9);
    assert_eq!(
        first,
        [
            "database", "site", "entry", "site", "entry", "site", "entry", "entry", "summary"
        ]
    );
    assert_eq!(second, ["database", "site", "entry", "summary"]);
    assert_eq!(lines[7]["block_kind"], "region");
    assert_eq!(lines[8]["losses"]["missed_free"], 3);
}
