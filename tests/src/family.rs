//! `family.c`: a target whose children speak the programs' language, too, each with a ledger of its own.

use crate::deadline::REPLY;
use crate::ledger::Ledger;
use crate::program::Program;
use crate::target::Target;

/// Starts one without children.
pub fn start() -> Target {
    Target::start::<&str>(&Program::new("family.c").build(), &[])
}

/// Has a process of the family (`whom`: nothing, or `tell 0 `, `tell 0 tell 1 ` …) make a child; gives its pid.
pub fn child(target: &mut Target, whom: &str, how: &str) -> u32 {
    let pid = target.ask(&format!("{whom}{how}"));
    assert_eq!(target.line(REPLY), "done");
    let pid = pid.strip_prefix("pid ").unwrap_or_else(|| panic!("no pid: {pid}"));
    pid.parse().expect("a pid")
}

/// The ledger of a child.
pub fn ledger(target: &mut Target, whom: &str) -> Ledger {
    target.send(&format!("{whom}dump"));
    let mut lines = Vec::new();
    loop {
        match target.line(REPLY).as_str() {
            "end" => break,
            line => lines.push(line.to_owned()),
        }
    }
    assert_eq!(target.line(REPLY), "done");
    Ledger::parse(lines.iter().map(String::as_str))
}
