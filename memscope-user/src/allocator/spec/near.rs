//! Names that were probably meant: the nearest ones by edits.

/// The most names that are offered.
const MOST: usize = 5;

/// The longest name compared: the effort grows with the square.
const LONGEST: usize = 128;

/// Collects the names nearest to one.
pub(super) struct Nearest<'a> {
    wanted: &'a str,
    /// Distance, name, where it is; the nearest first.
    found: Vec<(usize, String, usize)>,
}

impl<'a> Nearest<'a> {
    pub(super) fn to(wanted: &'a str) -> Self {
        Self {
            wanted,
            found: Vec::new(),
        }
    }

    /// Considers a name that the module `module` defines.
    pub(super) fn consider(&mut self, name: &str, module: usize) {
        let limit = (self.wanted.len() / 3).max(2);
        let worst = self.found.get(MOST - 1).map_or(limit, |last| last.0);
        let Some(distance) = distance(self.wanted, name, worst) else {
            return;
        };
        if self.found.iter().any(|(_, known, _)| known == name) {
            return;
        }
        let at = self
            .found
            .partition_point(|known| (known.0, known.1.as_str()) < (distance, name));
        self.found.insert(at, (distance, name.to_owned(), module));
        self.found.truncate(MOST);
    }

    /// The names with their modules, the nearest first.
    pub(super) fn into_names(self) -> impl Iterator<Item = (String, usize)> {
        self.found.into_iter().map(|(_, name, module)| (name, module))
    }
}

/// Edits (insert, drop, change a letter; case does not count) between two names, if at most `limit`.
fn distance(a: &str, b: &str, limit: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > limit || a.len() > LONGEST || b.len() > LONGEST {
        return None;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(!x.eq_ignore_ascii_case(&y));
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().filter(|distance| *distance <= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_edits() {
        assert_eq!(distance("zOsMem_Aloc", "zOsMem_Alloc", 3), Some(1));
        assert_eq!(distance("zosmem_alloc", "zOsMem_Alloc", 3), Some(0));
        assert_eq!(distance("kitten", "sitting", 3), Some(3));
        assert_eq!(distance("kitten", "sitting", 2), None);
        assert_eq!(distance("", "ab", 2), Some(2));
    }

    #[test]
    fn the_nearest_come_first_and_few() {
        let mut near = Nearest::to("pool_get");
        for name in [
            "pool_gut",
            "pool_getx",
            "tool_got",
            "other",
            "pool_Get",
            "pool_ge",
            "pool_gt",
            "pool_gett",
            "pool_gut",
        ] {
            near.consider(name, 0);
        }
        let names: Vec<_> = near.into_names().map(|(name, _)| name).collect();
        assert_eq!(names, ["pool_Get", "pool_ge", "pool_gett", "pool_getx", "pool_gt"]);
    }
}
