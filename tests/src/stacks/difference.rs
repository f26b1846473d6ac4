//! Two sets of stacks with counts held against each other: how many are whole, how many equal, and why the others are not.

use std::collections::BTreeMap;

use super::ledger::{Counted, Frames};
use super::reported::ReportedStack;

/// What a comparison found. Counts are of allocations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Allocations that memscope recorded.
    pub stacks: u64,
    /// Different stacks among them.
    pub distinct: u64,
    /// Those followed to the thread's start.
    pub whole: u64,
    /// Those whose frames are the reference's, all and in order.
    pub equal: u64,
    /// Those that are both.
    pub whole_and_equal: u64,
    /// The others, by reason.
    pub reasons: BTreeMap<String, u64>,
    /// Allocations of which only the reference has the stack.
    pub missed: u64,
    /// Some of what is not equal, in words.
    pub examples: Vec<String>,
}

impl Difference {
    /// The share of all allocations, of those that only the reference saw too, whose stacks are whole and the reference's;
    /// `None` where there are none: that nothing differs then proves nothing.
    #[must_use]
    pub fn proven(&self) -> Option<f64> {
        let all = self.stacks + self.missed;
        (self.stacks > 0).then(|| self.whole_and_equal as f64 / all as f64)
    }
}

/// Compares all stacks.
pub fn compare(reference: &Counted, reported: &[ReportedStack]) -> Difference {
    let mut difference = Difference::default();
    let mut left: BTreeMap<&Frames, u64> = reference.iter().map(|(frames, count)| (frames, *count)).collect();
    for stack in reported {
        difference.stacks += stack.count;
        difference.distinct += 1;
        if stack.whole {
            difference.whole += stack.count;
        }
        let found = left.get_mut(&stack.frames);
        let equal = found.as_deref().copied().unwrap_or(0).min(stack.count);
        if let Some(found) = found {
            *found -= equal;
        }
        difference.equal += equal;
        if stack.whole {
            difference.whole_and_equal += equal;
        }
        if equal < stack.count {
            let beginning = longer(reference, stack);
            let reason = match (stack.whole, equal > 0, &beginning) {
                (_, true, _) => "counted more often than by the reference".to_owned(),
                (false, _, Some(_)) => format!("ends early, equal so far: {}", stack.end),
                (false, _, None) => format!("ends early, and differs: {}", stack.end),
                (true, _, _) => "whole, and differs".to_owned(),
            };
            *difference.reasons.entry(reason.clone()).or_default() += stack.count - equal;
            // What was cut off stands for a longer stack of the reference's.
            let mut owed = stack.count - equal;
            if !stack.whole && equal == 0 {
                for (_, count) in left.iter_mut().filter(|(frames, _)| frames.starts_with(&stack.frames)) {
                    let taken = owed.min(*count);
                    *count -= taken;
                    owed -= taken;
                }
            }
            if difference.examples.len() < 8 {
                difference.examples.push(example(&reason, stack, reference));
            }
        }
    }
    difference.missed = left.values().sum();
    for (frames, count) in left.into_iter().filter(|(_, count)| *count > 0).take(8) {
        difference
            .examples
            .push(format!("only in the reference, {count} times: {frames:x?}"));
    }
    difference
}

/// A stack of the reference's that begins as this one and goes on.
fn longer<'a>(reference: &'a Counted, stack: &ReportedStack) -> Option<&'a Frames> {
    let next = reference.range(stack.frames.clone()..).next()?.0;
    next.starts_with(&stack.frames).then_some(next)
}

/// The stack and the reference's that has most in common with it, about where they part.
fn example(reason: &str, stack: &ReportedStack, reference: &Counted) -> String {
    const ABOUT: usize = 4;
    let common = |frames: &Frames| frames.iter().zip(&stack.frames).take_while(|(a, b)| a == b).count();
    let nearest = reference.keys().max_by_key(|frames| common(frames));
    let nearest = nearest.map_or(&[][..], Vec::as_slice);
    let part = common(&nearest.to_vec());
    let mut text = format!("{reason}, {} times, {part} frames in common:\n", stack.count);
    let end = stack.frames.len().max(nearest.len());
    for index in part.saturating_sub(ABOUT)..end.min(part + ABOUT) {
        let ours = stack.names.get(index).map_or("-", String::as_str);
        let theirs = match nearest.get(index) {
            Some(address) if index >= part => format!("   reference {address:#x}"),
            _ => String::new(),
        };
        text += &format!("    {ours}{theirs}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(frames: &[u64], whole: bool, count: u64) -> ReportedStack {
        ReportedStack {
            frames: frames.to_vec(),
            names: frames.iter().map(u64::to_string).collect(),
            whole,
            end: "frame limit".to_owned(),
            count,
        }
    }

    fn reference(stacks: &[(&[u64], u64)]) -> Counted {
        stacks.iter().map(|(frames, count)| (frames.to_vec(), *count)).collect()
    }

    #[test]
    fn equal_stacks_are_counted_as_often_as_both_saw_them() {
        let difference = compare(
            &reference(&[(&[1, 2], 3), (&[1, 3], 1)]),
            &[stack(&[1, 2], true, 3), stack(&[1, 3], true, 1)],
        );
        assert_eq!(
            (difference.stacks, difference.whole, difference.equal, difference.missed),
            (4, 4, 4, 0)
        );
        assert!(difference.reasons.is_empty());
        let more = compare(&reference(&[(&[1, 2], 2)]), &[stack(&[1, 2], true, 5)]);
        assert_eq!((more.equal, more.reasons.values().sum::<u64>()), (2, 3));
        let fewer = compare(&reference(&[(&[1, 2], 5)]), &[stack(&[1, 2], true, 2)]);
        assert_eq!((fewer.equal, fewer.missed), (2, 3));
    }

    #[test]
    fn a_stack_that_ends_early_is_not_equal_and_says_why() {
        let difference = compare(&reference(&[(&[1, 2, 3], 2)]), &[stack(&[1, 2], false, 2)]);
        assert_eq!((difference.whole, difference.equal, difference.missed), (0, 0, 0));
        assert_eq!(difference.reasons["ends early, equal so far: frame limit"], 2);
        let other = compare(&reference(&[(&[1, 2, 3], 1)]), &[stack(&[1, 4], false, 1)]);
        assert_eq!(other.reasons["ends early, and differs: frame limit"], 1);
        assert_eq!(other.missed, 1);
    }

    #[test]
    fn a_whole_stack_of_other_frames_is_not_equal() {
        let difference = compare(&reference(&[(&[1, 2, 3], 1)]), &[stack(&[1, 2], true, 1)]);
        assert_eq!((difference.whole, difference.equal, difference.missed), (1, 0, 1));
        assert_eq!(difference.reasons["whole, and differs"], 1);
    }

    /// One stack is equal and ends early, another is whole and differs: half are whole, half are equal, none is proven.
    #[test]
    fn stacks_are_proven_by_being_whole_and_equal_at_once() {
        let difference = compare(
            &reference(&[(&[1, 2], 1), (&[1, 3, 4], 1)]),
            &[stack(&[1, 2], false, 1), stack(&[1, 3], true, 1)],
        );
        assert_eq!((difference.stacks, difference.whole, difference.equal), (2, 1, 1));
        assert_eq!(difference.proven(), Some(0.0));
    }

    #[test]
    fn a_stack_that_only_the_reference_has_is_not_proven() {
        let difference = compare(&reference(&[(&[1, 2], 3), (&[1, 3], 1)]), &[stack(&[1, 2], true, 3)]);
        assert_eq!((difference.missed, difference.proven()), (1, Some(0.75)));
    }

    #[test]
    fn no_stacks_prove_nothing() {
        assert_eq!(compare(&reference(&[]), &[]).proven(), None);
        assert_eq!(compare(&reference(&[(&[1, 2], 3)]), &[]).proven(), None);
    }
}
