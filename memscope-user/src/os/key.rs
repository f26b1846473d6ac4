//! The OS keys: letters, titles, whether they speak of one thread.

use std::str::FromStr;

use serde::{Serialize, Serializer};

/// An OS key of the console, and of `memscope os`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// `c`: one line of CPU use; in the console, printed again and again.
    CpuMode,
    /// `C`.
    Cpu,
    /// `f`.
    Faults,
    /// `z`.
    Cache,
    /// `H`.
    CpuHistory,
    /// `i`.
    Threads,
    /// `I`.
    Thread,
    /// `m`.
    Memory,
    /// `M`.
    Heap,
    /// `Q`.
    Queues,
    /// `s`.
    Stacks,
    /// `t`.
    ThreadStack,
    /// `w`.
    Watchdogs,
    /// `y`.
    Tasks,
}

impl Key {
    /// Every key, in the order of the menu.
    pub const ALL: [Self; 14] = [
        Self::CpuMode,
        Self::Cpu,
        Self::Faults,
        Self::Cache,
        Self::CpuHistory,
        Self::Threads,
        Self::Thread,
        Self::Memory,
        Self::Heap,
        Self::Queues,
        Self::Stacks,
        Self::ThreadStack,
        Self::Watchdogs,
        Self::Tasks,
    ];

    /// Its letter.
    #[must_use]
    pub const fn letter(self) -> char {
        match self {
            Self::CpuMode => 'c',
            Self::Cpu => 'C',
            Self::Faults => 'f',
            Self::Cache => 'z',
            Self::CpuHistory => 'H',
            Self::Threads => 'i',
            Self::Thread => 'I',
            Self::Memory => 'm',
            Self::Heap => 'M',
            Self::Queues => 'Q',
            Self::Stacks => 's',
            Self::ThreadStack => 't',
            Self::Watchdogs => 'w',
            Self::Tasks => 'y',
        }
    }

    /// What the menu of old calls it.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::CpuMode => "CPU Utilization Mode",
            Self::Cpu => "CPU Utilization",
            Self::Faults => "Fault Diagnostics",
            Self::Cache => "Cache Information",
            Self::CpuHistory => "CPU Utilization History",
            Self::Threads => "Task Information",
            Self::Thread => "Task Detailed",
            Self::Memory => "Memory Information (OS)",
            Self::Heap => "zOsMem Information",
            Self::Queues => "Queue Information",
            Self::Stacks => "Stack Information",
            Self::ThreadStack => "Task Stack Information",
            Self::Watchdogs => "Watchdog Information",
            Self::Tasks => "Task Monitor information",
        }
    }

    /// Takes a thread id.
    #[must_use]
    pub const fn of_one_thread(self) -> bool {
        matches!(self, Self::Thread | Self::ThreadStack)
    }

    /// The key with this letter.
    #[must_use]
    pub fn of_letter(letter: char) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.letter() == letter)
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_char(self.letter())
    }
}

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut letters = text.chars();
        match (letters.next().and_then(Self::of_letter), letters.next()) {
            (Some(key), None) => Ok(key),
            _ => {
                let keys: Vec<String> = Self::ALL
                    .iter()
                    .map(|key| format!("{} {}", key.letter(), key.title()))
                    .collect();
                Err(format!("no OS key; the keys are: {}", keys.join(", ")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_by_its_letter_alone() {
        for key in Key::ALL {
            assert_eq!(key.letter().to_string().parse(), Ok(key));
        }
        for other in ["", "x", "mm", "n", "\u{fc}"] {
            let error = other.parse::<Key>().unwrap_err();
            assert!(error.contains("m Memory Information (OS)"), "{error}");
        }
    }
}
