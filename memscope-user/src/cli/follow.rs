//! `attach --follow`: in the foreground, attaching each child of the targets as it is born.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

use super::arguments::{AttachArguments, TargetArguments};
use super::run::{CommandError, complain};
use super::{attach, lifecycle, select};
use crate::collection::follow::{Follower, News, Tally};
use crate::collection::settings::Settings;
use crate::database::family::{self, Name, Untold};
use crate::database::load::Diagnostics;
use crate::database::paths::Roots;
use crate::database::session::Session;
use crate::exit::ExitCode;
use crate::host::interrupts::Interrupts;
use crate::target::identity::{Pid, TargetId};
use crate::target::process::{Target, TargetError};

/// How often a family is looked at though nothing wakes us: to see that it was removed.
const LOOK: Duration = Duration::from_secs(1);

/// Runs `attach --follow`.
///
/// # Errors
/// Of the first target that cannot be attached or followed; the others are followed all the same, and the error comes at
/// the end.
pub fn run(arguments: &AttachArguments, verbose: bool) -> Result<ExitCode, CommandError> {
    let roots = Roots::from_environment();
    let settings = arguments.settings.settings(&roots)?;
    lifecycle::collect_old_garbage(&roots);
    let (orphaned, wanted) = orphaned(&roots, &arguments.target)?;
    let targets = if orphaned.is_empty() || !wanted.is_empty() {
        select::processes(&wanted)?
    } else {
        Vec::new()
    };
    // From here on a signal ends the following in order; the databases need no such care.
    let mut interrupts = Interrupts::hold_back()?;
    let (mut followers, mut failures) = (Vec::new(), Vec::new());
    for target in &targets {
        match begin(&roots, target, &settings, arguments.max_children, verbose) {
            Ok(follower) => followers.push(follower),
            Err(error) => failures.push(error),
        }
    }
    for root in orphaned {
        match take_up(&roots, root, &settings, arguments.max_children) {
            Ok(follower) => followers.push(follower),
            Err(error) => failures.push(error),
        }
    }
    let mut failures = failures.into_iter();
    let first = failures.next();
    for other in failures {
        complain(&other);
    }
    follow(&roots, &mut followers, &mut interrupts)?;
    first.map_or(Ok(ExitCode::Success), Err)
}

/// Families whose first target has ended and whose descendants have not, by its process id; and what else is wanted.
fn orphaned(roots: &Roots, arguments: &TargetArguments) -> Result<(Vec<TargetId>, TargetArguments), CommandError> {
    let families = family::list(roots)?;
    let mut wanted = arguments.clone();
    let mut orphaned = Vec::new();
    wanted.pids.retain(|pid| {
        let ended = matches!(
            Target::of_pid(Pid(*pid)),
            Err(TargetError::NoSuchProcess(_) | TargetError::Ended(_))
        );
        let of_it = families.iter().filter(|root| ended && root.pid.0 == *pid);
        let before = orphaned.len();
        orphaned.extend(of_it);
        orphaned.len() == before
    });
    Ok((orphaned, wanted))
}

/// Follows the descendants of a target that has ended.
fn take_up<'a>(
    roots: &'a Roots,
    root: TargetId,
    settings: &Settings,
    max_children: u32,
) -> Result<Follower<'a>, CommandError> {
    let most = usize::try_from(max_children).unwrap_or(usize::MAX);
    let mut follower = Follower::begin(roots, root, settings, most)?;
    let its = Session::open(roots, root).map(|session| Settings::of(&session));
    follower.first_is_attached(its.unwrap_or_else(|_| settings.clone()))?;
    say(&format!(
        "process {} has ended: following its descendants; Ctrl-C ends that, and collection goes on",
        root.pid
    ));
    Ok(follower)
}

fn begin<'a>(
    roots: &'a Roots,
    target: &Target,
    settings: &Settings,
    max_children: u32,
    verbose: bool,
) -> Result<Follower<'a>, CommandError> {
    // Noted before attached, so that no child is born in between.
    let most = usize::try_from(max_children).unwrap_or(usize::MAX);
    let mut follower = Follower::begin(roots, target.id, settings, most)?;
    let attached = attach::one(roots, target, settings, Diagnostics::Off, verbose)
        .and_then(|_| Ok(Settings::of(&Session::open(roots, target.id)?)))
        .and_then(|settings| Ok(follower.first_is_attached(settings)?));
    if let Err(error) = attached {
        // Its children are not to be noted for nobody.
        let _ = family::remove(roots, target.id);
        return Err(error);
    }
    say(&format!(
        "process {}: following its children; Ctrl-C ends that, and collection goes on",
        target.id.pid
    ));
    Ok(follower)
}

/// Until nobody is left to follow, or a signal comes.
fn follow(roots: &Roots, followers: &mut Vec<Follower<'_>>, interrupts: &mut Interrupts) -> Result<(), CommandError> {
    while !followers.is_empty() {
        let mut again = LOOK;
        let mut at = 0;
        while let Some(follower) = followers.get_mut(at) {
            let pid = follower.family().root.pid;
            if !follower.family().is_there() {
                say(&format!("process {pid}: its children are no longer followed"));
                close(follower)?;
                followers.remove(at);
                continue;
            }
            let look = follower.look(&mut |news| tell(roots, news))?;
            if look.living == 0 {
                say(&format!("process {pid} and its descendants have ended"));
                close(follower)?;
                family::remove(roots, follower.family().root)?;
                followers.remove(at);
                continue;
            }
            again = again.min(look.again.unwrap_or(LOOK));
            at += 1;
        }
        if interrupts.came() {
            for follower in followers.iter() {
                close(follower)?;
                let pid = follower.family().root.pid;
                say(&format!(
                    "collection goes on in {} processes; children born from now on are only noted: `memscope attach --follow \
                     {pid}` attaches those that live then, `memscope detach {pid}` ends it",
                    follower.watched_now()
                ));
            }
            return Ok(());
        }
        if !followers.is_empty() {
            wait(followers, interrupts, again)?;
        }
    }
    Ok(())
}

/// Until something happens, at most so long.
fn wait(followers: &[Follower<'_>], interrupts: &Interrupts, limit: Duration) -> Result<(), CommandError> {
    let mut descriptors: Vec<PollFd<'_>> = followers
        .iter()
        .map(|follower| PollFd::from_borrowed_fd(follower.family().descriptor(), PollFlags::IN))
        .collect();
    descriptors.push(PollFd::from_borrowed_fd(interrupts.as_fd(), PollFlags::IN));
    let limit = Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()),
    };
    match rustix::event::poll(&mut descriptors, Some(&limit)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(io::Error::from(error).into()),
    }
}

fn tell(roots: &Roots, news: &News) {
    match news {
        News::Watched { id, member, unwatched } => {
            attach::remember(roots, &Target { id: *id });
            let what = if member.exec_at_ns == 0 { "birth" } else { "exec" };
            say(&format!(
                "process {} ({}){}: watched since {} ms after its {what}",
                id.pid,
                Name(member),
                child_of(member.parent),
                unwatched.as_millis()
            ));
        }
        News::Refused { id, member, error } => say(&format!(
            "process {} ({}){}: not watched: {error}",
            id.pid,
            Name(member),
            child_of(member.parent)
        )),
        News::Unnoted { root, children } => say(&format!(
            "process {}: {children} of its descendants could not be noted, {WHY_UNNOTED}: they are not watched, nor what they \
             fork",
            root.pid
        )),
    }
}

/// The map of the living is full, or the kernel has no memory for an element of it.
const WHY_UNNOTED: &str = {
    assert!(memscope_ebpf::limits::FAMILY_CAPACITY == 4096);
    "since 4096 lived at once, or for want of kernel memory"
};

fn child_of(parent: u32) -> String {
    if parent == 0 {
        String::new()
    } else {
        format!(", child of {}", Pid(parent))
    }
}

/// What came of following a family.
fn close(follower: &Follower<'_>) -> Result<(), CommandError> {
    let pid = follower.family().root.pid;
    say(&format!(
        "process {pid}: {}",
        closing_text(&follower.tally, follower.untold()?)
    ));
    Ok(())
}

fn closing_text(tally: &Tally, untold: Untold) -> String {
    let missed: usize = tally.missed.values().sum::<usize>() + tally.missed_others;
    let mut text = format!("{} children were attached", tally.watched);
    if missed > 0 {
        let mut names: Vec<String> = tally
            .missed
            .iter()
            .map(|(name, count)| format!("{name} ({count})"))
            .collect();
        if tally.missed_others > 0 {
            names.push(format!("others ({})", tally.missed_others));
        }
        text += &format!("; {missed} ended before they could be: {}", names.join(", "));
    }
    if tally.refused > 0 {
        text += &format!("; {} could not be, see above", tally.refused);
    }
    if untold.children > 0 {
        text += &format!(
            "; {} were not even noted, {WHY_UNNOTED}, nor what they forked",
            untold.children
        );
    }
    if untold.ends > 0 {
        text += &format!(
            "; {} more ended untold, too many at once or while nobody followed them",
            untold.ends
        );
    }
    text
}

fn say(text: &str) {
    // Nothing more can be done when stderr is gone.
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_message_counts_and_names_what_was_not_seen() {
        let mut tally = Tally {
            watched: 3,
            ..Tally::default()
        };
        assert_eq!(closing_text(&tally, Untold::default()), "3 children were attached");
        tally.missed.insert("true".to_owned(), 2);
        tally.missed_others = 1;
        tally.refused = 4;
        let text = closing_text(&tally, Untold { children: 5, ends: 6 });
        assert_eq!(
            text,
            "3 children were attached; 3 ended before they could be: true (2), others (1); 4 could not be, see above; 5 were \
             not even noted, since 4096 lived at once, or for want of kernel memory, nor what they forked; 6 more ended \
             untold, too many at once or while nobody followed them"
        );
    }
}
