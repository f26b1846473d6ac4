//! The JSON of `print --format json` (schema `memscope.entries/v1`) as values; what the contract names must be there.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// A whole answer.
#[derive(Clone, Debug, Deserialize)]
pub struct Report {
    /// `memscope.entries/v1`.
    pub schema: String,
    /// One for each database printed.
    pub databases: Vec<Database>,
}

/// One database.
#[derive(Clone, Debug, Deserialize)]
pub struct Database {
    /// The traced process.
    pub target: TargetDescription,
    /// Whether and since when blocks are collected.
    pub collection: Collection,
    /// Least age asked for, seconds.
    pub age_s: u64,
    /// Blocks printed.
    pub entries: Vec<Entry>,
    /// Stacks by site id.
    pub sites: BTreeMap<String, Site>,
    /// Number of entries printed.
    pub printed: u64,
    /// Number of entries old enough.
    pub total: u64,
    /// Losses by reason.
    pub losses: BTreeMap<String, u64>,
}

/// The traced process.
#[derive(Clone, Debug, Deserialize)]
pub struct TargetDescription {
    /// Process id.
    pub pid: u32,
    /// Start time, clock ticks since boot.
    pub start_time: u64,
    /// Command name.
    pub comm: String,
    /// Executable.
    pub exe: String,
    /// Its build id.
    pub build_id: Option<String>,
}

/// Collection of one database.
#[derive(Clone, Debug, Deserialize)]
pub struct Collection {
    /// `collecting`, `stopped`, `exited`, `replaced`.
    pub state: String,
    /// When it began.
    pub since: Value,
    /// For how long, seconds.
    pub seconds: u64,
}

/// One live block.
#[derive(Clone, Debug, Deserialize)]
pub struct Entry {
    /// Entry number.
    pub entry: u64,
    /// `0x…`
    pub address: String,
    /// Bytes asked for.
    pub size: u64,
    /// Age in whole seconds.
    pub age_s: u64,
    /// Thread that took it.
    pub tid: u32,
    /// Key into [`Database::sites`].
    pub site: String,
    /// `heap` or `region`, from issue "Every allocator" on.
    #[serde(default, rename = "block_kind")]
    pub kind: Option<String>,
}

/// One call stack.
#[derive(Clone, Debug, Deserialize)]
pub struct Site {
    /// Low half of the site id.
    pub cookie: Value,
    /// Followed to the thread's start.
    pub complete: bool,
    /// Why it ends.
    pub end: Option<String>,
    /// Innermost first; the first is the allocator function called.
    pub frames: Vec<Frame>,
}

/// One frame.
#[derive(Clone, Debug, Deserialize)]
pub struct Frame {
    /// `0x…`
    pub address: Value,
    /// Function name, if known.
    pub function: Option<String>,
    /// Distance from the function's start.
    pub offset: Value,
    /// Module as the target sees it.
    pub module: Option<String>,
    /// Inlined into the next frame's function.
    #[serde(default)]
    pub inlined: bool,
}

/// The number under `key`, wherever in a JSON document it stands; panics when it stands nowhere.
pub fn number(text: &str, key: &str) -> u64 {
    fn find(value: &Value, key: &str) -> Option<u64> {
        match value {
            Value::Object(map) => map
                .get(key)
                .and_then(Value::as_u64)
                .or_else(|| map.values().find_map(|inner| find(inner, key))),
            Value::Array(items) => items.iter().find_map(|inner| find(inner, key)),
            _ => None,
        }
    }
    let value = serde_json::from_str(text).unwrap_or_else(|error| panic!("not JSON: {error}\n{text}"));
    find(&value, key).unwrap_or_else(|| panic!("no {key} in\n{text}"))
}

impl Report {
    /// Reads an answer; panics, showing it, when it is not the contract's.
    pub fn parse(text: &str) -> Self {
        let report: Self =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("not memscope.entries/v1: {error}\n{text}"));
        assert_eq!(report.schema, "memscope.entries/v1");
        for database in &report.databases {
            assert_eq!(
                database.printed,
                database.entries.len() as u64,
                "`printed` counts the entries\n{text}"
            );
            assert!(
                database.printed <= database.total,
                "`total` is no less than `printed`\n{text}"
            );
            for entry in &database.entries {
                assert!(
                    database.sites.contains_key(&entry.site),
                    "entry {} names no known site\n{text}",
                    entry.entry
                );
            }
        }
        report
    }

    /// The one database of an answer about one target.
    pub fn only(mut self) -> Database {
        assert_eq!(self.databases.len(), 1, "one database was asked for: {self:#?}");
        self.databases.remove(0)
    }
}

impl Entry {
    /// The address as a number.
    pub fn address(&self) -> u64 {
        let digits = self
            .address
            .strip_prefix("0x")
            .unwrap_or_else(|| panic!("an address begins 0x: {self:?}"));
        u64::from_str_radix(digits, 16).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Database {
    /// The stack of an entry.
    pub fn stack(&self, entry: &Entry) -> &Site {
        &self.sites[&entry.site]
    }

    /// Function names of an entry's stack, innermost first; `?` where there is none.
    pub fn functions(&self, entry: &Entry) -> Vec<&str> {
        self.stack(entry)
            .frames
            .iter()
            .map(|frame| frame.function.as_deref().unwrap_or("?"))
            .collect()
    }

    /// The entries of one size: distinctive sizes name an allocation.
    pub fn of_size(&self, size: u64) -> Vec<&Entry> {
        self.entries.iter().filter(|entry| entry.size == size).collect()
    }

    /// The same without the blocks that the dynamic linker took (thread descriptors, loaded libraries): their direct
    /// caller is in `ld-linux`, and no ledger of a program can know them.
    #[must_use]
    pub fn without_the_linkers_own(mut self) -> Self {
        let sites = &self.sites;
        self.entries.retain(|entry| {
            let caller = sites[&entry.site].frames.iter().filter(|frame| !frame.inlined).nth(1);
            let module = caller.and_then(|frame| frame.module.as_deref()).unwrap_or("");
            !module.contains("ld-linux") && !module.contains("ld-2")
        });
        self
    }

    /// All losses together.
    pub fn lost(&self) -> u64 {
        self.losses.values().sum()
    }
}
