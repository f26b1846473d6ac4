//! Where rules are looked for: `/etc/memscope/suppressions`, the user's own, and the files named on the command line.

use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::rules::{self, NoRule, Origin, Rule};

/// Of all users of the host.
pub const OF_HOST: &str = "/etc/memscope/suppressions";

/// More than any list of rules, and little enough to read whole.
const MAX_BYTES: u64 = 1 << 20;

/// Why rules could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SuppressionError {
    /// A file cannot be read.
    #[error("cannot read suppressions from {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line of it is no rule.
    #[error(transparent)]
    NoRule(#[from] NoRule),
}

/// The user's own file: `$XDG_CONFIG_HOME/memscope/suppressions`, or below `~/.config`; `None` without a home.
#[must_use]
pub fn of_user() -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let config = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(config.join("memscope/suppressions"))
}

/// The rules of the default files that exist, then those of the files named, which have to.
///
/// # Errors
/// A file cannot be read, or has a line that is no rule.
pub fn load(named: &[PathBuf]) -> Result<Vec<Rule>, SuppressionError> {
    let defaults: Vec<PathBuf> = [Some(PathBuf::from(OF_HOST)), of_user()]
        .into_iter()
        .flatten()
        .collect();
    load_from(&defaults, named)
}

pub(super) fn load_from(defaults: &[PathBuf], named: &[PathBuf]) -> Result<Vec<Rule>, SuppressionError> {
    let mut rules = Vec::new();
    for path in defaults {
        match read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            text => rules.extend(parsed(path, text)?),
        }
    }
    for path in named {
        rules.extend(parsed(path, read(path))?);
    }
    Ok(rules)
}

fn parsed(path: &Path, text: io::Result<String>) -> Result<Vec<Rule>, SuppressionError> {
    let text = text.map_err(|source| SuppressionError::Io {
        path: path.to_owned(),
        source,
    })?;
    Ok(rules::parse(&text, &Origin::File(path.to_owned()))?)
}

/// A text file, whole. A FIFO does not block it; names in rules that are no UTF-8 match nothing anyway.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    let mut options = std::fs::OpenOptions::new();
    let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = options.read(true).custom_flags(nonblocking).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("more than {MAX_BYTES} bytes"),
        ));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
