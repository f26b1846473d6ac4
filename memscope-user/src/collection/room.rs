//! What found no room in a session, and what a reader is to know of it.

use memscope_ebpf::unwind::mapping::MAX_MAPPINGS;

use crate::database::generations::{MOST_BYTES, MappedGeneration};
use crate::database::session_file::{LeftOut, MOST_NAMES};

/// What a reader is to know of code that found no room in the unwind tables.
#[must_use]
pub fn notes(left_out: &LeftOut) -> Vec<String> {
    let mut notes = Vec::new();
    if left_out.mappings > 0 {
        notes.push(format!(
            "{} executable mappings were left out, {} of them with unwind tables: the unwinder's table holds {MAX_MAPPINGS} \
             in all, first of the program and of what holds probed functions, then of code with unwind tables, the largest \
             first; stacks that lead into the others end there",
            left_out.mappings, left_out.mappings_with_table
        ));
    }
    if !left_out.images.is_empty() {
        notes.push(format!(
            "no room for the unwind tables of {}{}: stacks go through that code by frame pointer, or end there",
            left_out.images.join(", "),
            // No more names are kept.
            if left_out.images.len() >= MOST_NAMES {
                " and perhaps others"
            } else {
                ""
            }
        ));
    }
    notes
}

/// Files that found no room in the session file: the most that there were at a time.
#[must_use]
pub fn unnamed_files(generations: &[MappedGeneration]) -> u64 {
    let left_out = generations.iter().map(|generation| generation.left_out);
    left_out.max().unwrap_or(0)
}

/// What a reader is to know of them.
#[must_use]
pub fn unnamed_files_note(files: u64) -> Option<String> {
    (files > 0).then(|| {
        format!(
            "addresses in {files} files have no names: what the target has mapped before and now takes {} MB, and no more \
             is kept",
            MOST_BYTES >> 20
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_more_names_are_kept_it_is_not_said_that_these_are_all() {
        let notes = |images: usize| {
            notes(&LeftOut {
                images: vec!["a.so".to_owned(); images],
                ..LeftOut::default()
            })
        };
        assert_eq!(notes(0), [""; 0]);
        assert!(notes(2)[0].contains("of a.so, a.so: stacks"));
        assert!(notes(MOST_NAMES)[0].contains("a.so and perhaps others: stacks"));
    }

    #[test]
    fn files_without_room_are_told_by_the_most_that_there_were_at_a_time() {
        let generation = |left_out| MappedGeneration {
            left_out,
            ..MappedGeneration::new(1, Vec::new())
        };
        let note = |generations: &[MappedGeneration]| unnamed_files_note(unnamed_files(generations));
        assert_eq!(note(&[]), None);
        assert_eq!(note(&[generation(0)]), None);
        let note = note(&[generation(0), generation(7), generation(3)]);
        assert!(
            note.is_some_and(|note| note.starts_with("addresses in 7 files have no names: ") && note.contains("16 MB"))
        );
    }
}
