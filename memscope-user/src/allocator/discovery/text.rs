//! What was found and what was not, in words.

use std::fmt;

use super::{AllocatorFound, Discovery, MAX_DEFINITIONS, ModuleLooked, Outcome};

/// Every allocator with its functions, then every image and what came of it: for `attach -v` and `doctor TARGET`.
impl fmt::Display for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for allocator in &self.found {
            let path = self.looked_at.get(allocator.module).map_or("?", |module| &module.path);
            writeln!(f, "{} in {path}", allocator.name)?;
            allocator.fmt(f)?;
        }
        writeln!(f, "looked at:")?;
        for module in &self.looked_at {
            writeln!(f, "  {module}")?;
        }
        Ok(())
    }
}

/// The functions, a line each, indented.
impl fmt::Display for AllocatorFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for function in &self.functions {
            write!(f, "  {} at {:#x}", function.name, function.offset)?;
            if !function.aliases.is_empty() {
                write!(f, ", also {}", function.aliases.join(", "))?;
            }
            writeln!(f)?;
        }
        for left_out in &self.left_out {
            writeln!(f, "  {} not probed: {}", left_out.name, left_out.reason)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "  note: {note}"))
    }
}

impl fmt::Display for ModuleLooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}: ", self.path, if self.deleted { " (deleted)" } else { "" })?;
        match &self.outcome {
            Outcome::Allocators(names) => {
                let names: Vec<_> = names.iter().map(ToString::to_string).collect();
                f.write_str(&names.join(", "))
            }
            Outcome::Nothing { stripped: false } => f.write_str("defines no allocator"),
            Outcome::Nothing { stripped: true } => {
                f.write_str("exports no allocator; stripped, so one inside it would not be seen")
            }
            Outcome::Ignored { reason } => write!(f, "ignored: {reason}"),
            Outcome::Unreadable { reason } => write!(f, "not looked into: {reason}"),
            Outcome::TooMany => write!(
                f,
                "defines more than the {MAX_DEFINITIONS} functions with the names of allocators' that are looked at"
            ),
        }
    }
}

impl Discovery {
    /// The error for a target in which nothing was found: what was looked at, and how to name functions by hand.
    #[must_use]
    pub fn not_found_text(&self, target: &str) -> String {
        let mut text = format!("no known allocator found in {target}; looked at:\n");
        for module in &self.looked_at {
            text.push_str(&format!("  {module}\n"));
        }
        text.push_str(
            "name its functions by hand: --alloc 'NAME(size=0) -> ret' --free 'NAME(ptr=0)' \
             (also --realloc; MODULE:NAME or MODULE+0xOFFSET where the name is not enough; arguments count from 0)",
        );
        text
    }
}
