//! Where the target's calls of `malloc` really go, when more than one image defines it.

use std::collections::BTreeSet;

use super::Discovery;
use super::indirect::Indirect;
use crate::target::elf::SlotValue;

/// Notes at each definition of `malloc` whether the images' calls go to it.
pub(super) fn note(indirect: &Indirect<'_>, discovery: &mut Discovery) {
    let defines = |name: &str, alias: &[String]| name == "malloc" || alias.iter().any(|alias| alias == "malloc");
    let definers: BTreeSet<usize> = discovery
        .functions()
        .filter(|function| defines(&function.name, &function.aliases))
        .map(|function| function.module)
        .collect();
    if definers.len() < 2 {
        return;
    }
    let reached = reached(indirect);
    if reached.is_empty() {
        return;
    }
    for allocator in &mut discovery.found {
        if !definers.contains(&allocator.module) {
            continue;
        }
        let note = if reached.contains(&allocator.module) {
            "calls of malloc in this process are bound to it"
        } else {
            "no call of malloc in this process is bound to it; probed for callers that reach it by another way"
        };
        allocator.notes.push(note.into());
    }
}

/// The images that the words for `malloc` lead into.
fn reached(indirect: &Indirect<'_>) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    for content in (0..indirect.images.len()).filter_map(|index| indirect.content(index)) {
        let mut slots = Vec::new();
        // A relocation table that cannot be read says nothing of who is called.
        let _unreadable = content.image.visit_slots(&mut |slot| {
            if slot.value == SlotValue::Named("malloc") && slots.len() < 8 {
                slots.push(slot.address);
            }
        });
        reached.extend(
            slots
                .into_iter()
                .filter_map(|slot| indirect.image_at(content.bias, slot)),
        );
    }
    reached
}
