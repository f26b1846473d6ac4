//! Suppressions, of files and of the target's own string, and their matching with any name.
#![no_main]

use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use memscope::suppress::pattern;
use memscope::suppress::rules::{self, Origin};
use memscope_fuzz::seeds;

fuzz_target!(init: seeds::plant([
    b"std::vector<int>::push_back\n# comment\nleak:^std::*vec*back$\n \tleak:libc.so\r\nleak:*\n".to_vec(),
    "die größe\nleak:größe$\nleak:^*d*$x".as_bytes().to_vec(),
]), |data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    let (name, text) = text.split_once('\n').unwrap_or(("name", &text));
    match rules::parse(text, &Origin::File(PathBuf::from("file"))) {
        Ok(rules) => {
            for rule in rules {
                let _matched = pattern::matches(&rule.pattern, name);
            }
        }
        Err(error) => assert!(!error.to_string().chars().any(char::is_control), "{error}"),
    }
});
