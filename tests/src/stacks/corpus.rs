//! The programs whose stacks are compared: each way of building, each way of calling, and programs of everyday use.

use std::process::Command;

use super::postgres;
use crate::memscope::Memscope;
use crate::program::Program;
use crate::target::Target;
use crate::workload::{Folder, Kind, Running};

/// Actions of `programs/frames.c`.
const C_ACTIONS: &[&str] = &[
    "plain",
    "family",
    "recursion",
    "large",
    "alloca",
    "array",
    "realigned",
    "vectors",
    "tail",
    "noreturn",
    "callbacks",
    "threads",
    "signal",
    "altstack",
    "spin",
    "sleep",
    "coroutine",
    "loaded",
];
const CXX_ACTIONS: &[&str] = &["deep", "exceptions", "virtual", "library", "threads"];
const NO_FRAME_POINTER: &str = "-fomit-frame-pointer";

/// A program of the corpus.
#[derive(Clone, Debug)]
pub struct Subject {
    /// As the table prints it.
    pub name: String,
    what: What,
    rounds: u32,
}

#[derive(Clone, Debug)]
enum What {
    /// One of ours that obeys commands; `loaded` among them: it loads the library first.
    Ours {
        program: Program,
        actions: &'static [&'static str],
    },
    /// `programs/rust_work.rs` or `cxx_work.cpp`, told `work N`.
    Worker(Program),
    /// A program of everyday use.
    Everyday(Kind),
    /// PostgreSQL's server.
    Postgres,
}

/// A program of the corpus at work.
#[derive(Debug)]
pub enum AtWork {
    /// See [`What::Ours`].
    Ours(Target, &'static [&'static str], u32),
    /// See [`What::Worker`].
    Worker(Target, u32),
    /// See [`What::Everyday`].
    Everyday(Running, u32),
    /// See [`What::Postgres`].
    Postgres(Target, u32),
}

/// All that the compiler can do on this processor, 32-byte vectors if it has them.
pub fn widest() -> &'static [&'static str] {
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        &["-O3", "-march=x86-64-v3"]
    } else {
        &["-O3"]
    }
}

/// `frames.c`, built with these flags beside those of every program without frame pointers.
pub fn c_program(flags: &[&str]) -> Program {
    Program::new("frames.c")
        .flags(&[NO_FRAME_POINTER, "-foptimize-sibling-calls"])
        .flags(flags)
        .link(&["-ldl"])
}

/// As [`c_program`], of the C++ one.
pub fn cxx_program(flags: &[&str]) -> Program {
    Program::new("frames_cxx.cpp")
        .flags(&[NO_FRAME_POINTER, "-foptimize-sibling-calls"])
        .flags(flags)
}

/// A Rust program without frame pointers.
fn rust_program(flags: &[&str]) -> Program {
    Program::new("rust_work.rs")
        .flags(&["-Cforce-frame-pointers=no"])
        .flags(flags)
}

/// The library that `frames.c` loads.
pub fn library() -> std::path::PathBuf {
    Program::new("frames_lib.c")
        .flags(&[NO_FRAME_POINTER, "-O2", "-shared", "-fPIC"])
        .build()
}

impl Subject {
    /// `frames.c`, built with these flags.
    pub fn c(flags: &[&str]) -> Self {
        let what = What::Ours {
            program: c_program(flags),
            actions: C_ACTIONS,
        };
        Self::new(format!("C {}", flags.join(" ")), what, 2)
    }

    /// `frames_cxx.cpp`, built with these flags.
    pub fn cxx(flags: &[&str]) -> Self {
        let what = What::Ours {
            program: cxx_program(flags),
            actions: CXX_ACTIONS,
        };
        Self::new(format!("C++ {}", flags.join(" ")), what, 2)
    }

    /// `frames.c` recursing deeper than a stack may be shown.
    pub fn deeper() -> Self {
        let what = What::Ours {
            program: c_program(&["-O2"]),
            actions: &["deeper", "plain"],
        };
        Self::new("C -O2, 300 deep".to_owned(), what, 2)
    }

    /// `rust_work.rs`, built with these flags.
    pub fn rust(flags: &[&str]) -> Self {
        Self::new(
            format!("Rust {}", flags.join(" ")),
            What::Worker(rust_program(flags)),
            1,
        )
    }

    /// A program of everyday use.
    pub fn everyday(kind: Kind) -> Self {
        Self::new(kind.name().to_owned(), What::Everyday(kind), 2)
    }

    fn new(name: String, what: What, rounds: u32) -> Self {
        Self { name, what, rounds }
    }

    /// The same for so many rounds.
    #[must_use]
    pub fn rounds(self, rounds: u32) -> Self {
        Self { rounds, ..self }
    }

    /// The whole corpus.
    pub fn all() -> Vec<Self> {
        let mut all: Vec<Self> = [
            &["-O0"][..],
            &["-O1"],
            &["-O2"],
            widest(),
            &["-Os"],
            &["-O2", "-flto"],
            &["-O2", "-fcf-protection=full", "-fstack-protector-strong"],
            &["-O2", "-no-pie", "-fno-plt"],
            &["-O2", "-mno-red-zone", "-maccumulate-outgoing-args"],
        ]
        .map(Self::c)
        .into();
        all.extend([&["-O0"][..], &["-O2"], widest(), &["-O2", "-flto"]].map(Self::cxx));
        all.extend(
            [
                &["-Copt-level=0"][..],
                &["-Copt-level=2"],
                &["-Copt-level=3", "-Clto=fat", "-Ccodegen-units=1"],
            ]
            .map(Self::rust),
        );
        all.extend(
            Kind::ALL
                .into_iter()
                .filter(|kind| *kind != Kind::Rust)
                .map(Self::everyday),
        );
        all.extend(postgres::programs().map(|_| Self::new("postgres --single".to_owned(), What::Postgres, 2)));
        all.push(Self::deeper());
        all
    }

    /// Starts it with variables added to its environment, and waits until it answers.
    pub fn start(&self, folder: &Folder, variables: &[(&str, &str)]) -> AtWork {
        let target = |program: &Program| {
            let mut command = Command::new(program.build());
            command.envs(variables.iter().copied());
            Target::start_command(command)
        };
        match &self.what {
            What::Ours { program, actions } => AtWork::Ours(target(program), actions, self.rounds),
            What::Worker(program) => AtWork::Worker(target(program), self.rounds),
            What::Postgres => AtWork::Postgres(postgres::start(folder, variables), self.rounds),
            What::Everyday(kind) => AtWork::Everyday(Running::start(*kind, folder, variables), self.rounds),
        }
    }
}

impl AtWork {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        match self {
            Self::Ours(target, ..) | Self::Worker(target, _) | Self::Postgres(target, _) => target.pid(),
            Self::Everyday(running, _) => running.pid(),
        }
    }

    /// Makes it allocate.
    pub fn work(&mut self, memscope: &Memscope) {
        match self {
            Self::Ours(target, actions, rounds) => {
                if actions.contains(&"loaded") {
                    target.act(&format!("load {}", library().display()));
                    memscope.ok(&["refresh", &target.pid().to_string()]);
                }
                for _ in 0..*rounds {
                    for action in *actions {
                        target.act(action);
                    }
                }
            }
            Self::Worker(target, rounds) => {
                for round in 0..*rounds {
                    target.act(&format!("work {round}"));
                }
            }
            Self::Postgres(target, rounds) => (0..*rounds).for_each(|round| postgres::round(target, round)),
            Self::Everyday(running, rounds) => drop(running.work(0..*rounds)),
        }
    }

    /// Ends it and demands that it ended well.
    pub fn end(self) {
        match self {
            Self::Ours(target, ..) | Self::Worker(target, _) => {
                assert_eq!(target.quit().code, Some(0));
            }
            // It ends at the end of its input.
            Self::Postgres(target, _) => assert_eq!(target.ending().code, Some(0)),
            Self::Everyday(running, _) => running.end(),
        }
    }
}
