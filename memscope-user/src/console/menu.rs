//! The menus, as they were; the one at `>` is ours.

use super::command::Level;

/// The menu of a level. `printing`: CPU use is printed again and again.
pub fn text(level: Level, printing: bool) -> String {
    match level {
        Level::Top => TOP.to_owned(),
        Level::Os => OS.replace(
            "(Print Disabled)",
            if printing {
                "(Print Enabled)"
            } else {
                "(Print Disabled)"
            },
        ),
    }
}

const TOP: &str = "\
MemScope CLI Menu
o - OS CLI Menu
target <PID> - Change target (PID or name)
list - Databases on this host
h - Help
q - Quit
";

const OS: &str = "\
OS CLI Menu
c - CPU Utilization Mode(Print Disabled)
C - CPU Utilization
f - Fault Diagnostics
z - Cache Information
H - CPU Utilization History
i - Task Information
I <taskID> - Task Detailed
m - Memory Information (OS)
M - zOsMem Information
n - zOsMem Memory Scope create database
N - zOsMem Memory Scope destroy database
o - zOsMem Memory Scope start data collection
O - zOsMem Memory Scope stop data collection
p - zOsMem Memory Scope print data
P - zOsMem Memory Scope print stats
Q - Queue Information
s - Stack Information
t <taskID> - Task Stack Information (Tornado 'tt')
w - Watchdog Information
y - Task Monitor information
q - Quit
";

#[cfg(test)]
mod tests {
    use super::super::command::{Command, parse};
    use super::*;

    #[test]
    fn every_line_of_the_menu_is_a_command() {
        for level in [Level::Top, Level::Os] {
            for line in text(level, false).lines().skip(1) {
                let word = line.split_whitespace().next().unwrap();
                let typed = if word == "target" { "target 1" } else { word };
                assert!(!matches!(parse(level, typed), Command::Unknown(_)), "{line}");
            }
        }
    }

    #[test]
    fn the_mode_is_shown() {
        assert!(text(Level::Os, true).contains("c - CPU Utilization Mode(Print Enabled)\n"));
        assert!(text(Level::Os, false).contains("c - CPU Utilization Mode(Print Disabled)\n"));
    }
}
