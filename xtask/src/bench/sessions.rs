//! Many sessions on one host: their probes sit on the same instructions of the same library.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{
    Bench,
    figures::{Samples, time},
    talker::Talker,
};

/// A pair in one process while 1, 10 or 50 are traced on one C library: in the one that was attached first, whose probes are its own, and
/// in those that were attached second, in the middle and last, which have these places in the kernel's list of those that share. By turns
/// with a process that has a C library to itself: a machine that is now fast, now slow is so to both.
pub fn run(bench: &mut Bench<'_>) -> Result<()> {
    let counts: &[usize] = if bench.options.quick { &[1, 10] } else { &[1, 10, 50] };
    let library = Library::copied()?;
    let mut alone = attached(
        bench,
        Command::new(bench.programs.path("pairs")).env("LD_LIBRARY_PATH", &library.folder),
    )?;
    library.require_in(alone.pid())?;
    let mut targets: Vec<Talker> = Vec::new();
    let mut rows = Vec::new();
    for &count in counts {
        while targets.len() < count {
            targets.push(attached(bench, &mut Command::new(bench.programs.path("pairs")))?);
        }
        let mut places = vec![("first", 0)];
        if count > 1 {
            places.extend([("second", 1), ("in the middle", count / 2), ("last", count - 1)]);
        }
        let mut base = Samples::default();
        let mut measured = vec![Samples::default(); places.len()];
        for _ in 0..=bench.options.rounds() {
            base.add(alone.quotient("run 10 1 100")?);
            for ((_, at), samples) in places.iter().zip(&mut measured) {
                samples.add(targets[*at].quotient("run 10 1 100")?);
            }
        }
        rows.extend(places.iter().zip(&measured).map(|((which, _), samples)| {
            vec![
                count.to_string(),
                (*which).to_owned(),
                samples.over(&base).to_string(),
                time(samples.median()),
            ]
        }));
    }
    bench.memscope.ok(&["detach", "--all"])?;
    bench.results.table(
        "Sessions on one host",
        &[
            "sessions on one C library",
            "attached",
            "a pair in one of them, of one with a library to itself",
            "median, CPU time",
        ],
        &rows,
    );
    Ok(())
}

fn attached(bench: &Bench<'_>, command: &mut Command) -> Result<Talker> {
    let target = Talker::start(command, "")?;
    let pid = target.pid().to_string();
    bench.memscope.ok(&["attach", &pid, "--max-blocks", "65536"])?;
    Ok(target)
}

/// A copy of the C library: another file, which no other session's probes are in.
struct Library {
    folder: PathBuf,
}

/// Its name, the same for every program.
const NAME: &str = "libc.so.6";

impl Library {
    fn copied() -> Result<Self> {
        let maps = fs::read_to_string("/proc/self/maps").context("cannot read /proc/self/maps")?;
        let path = maps.lines().filter_map(|line| line.split_ascii_whitespace().nth(5));
        let path = path.into_iter().find(|path| path.ends_with(NAME));
        let path = path.context("this program has not mapped the C library")?;
        let folder = std::env::temp_dir().join(format!("memscope-bench-libc-{}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let copy = Self { folder };
        fs::copy(path, copy.folder.join(NAME)).with_context(|| format!("cannot copy {path}"))?;
        Ok(copy)
    }

    fn require_in(&self, pid: u32) -> Result<()> {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).context("cannot read the maps of a target")?;
        ensure!(
            maps.contains(&*self.folder.to_string_lossy()),
            "process {pid} has not taken the C library in {}",
            self.folder.display()
        );
        Ok(())
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // A folder that stays is no reason to fail.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
