//! The target's control groups: memory limits, kills for want of memory, the systemd unit.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::OsError;
use super::process_files::ProcessFiles;

/// A limit on memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryLimit {
    /// Bytes the group may use.
    pub limit: u64,
    /// Bytes it uses.
    pub used: Option<u64>,
}

/// Where a process is in the hierarchies (cgroups(7)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControlGroups {
    /// Path in the unified hierarchy (version 2).
    unified: Option<String>,
    /// Path in the memory controller's own hierarchy (version 1).
    memory_v1: Option<String>,
    /// Path in systemd's own hierarchy (version 1).
    systemd_v1: Option<String>,
}

/// The groups of the target.
pub fn of(files: &ProcessFiles) -> Result<ControlGroups, OsError> {
    Ok(parse(&files.text("cgroup")?))
}

fn parse(text: &str) -> ControlGroups {
    let mut groups = ControlGroups::default();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let path = Some(path.to_owned());
        match controllers {
            "" if number == "0" => groups.unified = path,
            "name=systemd" => groups.systemd_v1 = path,
            controllers if controllers.split(',').any(|name| name == "memory") => groups.memory_v1 = path,
            _ => {}
        }
    }
    groups
}

impl ControlGroups {
    /// The tightest limit of the group and those around it.
    pub fn memory_limit(&self) -> Option<MemoryLimit> {
        let v2 = self.ancestors_v2().filter_map(|folder| {
            Some(MemoryLimit {
                limit: number(&folder.join("memory.max"))?,
                used: number(&folder.join("memory.current")),
            })
        });
        let v1 = ancestors(Path::new("/sys/fs/cgroup/memory"), self.memory_v1.as_deref()).filter_map(|folder| {
            // Without a limit the file holds the largest multiple of a page.
            let limit = number(&folder.join("memory.limit_in_bytes")).filter(|limit| *limit < i64::MAX as u64 / 2)?;
            Some(MemoryLimit {
                limit,
                used: number(&folder.join("memory.usage_in_bytes")),
            })
        });
        v2.chain(v1).min_by_key(|found| found.limit)
    }

    /// Processes of the group that were killed for want of memory.
    pub fn oom_kills(&self) -> Option<u64> {
        let v2 = self.ancestors_v2().next().map(|folder| folder.join("memory.events"));
        let v1 = ancestors(Path::new("/sys/fs/cgroup/memory"), self.memory_v1.as_deref())
            .next()
            .map(|folder| folder.join("memory.oom_control"));
        [v2, v1].into_iter().flatten().find_map(|file| {
            let text = std::fs::read_to_string(file).ok()?;
            text.lines()
                .find_map(|line| line.strip_prefix("oom_kill "))
                .and_then(|count| count.trim().parse().ok())
        })
    }

    /// The innermost systemd unit that is no slice: `nginx.service`.
    pub fn systemd_unit(&self) -> Option<&str> {
        let path = self.systemd_v1.as_deref().or(self.unified.as_deref())?;
        let is_unit = |name: &&str| name.ends_with(".service") || name.ends_with(".scope");
        path.rsplit('/').find(is_unit)
    }

    fn ancestors_v2(&self) -> impl Iterator<Item = PathBuf> {
        // Where both versions are mounted, version 2 has a folder of its own.
        let hybrid = Path::new("/sys/fs/cgroup/unified");
        let root = if hybrid.is_dir() {
            hybrid
        } else {
            Path::new("/sys/fs/cgroup")
        };
        ancestors(root, self.unified.as_deref())
    }
}

/// The group's folder and those around it, innermost first.
fn ancestors<'a>(root: &'a Path, path: Option<&'a str>) -> impl Iterator<Item = PathBuf> + 'a {
    // `..` stands for what lies outside of our own cgroup namespace: nothing can be read there.
    let path = path.filter(|path| !path.split('/').any(|part| part == ".."));
    path.into_iter()
        .flat_map(|path| Path::new(path.trim_start_matches('/')).ancestors())
        .map(move |below| root.join(below))
}

fn number(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_told_apart() {
        let v2 = parse("0::/system.slice/nginx.service\n");
        assert_eq!(v2.systemd_unit(), Some("nginx.service"));
        assert_eq!(v2.memory_v1, None);
        let v1 =
            parse("12:cpu,memory:/docker/ab:c\n1:name=systemd:/user.slice/session-2.scope/x\n0::/\nrubbish\n3:x\n");
        assert_eq!(v1.memory_v1.as_deref(), Some("/docker/ab:c"));
        assert_eq!(v1.systemd_unit(), Some("session-2.scope"));
        assert_eq!(parse("").systemd_unit(), None);
    }

    #[test]
    fn nothing_outside_of_the_root_is_read() {
        let root = Path::new("/sys/fs/cgroup");
        assert_eq!(ancestors(root, Some("/../../etc")).count(), 0);
        let folders: Vec<PathBuf> = ancestors(root, Some("/a/b")).collect();
        assert_eq!(folders, [root.join("a/b"), root.join("a"), root.join("")]);
        assert_eq!(ancestors(root, None).count(), 0);
    }
}
