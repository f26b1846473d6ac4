//! What could hurt a target when it is attached, looked at before it is.

use std::fmt;
use std::fs;
use std::path::Path;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::calibration::{self, CalibrationError};
use super::sacrifice::Sacrifice;
use crate::collection::survey::Survey;
use crate::probe::exits::Returns;
use crate::probe::plan::Program;
use crate::probe::site::SiteClass;
use crate::target::process::Target;

/// What memscope refuses to do unless told that it is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Danger {
    /// The target's seccomp filter kills it at its first return probe
    Seccomp,
    /// The target is under a debugger, whose breakpoints and ours could meet
    Debugger,
    /// The target has no room for the kernel's page of probe instructions: it would hang at its first hit
    Memory,
    /// Functions that may throw get return probes, which are cheaper than probes on their exits and needed where these are not
    /// known: an exception that passes one ends the target
    Exceptions,
}

/// Dangers that the user accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted(u8);

impl Accepted {
    /// Whether this one is.
    #[must_use]
    pub const fn has(self, danger: Danger) -> bool {
        self.0 >> danger as u8 & 1 == 1
    }

    /// These and those.
    #[must_use]
    pub const fn with(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }
}

impl FromIterator<Danger> for Accepted {
    fn from_iter<I: IntoIterator<Item = Danger>>(dangers: I) -> Self {
        Self(dangers.into_iter().fold(0, |set, danger| set | 1 << danger as u8))
    }
}

impl Danger {
    /// As `--accept` names it.
    const fn name(self) -> &'static str {
        match self {
            Self::Seccomp => "seccomp",
            Self::Debugger => "debugger",
            Self::Memory => "memory",
            Self::Exceptions => "exceptions",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The danger, where it is one that memscope refuses for.
    pub danger: Option<Danger>,
    /// What was found, and what it would do.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match self.danger {
            Some(danger) => write!(f, "; `--accept {}` attaches all the same", danger.name()),
            None => Ok(()),
        }
    }
}

/// Everything found, dangers first.
#[must_use]
pub fn look(target: &Target, survey: &Survey) -> Vec<Finding> {
    let mut findings = Vec::new();
    let pid = target.memory_pid();
    let read = |file: &str| text_of(Path::new(&format!("/proc/{pid}/{file}"))).unwrap_or_default();
    let threads = statuses_of_threads(target);
    findings.extend(seccomp(&threads, survey));
    // A debugger before a tracer that only looks.
    let tracers = threads.iter().filter_map(|status| debugger(status));
    findings.extend(tracers.max_by_key(|finding| finding.danger.is_some()));
    findings.extend(exceptions(survey));
    findings.extend(memory(&read("status"), &read("limits"), read("maps").lines().count()));
    findings.extend(single_stepped(survey));
    findings.extend(exits(survey));
    findings.extend(mappings(target));
    findings.sort_by_key(|finding| finding.danger.is_none());
    findings
}

/// Filters and tracers are each thread's own.
fn statuses_of_threads(target: &Target) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{}/task", target.id.pid));
    let statuses = threads.into_iter().flatten().flatten();
    statuses
        .filter_map(|thread| text_of(&thread.path().join("status")))
        .collect()
}

/// A file of procfs, in which the target's names stand as it chose them.
fn text_of(file: &Path) -> Option<String> {
    let bytes = fs::read(file).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()
}

/// Return probes enter the kernel by a system call since Linux 6.11; kernels without cf6cb56ef244 let filters see it. Only
/// a trial tells, since that commit was taken into older kernels too.
fn seccomp(threads: &[String], survey: &Survey) -> Option<Finding> {
    let filtered = threads.iter().any(|status| is_filtered(status));
    let returns = survey
        .calls
        .iter()
        .any(|call| call.programs().contains(&Program::CallReturn));
    if !filtered || !returns {
        return None;
    }
    match return_probe_survives_a_filter() {
        Ok(true) => None,
        Ok(false) => Some(Finding {
            danger: Some(Danger::Seccomp),
            text: "the target runs under a seccomp filter, and on this kernel a return probe is a system call that such a \
                   filter kills for (tried on a child of memscope's, which was killed)"
                .to_owned(),
        }),
        Err(error) => Some(Finding {
            danger: Some(Danger::Seccomp),
            text: format!("the target runs under a seccomp filter, and whether return probes survive one cannot be tried: {error}"),
        }),
    }
}

fn is_filtered(status: &str) -> bool {
    matches!(field(status, "Seccomp"), Some("1" | "2"))
}

/// Tries it.
///
/// # Errors
/// The child cannot be started or probed.
pub fn return_probe_survives_a_filter() -> Result<bool, CalibrationError> {
    let mut child = Sacrifice::start(true)?;
    let probes = calibration::probe(child.pid())?;
    let alive = child.pair_ns(1).is_ok();
    drop(child);
    drop(probes);
    Ok(alive)
}

/// Of libstdc++'s own operator nothing is probed: it calls malloc. An allocator's own is where its blocks are born, and is
/// probed at its exits, if these could all be found.
fn exceptions(survey: &Survey) -> Option<Finding> {
    let (thrower, why) = survey.calls.iter().find_map(|call| match &call.returns {
        Returns::InDanger(why) => Some((call, why)),
        Returns::ByReturnProbe | Returns::ByExits(_) => None,
    })?;
    Some(Finding {
        danger: Some(Danger::Exceptions),
        text: format!(
            "{} of {} may throw, and an exception cannot pass a return probe: one that the target would have caught would end \
             it ({why})",
            crate::report::Escaped(&thrower.function),
            crate::report::Escaped(&thrower.module)
        ),
    })
}

/// Tracers that put breakpoints into the code; others (strace) only look at system calls.
const DEBUGGERS: [&str; 5] = ["gdb", "lldb", "lldb-server", "gdbserver", "rr"];

fn debugger(status: &str) -> Option<Finding> {
    // memscope itself holds a command that it starts, and puts no breakpoint of that kind anywhere.
    let own = std::process::id();
    let tracer: u32 = field(status, "TracerPid")?
        .parse()
        .ok()
        .filter(|pid| ![0, own].contains(pid))?;
    let comm = fs::read_to_string(format!("/proc/{tracer}/comm")).unwrap_or_default();
    let comm = comm.trim();
    let known = DEBUGGERS.contains(&comm);
    Some(Finding {
        danger: known.then_some(Danger::Debugger),
        text: format!(
            "the target is traced by process {tracer} ({}){}",
            crate::report::Escaped(comm),
            if known {
                ": a breakpoint of its on a probed instruction would be lost or hit twice"
            } else {
                ""
            }
        ),
    })
}

/// The kernel maps one page into a target for its probes. Without it, a hit returns to the same probe without end.
fn memory(status: &str, limits: &str, mappings: usize) -> Option<Finding> {
    const ROOM_KB: u64 = 64;
    let danger = |text: String| {
        Some(Finding {
            danger: Some(Danger::Memory),
            text: format!(
                "{text}: the kernel could not map its page of probe instructions, and the target would hang at its first hit"
            ),
        })
    };
    let most: usize = fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(usize::MAX);
    if mappings.saturating_add(2) > most {
        return danger(format!(
            "the target has {mappings} mappings of {most} (vm.max_map_count)"
        ));
    }
    let used: Option<u64> = field(status, "VmSize").and_then(|used| used.parse().ok());
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max address space"));
    let limit = limit.and_then(|limit| limit.split_whitespace().next());
    let (Some(used), Some(limit), 1..) = (used, limit, mappings) else {
        return danger("what the target has mapped, and how much it may, cannot be read".to_owned());
    };
    // "unlimited" is no number.
    let limit: u64 = limit.parse().ok()?;
    if used + ROOM_KB > limit / 1024 {
        return danger(format!(
            "the target has {used} kB mapped of {} kB (RLIMIT_AS)",
            limit / 1024
        ));
    }
    None
}

fn single_stepped(survey: &Survey) -> Option<Finding> {
    let names: Vec<&str> = survey
        .calls
        .iter()
        .filter(|call| !matches!(call.site.class, SiteClass::Emulated(_)))
        .map(|call| call.function.as_str())
        .collect();
    (!names.is_empty()).then(|| Finding {
        danger: None,
        text: format!(
            "no cheap instruction to probe in {}: each of its calls costs some ten times the usual",
            names.join(", ")
        ),
    })
}

/// What the exits of functions that may throw cost.
fn exits(survey: &Survey) -> Option<Finding> {
    let names: Vec<&str> = survey
        .calls
        .iter()
        .filter(|call| !call.returns.exits().is_empty())
        .map(|call| call.function.as_str())
        .collect();
    (!names.is_empty()).then(|| Finding {
        danger: None,
        text: format!(
            "{} may throw, so their returns are seen by probes on each `ret`, which the kernel single-steps: each call that \
             returns costs several times the usual (`--accept exceptions` takes return probes, which no exception can pass)",
            names.join(", ")
        ),
    })
}

fn mappings(target: &Target) -> Option<Finding> {
    const MOST: usize = memscope_ebpf::unwind::mapping::MAX_MAPPINGS;
    let executable = target
        .mappings()
        .ok()?
        .iter()
        .filter(|mapping| mapping.executable)
        .count();
    (executable > MOST).then(|| Finding {
        danger: None,
        text: format!("the target has {executable} executable mappings, {MOST} are known to the unwinder: some stacks will end early"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_named_is_accepted() {
        let accepted: Accepted = [Danger::Debugger].into_iter().collect();
        assert!(accepted.has(Danger::Debugger) && !accepted.has(Danger::Seccomp) && !accepted.has(Danger::Memory));
    }

    #[test]
    fn fields_of_a_status_are_found() {
        let status = "Name:\tx\nTracerPid:\t17\nVmSize:\t   1234 kB\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        assert_eq!(field(status, "Seccomp"), Some("2"));
        assert_eq!(field(status, "VmSize"), Some("1234"));
        assert_eq!(field(status, "Tracer"), None);
    }

    #[test]
    fn a_full_address_space_is_a_danger_and_an_unlimited_one_is_not() {
        let limits =
            |limit: &str| format!("Limit  Soft\nMax address space         {limit}            {limit}    bytes\n");
        let status = "VmSize:\t 1000 kB\n";
        assert_eq!(memory(status, &limits("unlimited"), 10), None);
        assert_eq!(memory(status, &limits("104857600"), 10), None);
        let finding = memory(status, &limits("1048576"), 10).unwrap();
        assert_eq!(finding.danger, Some(Danger::Memory));
        assert!(finding.to_string().contains("`--accept memory`"), "{finding}");
        assert!(memory(status, &limits("unlimited"), usize::MAX - 1).is_some());
    }

    #[test]
    fn limits_that_cannot_be_read_are_a_danger() {
        let (status, limits) = ("VmSize:\t 1000 kB\n", "Max address space unlimited unlimited bytes\n");
        assert_eq!(memory(status, limits, 10), None);
        // A thread that has ended has no memory.
        for (status, limits, mappings) in [("Name:\tx\n", limits, 10), (status, "", 10), (status, limits, 0)] {
            let finding = memory(status, limits, mappings).unwrap();
            assert_eq!(finding.danger, Some(Danger::Memory), "{status:?} {limits:?} {mappings}");
        }
    }

    #[test]
    fn nobody_traces_a_target_without_tracer() {
        assert_eq!(debugger("TracerPid:\t0\n"), None);
        let strange = debugger("TracerPid:\t4294967295\n").unwrap();
        assert_eq!(strange.danger, None);
    }
}
