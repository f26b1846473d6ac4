//! The lines of each stack, rendered once and copied for each entry: of those that are short, until there are many.
//!
//! A target's files choose names, and how many functions are inlined at an address; the same frame may stand in every stack
//! and in each of its places. So neither one stack's text nor the sum of all is bounded by the names that are kept: what
//! exceeds the room is rendered again for each entry, straight to where it is written.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write as _};
use std::ops::Range;

use memscope_ebpf::live::SiteIndex;

use super::json_parts::NOT_RECORDED;
use super::model::{DatabaseReport, Stack};
use super::pieces::PieceText;
use super::sink::Sink;
use super::text::FrameLine;

/// How much text is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Bytes of one stack at most, a line more or less.
    pub each: usize,
    /// Bytes of all of them, likewise.
    pub all: usize,
}

impl Room {
    /// Far more than reports of honest programs need: a stack of 128 frames has some 10 KiB, and of 10 000 call stacks the
    /// texts have 20 MB together.
    pub(super) const USUAL: Self = Self {
        each: 64 << 10,
        all: 64 << 20,
    };
}

/// The text of each stack of a report.
pub(super) struct StackTexts<'a> {
    kept: Vec<u8>,
    /// Of each site index.
    texts: Vec<StackText<'a>>,
    /// Bytes of the longest that is kept.
    longest: usize,
}

#[derive(Clone)]
enum StackText<'a> {
    /// Here among those that are kept.
    Kept(Range<usize>),
    /// Rendered when it is written.
    TooLong(&'a Stack),
}

impl<'a> StackTexts<'a> {
    /// Renders as many as there is room for.
    pub(super) fn of(report: &'a DatabaseReport, room: Room) -> Self {
        let mut texts = Self {
            kept: Vec::new(),
            texts: Vec::new(),
            longest: 0,
        };
        let not_recorded = texts.keep(|line| end_line(line, NOT_RECORDED), usize::MAX);
        let not_recorded = StackText::Kept(not_recorded.unwrap_or_default());
        let mut known = HashMap::new();
        for (site, stack) in &report.sites {
            let most = room.each.min(room.all.saturating_sub(texts.kept.len()));
            let text = texts
                .keep(|line| stack_lines(line, stack), most)
                .map_or(StackText::TooLong(stack), StackText::Kept);
            known.insert(*site, text);
        }
        let of_site = |site| known.get(site).unwrap_or(&not_recorded).clone();
        texts.texts = report.entries.sites().iter().map(of_site).collect();
        // Of an index that no site has.
        texts.texts.push(not_recorded);
        texts
    }

    /// Keeps some lines, if they are no longer than this.
    fn keep(
        &mut self,
        lines: impl FnOnce(&mut dyn FnMut(fmt::Arguments<'_>) -> io::Result<()>) -> io::Result<()>,
        most: usize,
    ) -> Option<Range<usize>> {
        let start = self.kept.len();
        let kept = &mut self.kept;
        let fits = lines(&mut |line| {
            kept.write_fmt(line)?;
            if kept.len() - start > most {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            Ok(())
        });
        if fits.is_err() {
            self.kept.truncate(start);
            return None;
        }
        self.longest = self.longest.max(self.kept.len() - start);
        Some(start..self.kept.len())
    }

    /// Bytes of the longest text that is kept.
    pub(super) const fn longest(&self) -> usize {
        self.longest
    }

    /// Adds a stack's lines to a piece, or leaves their place in it.
    pub(super) fn add_to(&self, piece: &mut PieceText, index: SiteIndex) {
        match self.at(index) {
            Some(StackText::Kept(place)) if piece.has_room() => piece.push(&self.kept[place.clone()]),
            _ => piece.leave(index),
        }
    }

    /// Writes the lines whose place was left.
    pub(super) fn write(&self, sink: &mut Sink<'_>, index: SiteIndex) -> io::Result<()> {
        match self.at(index) {
            Some(StackText::Kept(place)) => sink.pass(&self.kept[place.clone()]),
            Some(StackText::TooLong(stack)) => {
                let mut line = |line: fmt::Arguments<'_>| {
                    sink.show(line)?;
                    sink.spill()
                };
                stack_lines(&mut line, stack)
            }
            None => Ok(()),
        }
    }

    fn at(&self, index: SiteIndex) -> Option<&StackText<'a>> {
        self.texts.get(index.0 as usize).or(self.texts.last())
    }
}

fn stack_lines(line: &mut dyn FnMut(fmt::Arguments<'_>) -> io::Result<()>, stack: &Stack) -> io::Result<()> {
    for frame in &stack.frames {
        line(format_args!("{}\n", FrameLine(frame)))?;
    }
    for shortcoming in stack.shortcomings() {
        line(format_args!("… {shortcoming}\n"))?;
    }
    Ok(())
}

fn end_line(line: &mut dyn FnMut(fmt::Arguments<'_>) -> io::Result<()>, reason: &str) -> io::Result<()> {
    line(format_args!("… stack ends here: {reason}\n"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use memscope_ebpf::site::StackEnd;

    use super::*;
    use crate::report::model::SiteId;
    use crate::report::samples::{empty, entry, frame, packed, stack};

    /// Sites with one frame more each, and one that the report has no stack of; three blocks of each.
    fn report(sites: u64, name: &str) -> DatabaseReport {
        let stacks = (1..sites).map(|site| {
            let frames = (0..site).map(|depth| frame(0x1000 + depth, name, depth));
            (SiteId(site), stack(frames.collect(), StackEnd::Outermost))
        });
        let entries: Vec<_> = (0..sites * 3)
            .map(|number| {
                entry(
                    number + 1,
                    number << 4,
                    16,
                    9_000_000 - number,
                    SiteId(1 + number % sites),
                )
            })
            .collect();
        DatabaseReport {
            entries: packed(&entries),
            sites: stacks.collect::<BTreeMap<_, _>>(),
            total: sites * 3,
            ..empty(1, "init")
        }
    }

    fn written(report: &DatabaseReport, texts: &StackTexts<'_>) -> Vec<String> {
        let one = |index| {
            let mut out = Vec::new();
            let mut sink = Sink::new(&mut out);
            texts.write(&mut sink, SiteIndex(index)).unwrap();
            sink.flush().unwrap();
            String::from_utf8(out).unwrap()
        };
        (0..report.entries.sites().len() as u32).map(one).collect()
    }

    #[test]
    fn texts_that_find_no_room_are_written_as_those_that_do() {
        let report = report(40, "a_function");
        let all = StackTexts::of(&report, Room::USUAL);
        assert!(!all.texts.iter().any(|text| matches!(text, StackText::TooLong(_))));
        let expected = written(&report, &all);
        assert_eq!(expected[2].lines().count(), 3);
        assert_eq!(expected[39], format!("… stack ends here: {NOT_RECORDED}\n"));
        for (each, most) in [(0, 0), (100, 1 << 20), (1 << 20, 2000), (500, 2000)] {
            let few = StackTexts::of(&report, Room { each, all: most });
            assert!(few.texts.iter().any(|text| matches!(text, StackText::TooLong(_))));
            assert_eq!(written(&report, &few), expected, "{each} {most}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded_whatever_the_names() {
        let report = report(100, &"n".repeat(4096));
        let room = Room {
            each: 64 << 10,
            all: 256 << 10,
        };
        let texts = StackTexts::of(&report, room);
        let note = 200;
        assert!(texts.kept.len() <= room.all + note, "{}", texts.kept.len());
        assert!(texts.longest() <= room.each && texts.longest() > room.each / 2);
    }
}
