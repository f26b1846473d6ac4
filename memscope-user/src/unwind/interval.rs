//! Ranges of code with their rules, made disjoint: overlapping entries of a hostile file must not multiply.

use memscope_ebpf::unwind::row::Row;

/// A rule and the code it holds for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// First ELF address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// The rule; its address fields are unused.
    pub rule: Row,
}

/// Sorts, drops empty ranges, and cuts each range off where the next begins.
#[must_use]
pub fn disjoint(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.retain(|interval| interval.start < interval.end);
    intervals.sort_by_key(|interval| interval.start);
    intervals.dedup_by_key(|interval| interval.start);
    for at in 1..intervals.len() {
        let next = intervals[at].start;
        let interval = &mut intervals[at - 1];
        interval.end = interval.end.min(next);
    }
    intervals
}

/// `first` and, where it has nothing, `second`; both disjoint.
#[must_use]
pub fn fill_gaps(first: Vec<Interval>, second: &[Interval]) -> Vec<Interval> {
    let mut filled = Vec::with_capacity(first.len() + second.len());
    let mut rest = first.iter().peekable();
    for piece in second {
        let mut start = piece.start;
        while let Some(taken) = rest.peek()
            && taken.start < piece.end
        {
            if start < taken.start {
                filled.push(Interval {
                    start,
                    end: taken.start,
                    ..*piece
                });
            }
            start = start.max(taken.end);
            if taken.end > piece.end {
                break;
            }
            filled.push(**taken);
            rest.next();
        }
        if start < piece.end {
            filled.push(Interval { start, ..*piece });
        }
    }
    filled.extend(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(list: &[(u64, u64, u64)]) -> Vec<Interval> {
        list.iter()
            .map(|&(start, end, rule)| Interval {
                start,
                end,
                rule: Row(rule),
            })
            .collect()
    }

    #[test]
    fn overlaps_are_cut_and_empty_ranges_go() {
        let cut = disjoint(ranges(&[
            (30, 20, 9),
            (10, 20, 1),
            (0, 100, 0),
            (10, 50, 2),
            (15, 18, 3),
        ]));
        assert_eq!(cut, ranges(&[(0, 10, 0), (10, 15, 1), (15, 18, 3)]));
    }

    #[test]
    fn the_second_source_fills_only_what_the_first_leaves() {
        let first = ranges(&[(10, 20, 1), (30, 40, 1), (60, 70, 1)]);
        let second = ranges(&[(0, 5, 2), (8, 12, 2), (15, 65, 2), (80, 90, 2)]);
        let want = [
            (0, 5, 2),
            (8, 10, 2),
            (10, 20, 1),
            (20, 30, 2),
            (30, 40, 1),
            (40, 60, 2),
            (60, 70, 1),
            (80, 90, 2),
        ];
        assert_eq!(fill_gaps(first.clone(), &second), ranges(&want));
        assert_eq!(fill_gaps(first.clone(), &[]), first);
        assert_eq!(fill_gaps(Vec::new(), &second), second);
    }
}
