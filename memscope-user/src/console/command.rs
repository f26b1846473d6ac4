//! A line typed at a level, understood.

use crate::os::Key;

/// Where the console stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// `>`: targets.
    Top,
    /// `os>`: keys.
    Os,
}

impl Level {
    /// What is shown before a line is typed.
    pub const fn prompt(self) -> &'static str {
        match self {
            Self::Top => "> ",
            Self::Os => "os> ",
        }
    }
}

/// What a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Nothing.
    Nothing,
    /// The menu of the level.
    Help,
    /// One level up; from the top, out.
    Quit,
    /// Down to the keys.
    EnterOs,
    /// Another target: a PID or a name.
    Target(String),
    /// The databases of this host.
    List,
    /// `n`.
    Create,
    /// `N`.
    Destroy,
    /// `o`.
    Start,
    /// `O`.
    Stop,
    /// `p`, with its age if one was typed.
    Print(Option<String>),
    /// `P`.
    Stats,
    /// One of the OS keys.
    Ask(Key, Option<u32>),
    /// No command; with what to say.
    Unknown(String),
}

/// Understands a line.
pub fn parse(level: Level, line: &str) -> Command {
    let mut words = line.split_whitespace();
    let Some(word) = words.next() else {
        return Command::Nothing;
    };
    let rest: Vec<&str> = words.collect();
    match (word, rest.as_slice()) {
        ("h" | "?" | "help", []) => Command::Help,
        ("q" | "quit" | "exit", []) => Command::Quit,
        ("target", [target]) => Command::Target((*target).to_owned()),
        ("target", _) => Command::Unknown("target takes one PID or name: target 1234".to_owned()),
        ("list", []) => Command::List,
        _ => match level {
            Level::Top => top(word, &rest),
            Level::Os => os(word, &rest),
        },
    }
}

fn top(word: &str, rest: &[&str]) -> Command {
    match (word, rest) {
        ("o" | "os", []) => Command::EnterOs,
        _ if is_key(word) => Command::Unknown(format!("{} is a key of the OS menu: o goes there", shown(word))),
        _ => unknown(word),
    }
}

fn os(word: &str, rest: &[&str]) -> Command {
    match (word, rest) {
        ("n", []) => Command::Create,
        ("N", []) => Command::Destroy,
        ("o", []) => Command::Start,
        ("O", []) => Command::Stop,
        ("p", []) => Command::Print(None),
        ("p", [age]) => Command::Print(Some((*age).to_owned())),
        ("P", []) => Command::Stats,
        _ => match (word.parse::<Key>(), rest) {
            (Ok(key), []) => Command::Ask(key, None),
            (Ok(key), [tid]) if key.of_one_thread() => match tid.parse() {
                Ok(tid) => Command::Ask(key, Some(tid)),
                Err(_) => Command::Unknown(format!("{} is no task id: key i lists them", shown(tid))),
            },
            (Ok(key), _) if key.of_one_thread() => Command::Unknown(format!("{word} takes one task id")),
            (Err(_), _) if !is_key(word) => unknown(word),
            _ => Command::Unknown(format!("{word} takes no more words")),
        },
    }
}

fn is_key(word: &str) -> bool {
    matches!(word, "n" | "N" | "o" | "O" | "p" | "P") || word.parse::<Key>().is_ok()
}

fn unknown(word: &str) -> Command {
    Command::Unknown(format!("{} is no command here: h shows the menu", shown(word)))
}

/// The word as it may be shown on a terminal.
fn shown(word: &str) -> String {
    let short: String = word.chars().take(40).collect();
    format!("`{}`", crate::report::Escaped(&short))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_old_are_understood() {
        for (line, command) in [
            ("n", Command::Create),
            (" o ", Command::Start),
            ("p", Command::Print(None)),
            ("p 3600", Command::Print(Some("3600".to_owned()))),
            ("I 1234", Command::Ask(Key::Thread, Some(1234))),
            ("t", Command::Ask(Key::ThreadStack, None)),
            ("m", Command::Ask(Key::Memory, None)),
            ("?", Command::Help),
            ("q", Command::Quit),
            ("", Command::Nothing),
        ] {
            assert_eq!(parse(Level::Os, line), command, "{line}");
        }
        assert_eq!(parse(Level::Top, "o"), Command::EnterOs);
        assert_eq!(parse(Level::Top, "target nginx"), Command::Target("nginx".to_owned()));
    }

    #[test]
    fn what_is_no_command_is_answered_with_what_to_do() {
        for (level, line, answer) in [
            (Level::Os, "x", "`x` is no command here: h shows the menu"),
            (Level::Os, "I abc", "`abc` is no task id: key i lists them"),
            (Level::Os, "I 1 2", "I takes one task id"),
            (Level::Os, "m 1", "m takes no more words"),
            (Level::Os, "n 1", "n takes no more words"),
            (Level::Os, "\u{1b}[A", "`\\x1b[A` is no command here: h shows the menu"),
            (Level::Top, "m", "`m` is a key of the OS menu: o goes there"),
            (Level::Top, "target", "target takes one PID or name: target 1234"),
        ] {
            assert_eq!(parse(level, line), Command::Unknown(answer.to_owned()), "{line}");
        }
    }
}
