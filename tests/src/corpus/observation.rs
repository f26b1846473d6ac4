//! What one report said of one allocating function of one shape.

use serde_json::Value;

/// What a function's blocks really are, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    /// `lost_…`: a leak.
    Leak,
    /// Anything else: no leak, or one that has stopped.
    Sound,
    /// `unknowable_…`: fills at a constant rate and has released nothing; a leak for anybody who looks from outside.
    Unknowable,
}

/// How a database was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Again and again.
    Watched,
    /// For the first time.
    Once,
}

/// What was said.
#[derive(Clone, Debug)]
pub struct Observation {
    /// Shape.
    pub shape: String,
    /// Which of its copies.
    pub copy: u32,
    /// Function that allocates.
    pub function: String,
    /// How it was looked at.
    pub view: View,
    /// Since attach, milliseconds.
    pub after_ms: u64,
    /// The verdict.
    pub verdict: String,
    /// The reason's name.
    pub reason: String,
    /// What an undecided one needs.
    pub needs: Option<String>,
    /// 0 to 1.
    pub confidence: f64,
    /// The site, for messages.
    pub line: String,
}

/// In the order of how much they say against a site.
pub const VERDICTS: [&str; 5] = ["LEAKING", "UNDECIDED", "CACHE", "STARTUP", "CHURN"];

impl Observation {
    /// What a database's report says of each of its functions: of several stacks of one, what is worst.
    pub fn all_of(shape: &str, copy: u32, view: View, database: &Value) -> Vec<Self> {
        let mut all: Vec<Self> = Vec::new();
        for site in database["sites"].as_array().expect("sites") {
            let own = site["own_frame"].as_u64().expect("an own frame") as usize;
            let one = Self {
                shape: shape.to_owned(),
                copy,
                function: site["frames"][own]["function"].as_str().unwrap_or("?").to_owned(),
                view,
                after_ms: database["window_ms"].as_u64().expect("a window"),
                verdict: site["verdict"].as_str().expect("a verdict").to_owned(),
                reason: site["reason"].as_str().expect("a reason").to_owned(),
                needs: site["needs"].as_str().map(str::to_owned),
                confidence: site["confidence"].as_f64().expect("a confidence"),
                line: format!(
                    "{}, {} alive of {}, births {}",
                    site["because"], site["live"]["blocks"], site["allocated"]["blocks"], site["births"]
                ),
            };
            match all.iter_mut().find(|other| other.function == one.function) {
                Some(other) if one.severity() < other.severity() => *other = one,
                Some(_) => {}
                None => all.push(one),
            }
        }
        all
    }

    /// The label of its function.
    pub fn label(&self) -> Label {
        match self.function.split('_').next() {
            Some("lost") => Label::Leak,
            Some("unknowable") => Label::Unknowable,
            _ => Label::Sound,
        }
    }

    /// 0 for the worst verdict.
    pub fn severity(&self) -> usize {
        VERDICTS
            .iter()
            .position(|verdict| *verdict == self.verdict)
            .unwrap_or_else(|| panic!("an unknown verdict: {}", self.verdict))
    }

    /// Called a leak.
    pub fn accused(&self) -> bool {
        self.severity() == 0
    }
}
