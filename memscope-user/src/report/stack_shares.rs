//! How many stacks are whole, and where and why the others end: for the whole database, by reason, by module.

use std::collections::BTreeMap;
use std::io::{self, Write};

use memscope_ebpf::site::StackEnd;
use serde::Serialize;

use super::escape::Escaped;

/// Stacks that end for one reason, or in one module for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// Different ones: sites.
    pub sites: u64,
    /// All: one a block that was allocated.
    pub stacks: u64,
}

impl Ended {
    fn add(&mut self, stacks: u64) {
        self.sites += 1;
        self.stacks += stacks;
    }
}

/// The stacks of a database, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StackShares {
    all: Ended,
    whole: Ended,
    by_frame_pointer: Ended,
    ends: BTreeMap<StackEnd, Ended>,
    /// Of those that end before their threads' starts: the module of the last frame.
    modules: BTreeMap<(String, StackEnd), Ended>,
}

impl StackShares {
    /// Adds a site: how many blocks were allocated there, why its stack ends, in which module (asked only if before the
    /// thread's start), whether a part of it was followed by frame pointer: then it is not known to be whole.
    pub fn add(&mut self, stacks: u64, end: StackEnd, by_frame_pointer: bool, module: impl FnOnce() -> String) {
        self.all.add(stacks);
        self.ends.entry(end).or_default().add(stacks);
        if by_frame_pointer {
            self.by_frame_pointer.add(stacks);
        } else if end == StackEnd::Outermost {
            self.whole.add(stacks);
        }
        if end != StackEnd::Outermost {
            self.modules.entry((module(), end)).or_default().add(stacks);
        }
    }

    /// Adds blocks that were recorded without their stack: no site is theirs.
    pub fn add_unrecorded(&mut self, stacks: u64) {
        if stacks > 0 {
            self.all.stacks += stacks;
            self.ends.entry(StackEnd::NotRecorded).or_default().stacks += stacks;
        }
    }

    /// Share of stacks that are whole, 0 to 1; `None` without stacks.
    #[must_use]
    pub fn whole_share(&self) -> Option<f64> {
        (self.all.stacks > 0).then(|| self.whole.stacks as f64 / self.all.stacks as f64)
    }

    /// Lines of `stats`.
    ///
    /// # Errors
    /// Whatever the writer returns.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let Some(share) = self.whole_share() else {
            return Ok(());
        };
        let percent = |stacks: u64| percent(stacks as f64 / self.all.stacks as f64);
        writeln!(
            out,
            "  stacks         {}, {:.1} % whole",
            self.all.stacks,
            self::percent(share)
        )?;
        for (end, ended) in &self.ends {
            let Ended { sites, stacks } = ended;
            writeln!(
                out,
                "    {stacks:>12} end: {} ({:.1} %, {sites} sites)",
                end.text(),
                percent(*stacks)
            )?;
        }
        for ((module, end), ended) in self.most_first() {
            let Ended { sites, stacks } = ended;
            writeln!(
                out,
                "    {stacks:>12} end in {}: {} ({:.1} %, {sites} sites)",
                Escaped(module),
                end.text(),
                percent(*stacks)
            )?;
        }
        if self.by_frame_pointer.stacks > 0 {
            let Ended { sites, stacks } = self.by_frame_pointer;
            writeln!(
                out,
                "    {stacks:>12} follow frame pointers through code without unwind table, frames may be missing or wrong ({:.1} %, {sites} sites)",
                percent(stacks)
            )?;
        }
        Ok(())
    }

    fn most_first(&self) -> Vec<(&(String, StackEnd), &Ended)> {
        let mut modules: Vec<_> = self.modules.iter().collect();
        modules.sort_by_key(|(place, ended)| (std::cmp::Reverse(ended.stacks), *place));
        modules
    }
}

/// Rounded down: 100 % is said of all only.
fn percent(share: f64) -> f64 {
    (share * 1000.0).floor() / 10.0
}

#[derive(Serialize)]
struct Part<'a> {
    stacks: u64,
    sites: u64,
    whole: Ended,
    whole_share: Option<f64>,
    by_frame_pointer: Ended,
    ends: Vec<EndPart<'a>>,
    ends_in: Vec<EndPart<'a>>,
}

#[derive(Serialize)]
struct EndPart<'a> {
    end: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    module: Option<&'a str>,
    #[serde(flatten)]
    ended: Ended,
    share: f64,
}

impl Serialize for StackShares {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let part = |end: StackEnd, module, ended: &Ended| EndPart {
            end: end.text(),
            module,
            ended: *ended,
            share: rounded(ended.stacks as f64 / self.all.stacks.max(1) as f64),
        };
        Part {
            stacks: self.all.stacks,
            sites: self.all.sites,
            whole: self.whole,
            whole_share: self.whole_share().map(rounded),
            by_frame_pointer: self.by_frame_pointer,
            ends: self.ends.iter().map(|(end, ended)| part(*end, None, ended)).collect(),
            ends_in: self
                .most_first()
                .into_iter()
                .map(|((module, end), ended)| part(*end, Some(module), ended))
                .collect(),
        }
        .serialize(serializer)
    }
}

/// Down to six decimals: 1 is said of all only.
fn rounded(share: f64) -> f64 {
    (share * 1_000_000.0).floor() / 1_000_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares() -> StackShares {
        let mut shares = StackShares::default();
        shares.add(9_990, StackEnd::Outermost, false, || {
            panic!("of a whole stack nobody asks")
        });
        shares.add(5, StackEnd::Outermost, true, String::new);
        shares.add(3, StackEnd::NoTable, false, || "libc.so".to_owned());
        shares.add(1, StackEnd::NoTable, false, || "jit\n".to_owned());
        shares.add_unrecorded(1);
        shares
    }

    #[test]
    fn the_text_tells_shares_by_reason_and_by_module_and_rounds_down() {
        let mut out = Vec::new();
        shares().write(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "  stacks         10000, 99.9 % whole\n            9995 end: outermost frame (99.9 %, 2 sites)\n               \
             4 end: no unwind table for this mapping (0.0 %, 2 sites)\n               1 end: not recorded (0.0 %, 0 sites)\n               \
             3 end in libc.so: no unwind table for this mapping (0.0 %, 1 sites)\n               \
             1 end in jit\\n: no unwind table for this mapping (0.0 %, 1 sites)\n               \
             5 follow frame pointers through code without unwind table, frames may be missing or wrong (0.0 %, 1 sites)\n"
        );
        let mut nothing = Vec::new();
        StackShares::default().write(&mut nothing).unwrap();
        assert!(nothing.is_empty());
    }

    #[test]
    fn the_json_has_the_same() {
        let json = serde_json::to_value(shares()).unwrap();
        assert_eq!(
            (json["stacks"].as_u64(), json["whole"]["stacks"].as_u64()),
            (Some(10_000), Some(9_990))
        );
        assert_eq!(json["whole_share"], 0.999);
        assert_eq!(json["by_frame_pointer"]["stacks"], 5);
        assert_eq!(
            json["ends"][1],
            serde_json::json!({"end": "no unwind table for this mapping", "sites": 2, "stacks": 4, "share": 0.0004})
        );
        assert_eq!(json["ends_in"][0]["module"], "libc.so");
        assert_eq!(
            serde_json::to_value(StackShares::default()).unwrap()["whole_share"],
            serde_json::Value::Null
        );
    }
}
