//! Which kernels there are to run on: the newest of each series that apt offers, or those asked for.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// A kernel that apt offers: `linux-image-6.1.0-56-cloud-amd64`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// As `uname -r` says it there.
    pub name: String,
    numbers: Vec<u32>,
}

const PREFIX: &str = "linux-image-";
/// Debian's build for virtual machines: small, its console and BTF built in.
const FLAVOUR: &str = "-cloud-amd64";

impl Release {
    /// Reads a package's name; `None` for one that is no kernel, such as the series' newest by another name.
    fn of_package(package: &str) -> Option<Self> {
        let name = package.strip_prefix(PREFIX)?;
        let version = name.strip_suffix(FLAVOUR)?;
        let numbers: Vec<u32> = version
            .split(['.', '-', '+'])
            .map_while(|part| part.parse().ok())
            .collect();
        (numbers.len() >= 3).then(|| Self {
            name: name.to_owned(),
            numbers,
        })
    }

    /// Its package.
    pub fn package(&self) -> String {
        format!("{PREFIX}{}", self.name)
    }

    /// Whether it is of this series (`6.1`) or is this release (`6.12.117`).
    fn is(&self, version: &str) -> bool {
        let asked: Option<Vec<u32>> = version.split('.').map(|part| part.parse().ok()).collect();
        asked.is_some_and(|asked| self.numbers.starts_with(&asked))
    }
}

/// The newest release of each series, oldest series first; with `versions`, the newest of each of them.
pub fn chosen(packages: &str, versions: &[String]) -> Result<Vec<Release>> {
    let mut releases: Vec<Release> = packages
        .lines()
        .filter_map(|line| Release::of_package(line.split_whitespace().next()?))
        .collect();
    releases.sort_by(|a, b| a.numbers.cmp(&b.numbers));
    if !versions.is_empty() {
        let newest = |version: &String| {
            let found = releases.iter().rfind(|release| release.is(version)).cloned();
            let offered = || releases.iter().map(|r| r.name.as_str()).collect::<Vec<_>>().join(", ");
            found.with_context(|| format!("apt offers no kernel {version}; it offers {}", offered()))
        };
        return versions.iter().map(newest).collect();
    }
    let mut newest: Vec<Release> = Vec::new();
    for release in releases {
        match newest.last_mut() {
            Some(last) if last.numbers[..2] == release.numbers[..2] => *last = release,
            _ => newest.push(release),
        }
    }
    if newest.is_empty() {
        bail!(
            "apt offers no package {PREFIX}…{FLAVOUR}; is this Debian, and are its lists fetched (`apt-get update`)?"
        );
    }
    Ok(newest)
}

/// The names of the kernels that apt knows, one a line.
pub fn offered() -> Result<String> {
    let output = Command::new("apt-cache")
        .args(["search", "--names-only", "^linux-image-[0-9.]+.*-cloud-amd64$"])
        .output()
        .context("cannot run apt-cache")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERED: &str = "linux-image-6.1.0-9-cloud-amd64 - Linux 6.1 for x86-64 cloud (signed)\n\
        linux-image-6.1.0-56-cloud-amd64 - Linux 6.1 for x86-64 cloud (signed)\n\
        linux-image-6.1.0-47-cloud-amd64 - Linux 6.1 for x86-64 cloud (signed)\n\
        linux-image-6.12-cloud-amd64 - Linux for x86-64 cloud (meta-package)\n\
        linux-image-6.12.117+deb12-cloud-amd64 - Linux 6.12 for x86-64 cloud (signed)\n\
        linux-image-6.12.100+deb12-cloud-amd64 - Linux 6.12 for x86-64 cloud (signed)\n";

    fn names(versions: &[&str]) -> Vec<String> {
        let versions: Vec<String> = versions.iter().map(|&version| version.to_owned()).collect();
        let chosen = chosen(OFFERED, &versions).unwrap();
        chosen.into_iter().map(|release| release.name).collect()
    }

    #[test]
    fn the_newest_of_each_series_is_taken_by_number_and_not_by_letter() {
        assert_eq!(names(&[]), ["6.1.0-56-cloud-amd64", "6.12.117+deb12-cloud-amd64"]);
    }

    #[test]
    fn a_version_asks_for_the_newest_of_its_series_or_for_one_release() {
        assert_eq!(names(&["6.12"]), ["6.12.117+deb12-cloud-amd64"]);
        assert_eq!(
            names(&["6.12.100", "6.1"]),
            ["6.12.100+deb12-cloud-amd64", "6.1.0-56-cloud-amd64"]
        );
        let error = chosen(OFFERED, &["6.8".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("no kernel 6.8") && error.contains("6.12.117"), "{error}");
    }

    #[test]
    fn no_kernel_at_all_is_an_error() {
        assert!(chosen("linux-image-cloud-amd64 - meta\n", &[]).is_err());
    }

    #[test]
    fn a_release_knows_its_package() {
        let package = "linux-image-6.1.0-56-cloud-amd64";
        assert_eq!(Release::of_package(package).unwrap().package(), package);
    }
}
