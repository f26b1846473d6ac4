//! Keeps tests/README.md true: each test it names exists, and each test of the suites is named there.

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::program::folder;

    /// `suite::test` for every test function of the suites.
    fn written() -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for entry in std::fs::read_dir(folder().join("suites")).unwrap().flatten() {
            let path = entry.path();
            let suite = path.file_stem().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            let mut lines = text.lines().map(str::trim);
            while let Some(line) = lines.next() {
                if line == "#[test]" {
                    let name = lines
                        .next()
                        .and_then(|line| line.strip_prefix("fn "))
                        .and_then(|line| line.split_once('('));
                    found.insert(format!(
                        "{suite}::{}",
                        name.unwrap_or_else(|| panic!("a test of {suite} has a name")).0
                    ));
                }
            }
        }
        found
    }

    /// `suite::test` between backticks in the README.
    fn named() -> BTreeSet<String> {
        let text = std::fs::read_to_string(folder().join("README.md")).unwrap();
        let quoted = text.split('`').skip(1).step_by(2);
        quoted
            .filter(|name| name.contains("::") && !name.ends_with('*'))
            .filter(|name| {
                name.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':'))
            })
            .filter(|name| *name != "text::altered")
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn the_readme_names_every_test_and_no_other() {
        let (written, named) = (written(), named());
        assert!(written.len() > 100, "the suites were read");
        let missing: Vec<_> = written.difference(&named).collect();
        let invented: Vec<_> = named.difference(&written).collect();
        assert!(
            missing.is_empty() && invented.is_empty(),
            "not in README: {missing:#?}\nno such test: {invented:#?}"
        );
    }
}
