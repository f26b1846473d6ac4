//! The stacks of `report --format json`, every site with how often it allocated.

use serde::Deserialize;
use serde_json::Value;

use super::ledger::Frames;
use crate::memscope::Memscope;

/// One site.
#[derive(Clone, Debug)]
pub struct ReportedStack {
    /// Return addresses, innermost first, from the caller of the allocator on.
    pub frames: Frames,
    /// What each is called, for messages: module and function.
    pub names: Vec<String>,
    /// Followed to the thread's start.
    pub whole: bool,
    /// Why it ends.
    pub end: String,
    /// Blocks it allocated.
    pub count: u64,
}

#[derive(Deserialize)]
struct Document {
    databases: Vec<Database>,
}

#[derive(Deserialize)]
struct Database {
    sites: Vec<Site>,
    losses: Value,
}

#[derive(Deserialize)]
struct Site {
    allocated: Allocated,
    complete: bool,
    end: String,
    frames: Vec<Frame>,
}

#[derive(Deserialize)]
struct Allocated {
    blocks: u64,
}

#[derive(Deserialize)]
struct Frame {
    address: String,
    function: Option<String>,
    module: String,
    inlined: bool,
}

/// Every stack recorded of `pid`, without the innermost frames in the file named `recorder`. Losses fail.
pub fn read(memscope: &Memscope, pid: u32, recorder: &str) -> Vec<ReportedStack> {
    let output = memscope.ok(&["report", &pid.to_string(), "--format", "json"]);
    let document: Document = serde_json::from_str(&output.stdout).expect("memscope.report/v1");
    let [database] = document.databases.try_into().ok().expect("one database");
    assert_eq!(database.losses, serde_json::json!({}), "nothing is lost");
    database
        .sites
        .into_iter()
        .filter(|site| site.allocated.blocks > 0)
        .map(|site| reported(site, recorder))
        .collect()
}

/// The first frame is the allocator's function; an inlined one is no frame of the stack.
fn reported(site: Site, recorder: &str) -> ReportedStack {
    let own = |frame: &&Frame| frame.module.rsplit('/').next() == Some(recorder);
    let callers: Vec<&Frame> = site.frames.iter().skip(1).filter(|frame| !frame.inlined).collect();
    let callers: Vec<&Frame> = callers.iter().copied().skip_while(own).collect();
    ReportedStack {
        frames: callers.iter().map(|frame| number(&frame.address)).collect(),
        names: callers.iter().map(|frame| name(frame)).collect(),
        whole: site.complete,
        end: site.end,
        count: site.allocated.blocks,
    }
}

fn name(frame: &Frame) -> String {
    let module = frame.module.rsplit('/').next().unwrap_or_default();
    let function = frame.function.as_deref().unwrap_or("?");
    format!("{} {module} {function}", frame.address)
}

fn number(address: &str) -> u64 {
    let digits = address.strip_prefix("0x").expect("an address begins 0x");
    u64::from_str_radix(digits, 16).expect("an address is hex")
}
