//! Tables of results: printed as they come, and written into `bench/RESULTS.md`.

use std::{fmt::Write as _, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};

use crate::process;

/// All tables of one run.
pub struct Results {
    machine: Vec<(&'static str, String)>,
    text: String,
}

impl Results {
    /// No table yet.
    pub fn new(machine: Vec<(&'static str, String)>) -> Self {
        Self {
            machine,
            text: String::new(),
        }
    }

    /// Adds a table and prints it.
    pub fn table(&mut self, title: &str, columns: &[&str], rows: &[Vec<String>]) {
        let mut text = format!(
            "\n## {title}\n\n| {} |\n|{}\n",
            columns.join(" | "),
            "---|".repeat(columns.len())
        );
        for row in rows {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
        print!("{text}");
        self.text.push_str(&text);
    }

    /// Adds a line below the last table.
    pub fn remark(&mut self, line: &str) {
        let text = format!("\n{line}\n");
        print!("{text}");
        self.text.push_str(&text);
    }

    /// Writes them all, in place of the last run's.
    pub fn write(&self, quick: bool) -> Result<PathBuf> {
        let path = process::workspace().join("bench/RESULTS.md");
        let date = Command::new("date")
            .args(["-u", "+%Y-%m-%d"])
            .output()
            .context("cannot run date")?;
        let mut text = String::from(
            "# What tracing costs\n\nWritten by `cargo xtask bench`; do not edit. Every figure is a ratio of medians of one run, with the least \
             and the most seen in brackets.\n\n",
        );
        let _ = writeln!(text, "- date: {}", String::from_utf8_lossy(&date.stdout).trim());
        for (what, value) in &self.machine {
            let _ = writeln!(text, "- {what}: {value}");
        }
        if quick {
            text.push_str("- `--quick`: three rounds, and not all cases\n");
        }
        text.push_str(&self.text);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}
