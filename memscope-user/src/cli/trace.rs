//! `trace`: in the foreground — attach, wait, print, detach.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use super::arguments::{EntriesArguments, TraceArguments};
use super::run::{CommandError, complain};
use super::verdict_arguments::SpanArguments;
use super::{attach, mark, print};
use crate::age::Age;
use crate::collection::attach::Attached;
use crate::collection::status;
use crate::collection::steps;
use crate::database::load::Diagnostics;
use crate::database::paths::Roots;
use crate::database::session::Session;
use crate::exit::ExitCode;
use crate::target::identity::Pid;
use crate::target::launch::{End, launch};
use crate::target::process::Target;

/// How often the target is looked at for its end.
const LOOK: Duration = Duration::from_millis(200);

/// Runs `trace`.
///
/// # Errors
/// The command cannot be started, the target not attached, or the report not printed; nothing stays attached then.
pub fn run(arguments: &TraceArguments, verbose: bool) -> Result<ExitCode, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(trace(arguments, verbose))
}

async fn trace(arguments: &TraceArguments, verbose: bool) -> Result<ExitCode, CommandError> {
    let roots = Roots::from_environment();
    let settings = arguments.settings.settings(&roots)?;
    // Signals are caught before anything is attached, so that none can leave probes behind.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut launched = None;
    let target = match arguments.pid {
        Some(pid) => Target::of_pid(Pid(pid))?,
        None => {
            let command = launch(&arguments.command).map_err(|source| cannot_start(&arguments.command, source))?;
            if let Some(why) = &command.not_held {
                say(&format!(
                    "the command could not be held before it began ({why}): what it did before it was attached is not seen"
                ));
            }
            let target = Target::of_pid(command.pid());
            launched = Some(command);
            target?
        }
    };
    if arguments.pid.is_some() && !arguments.command.is_empty() {
        let signalled = async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        };
        return around_command(&roots, &target, arguments, verbose, signalled).await;
    }
    let had_database = roots.session(target.id).file().exists();
    let diagnostics = if verbose { Diagnostics::On } else { Diagnostics::Off };
    let attached = attach::one(&roots, &target, &settings, diagnostics, verbose)?;
    if let Some(command) = &mut launched {
        command.release();
    }
    let deadline = arguments.duration.map(Age::duration);
    tokio::select! {
        () = end_of(&target) => {}
        () = sleep_for(deadline) => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = told(attached, diagnostics) => {}
        () = budget_exceeded(&roots, &target) => {}
    }
    let printed = print::print(&roots, target.id, &entries(arguments));
    // A database that was there before the trace belongs to someone else, and goes on.
    if !had_database && let Err(error) = steps::destroy(&roots, target.id) {
        complain(&error);
    }
    // A command of ours that still runs is let run on.
    match launched.map(|mut command| command.end()) {
        Some(Ok(Some(End::Exited(code)))) => say(&format!("the command ended with exit code {code}")),
        Some(Ok(Some(End::Killed(signal)))) => say(&format!("the command was ended by signal {signal}")),
        _ => {}
    }
    printed.map(|_| ExitCode::Success)
}

/// Passes on what the programs log; never ends.
async fn told(attached: Attached, diagnostics: Diagnostics) {
    if let (Attached::Started(mut started), Diagnostics::On) = (attached, diagnostics) {
        super::diagnostics::pass_on(&mut started.object).await;
    }
    std::future::pending().await
}

/// `trace PID -- COMMAND`: what is born in the target while the command runs, and is alive after it.
async fn around_command(
    roots: &Roots,
    target: &Target,
    arguments: &TraceArguments,
    verbose: bool,
    signalled: impl Future<Output = ()>,
) -> Result<ExitCode, CommandError> {
    let had_database = roots.session(target.id).file().exists();
    let diagnostics = if verbose { Diagnostics::On } else { Diagnostics::Off };
    let attached = attach::one(
        roots,
        target,
        &arguments.settings.settings(roots)?,
        diagnostics,
        verbose,
    )?;
    let marked = mark_around(roots, target, arguments, signalled).await;
    let printed = match marked {
        Ok(()) => {
            let between = vec![BEFORE.to_owned(), AFTER.to_owned()];
            let span = SpanArguments { since: None, between };
            print::print_born(roots, target.id, &entries(arguments), &span).map(|()| ExitCode::Success)
        }
        Err(error) => Err(error),
    };
    drop(attached);
    if !had_database && let Err(error) = steps::destroy(roots, target.id) {
        complain(&error);
    }
    printed
}

/// Marks that `trace PID -- COMMAND` sets.
const BEFORE: &str = "trace-before";
const AFTER: &str = "trace-after";

/// A signal ends the waiting; the command is let run on.
async fn mark_around(
    roots: &Roots,
    target: &Target,
    arguments: &TraceArguments,
    signalled: impl Future<Output = ()>,
) -> Result<(), CommandError> {
    let session = Session::open(roots, target.id)?;
    mark::set(&session, BEFORE)?;
    let mut command = start_command(&arguments.command)?;
    let done = async {
        command.wait().await?;
        // What the command set going in the target may still be under way.
        tokio::time::sleep(arguments.duration.map_or(Duration::ZERO, Age::duration)).await;
        Ok::<(), io::Error>(())
    };
    tokio::select! {
        done = done => done?,
        () = signalled => {}
    }
    mark::set(&session, AFTER)?;
    Ok(())
}

fn entries(arguments: &TraceArguments) -> EntriesArguments {
    EntriesArguments {
        age: arguments.age,
        sort: arguments.sort,
        limit: arguments.limit,
        format: arguments.format,
    }
}

fn start_command(command: &[OsString]) -> Result<Child, CommandError> {
    let (program, rest) = command
        .split_first()
        .ok_or_else(|| CommandError::Usage("no command to trace".into()))?;
    let spawned = Command::new(program).args(rest).spawn();
    spawned.map_err(|source| cannot_start(command, source))
}

fn cannot_start(command: &[OsString], source: io::Error) -> CommandError {
    let program = command.first().map(|program| program.to_string_lossy().into_owned());
    CommandError::Spawn {
        command: program.unwrap_or_default(),
        source,
    }
}

fn say(text: &str) {
    // Nothing more can be done when stderr is gone.
    let _ = writeln!(io::stderr(), "memscope: {text}");
}

async fn end_of(target: &Target) {
    while target.is_alive() {
        tokio::time::sleep(LOOK).await;
    }
}

/// The programs stop by themselves; a foreground run takes the probes out too.
async fn budget_exceeded(roots: &Roots, target: &Target) {
    loop {
        let stopped = Session::open(roots, target.id).and_then(|session| status::stopped_by_budget(&session));
        if matches!(stopped, Ok(Some(_))) && steps::stop(roots, target.id).is_ok() {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn sleep_for(duration: Option<Duration>) {
    match duration {
        Some(duration) => tokio::time::sleep(duration).await,
        None => std::future::pending().await,
    }
}
