//! What a machine under test says over its serial console, read: programs loaded, tests passed, what the kernel complained of.

/// Begins a line of the machine's own script; nothing else that it prints does.
pub const MARK: &str = "@@ ";
/// What the script says last.
pub const END: &str = "@@ end";

/// One kernel's run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// As `uname -r` says it.
    pub kernel: String,
    /// What `doctor -v` says of each BPF program, in its order.
    pub programs: Vec<Program>,
    /// `suite::test`, and whether it passed.
    pub tests: Vec<(String, bool)>,
    /// Lines of the kernel's log that tell of a bug of it.
    pub complaints: Vec<String>,
    /// Whether the script came to its end.
    pub ended: bool,
}

/// A BPF program as `doctor -v` describes it.
#[derive(Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Instructions that the verifier followed.
    pub instructions: u64,
    /// How long its load took, in milliseconds, as printed.
    pub milliseconds: String,
}

impl Run {
    /// Reads everything that was printed.
    pub fn read(text: &str) -> Self {
        let mut run = Self::default();
        let mut suite = String::new();
        for line in text.lines().map(str::trim_end) {
            // The loader's last words, or a message of the kernel, may share the line with the script's first.
            let line = line.find(MARK).map_or(line, |at| &line[at..]);
            if line == END {
                run.ended = true;
            } else if let Some(said) = line.strip_prefix(MARK) {
                match said.split_once(' ') {
                    Some(("kernel", name)) => name.clone_into(&mut run.kernel),
                    Some(("suite", name)) => name.clone_into(&mut suite),
                    Some(("log", complaint)) => run.complaints.push(complaint.to_owned()),
                    _ => {}
                }
            } else if let Some((name, passed)) = test(line) {
                run.tests.push((format!("{suite}::{name}"), passed));
            } else if let Some(program) = program(line) {
                run.programs.push(program);
            }
        }
        run
    }

    /// Whether a test passed; `None` if it gave no result.
    pub fn passed(&self, name: &str) -> Option<bool> {
        self.tests
            .iter()
            .find(|(test, _)| test == name)
            .map(|(_, passed)| *passed)
    }

    /// Whether every one of `expected` passed, the programs loaded, and the kernel has nothing to complain of.
    pub fn is_good(&self, expected: &[String]) -> bool {
        self.ended
            && !self.programs.is_empty()
            && self.complaints.is_empty()
            && self.tests.iter().all(|(_, passed)| *passed)
            && expected.iter().all(|name| self.passed(name) == Some(true))
    }
}

/// `test NAME ... ok`, with whatever the test itself printed in between.
fn test(line: &str) -> Option<(&str, bool)> {
    let (name, rest) = line.strip_prefix("test ")?.split_once(" ... ")?;
    if rest.ends_with("ok") {
        Some((name, true))
    } else {
        rest.ends_with("FAILED").then_some((name, false))
    }
}

/// `ok         call_enter           59024 instructions followed, 137.3 ms`.
fn program(line: &str) -> Option<Program> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [
        "ok",
        name,
        instructions,
        "instructions",
        "followed,",
        milliseconds,
        "ms",
    ] = words.as_slice()
    else {
        return None;
    };
    Some(Program {
        name: (*name).to_owned(),
        instructions: instructions.parse().ok()?,
        milliseconds: (*milliseconds).to_owned(),
    })
}

/// The tables of all runs: what the verifier followed, and test by test.
pub fn tables(runs: &[Run], expected: &[String]) -> String {
    let columns = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let row = |first: &str, cell: &dyn Fn(&Run) -> String| {
        columns(std::iter::once(first.to_owned()).chain(runs.iter().map(cell)).collect())
    };
    let head = |first: &str| row(first, &|run| run.kernel.clone()) + &row("---", &|_| "---".to_owned());

    let mut text = head("program: instructions followed, ms to load");
    for program in runs.first().map_or(&[][..], |run| &run.programs) {
        text += &row(&program.name, &|run| {
            let found = run.programs.iter().find(|other| other.name == program.name);
            found.map_or("not loaded".to_owned(), |found| {
                format!("{}, {}", found.instructions, found.milliseconds)
            })
        });
    }
    text += "\n";
    text += &head("test");
    for name in expected {
        text += &row(name, &|run| {
            match run.passed(name) {
                Some(true) => "ok",
                Some(false) => "FAILED",
                None => "no result",
            }
            .to_owned()
        });
    }
    text += &row("complaints in the kernel's log", &|run| {
        run.complaints.len().to_string()
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "Probing EDD (edd=off to disable)... ok\x1bc@@ kernel 6.1.0-56\r\n\
        ok       BPF programs           verified and loaded: 441 instructions followed, 2.5 ms\r\n\
        ok         call_enter           59024 instructions followed, 137.3 ms\r\n\
        @@ suite steps\r\n\
        test a_gap_is_named ... ok\r\n\
        test a_stop ... FAILED\r\n\
        test talks ... seed 5\r\n\
        test result: FAILED. 1 passed; 1 failed; 0 ignored\r\n\
        @@ log WARNING: CPU: 0 PID: 1 at kernel/bpf/core.c:1\r\n\
        @@ end\r\n";

    #[test]
    fn a_console_is_read_line_by_line() {
        let run = Run::read(CONSOLE);
        assert_eq!(run.kernel, "6.1.0-56");
        assert_eq!(run.programs.len(), 1);
        assert_eq!(
            (run.programs[0].instructions, run.programs[0].milliseconds.as_str()),
            (59024, "137.3")
        );
        assert_eq!(run.passed("steps::a_gap_is_named"), Some(true));
        assert_eq!(run.passed("steps::a_stop"), Some(false));
        assert_eq!(run.passed("steps::talks"), None);
        assert_eq!(run.complaints.len(), 1);
        assert!(run.ended);
    }

    #[test]
    fn a_run_is_good_only_if_everything_expected_passed_and_nothing_else_is_wrong() {
        let good = "@@ kernel 6.1\nok x 5 instructions followed, 1.0 ms\n@@ suite a\ntest b ... ok\n@@ end\n";
        let expected = ["a::b".to_owned()];
        assert!(Run::read(good).is_good(&expected));
        for (wrong, by) in [
            ("@@ end\n", ""),
            ("... ok", "... FAILED"),
            ("... ok", "..."),
            ("ok x 5", "LACKING x 5"),
            ("@@ end\n", "@@ log BUG: x\n@@ end\n"),
        ] {
            let text = good.replace(wrong, by);
            assert!(!Run::read(&text).is_good(&expected), "{text}");
        }
        assert!(!Run::read(good).is_good(&["a::c".to_owned()]));
    }

    #[test]
    fn tables_have_a_column_a_kernel_and_tell_what_gave_no_result() {
        let runs = [Run::read(CONSOLE), Run::read("@@ kernel 6.12\n")];
        let table = tables(&runs, &["steps::a_gap_is_named".to_owned(), "steps::a_stop".to_owned()]);
        for line in [
            "| test | 6.1.0-56 | 6.12 |",
            "| call_enter | 59024, 137.3 | not loaded |",
            "| steps::a_gap_is_named | ok | no result |",
            "| steps::a_stop | FAILED | no result |",
            "| complaints in the kernel's log | 1 | 0 |",
        ] {
            assert!(table.lines().any(|found| found == line), "{line} in\n{table}");
        }
    }
}
