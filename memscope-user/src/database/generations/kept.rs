//! The generations that a session file keeps: the present one's modules whole, of each before it what was different.

use std::collections::BTreeMap;

use super::difference::{Difference, by_start};
use super::{MappedGeneration, of_site};
use crate::symbol::SavedModule;
use crate::target::address::RuntimeAddress;

/// The most that modules may take in a session file, about; see [`weight`].
pub const MOST_BYTES: usize = 16 << 20;

/// What was mapped in the generation that a site carries.
#[must_use]
pub fn modules_of_site(generations: &[MappedGeneration], carried: u16) -> Option<Vec<SavedModule>> {
    let generation = of_site(generations, carried)?;
    let index = generations.iter().position(|one| std::ptr::eq(one, generation))?;
    Some(modules_at(generations, index))
}

/// What was mapped in one of the generations, by address.
#[must_use]
pub fn modules_at(generations: &[MappedGeneration], index: usize) -> Vec<SavedModule> {
    let Some(later) = generations.get(index..) else {
        return Vec::new();
    };
    // From the first that is kept whole backwards.
    let whole = later.iter().position(|generation| generation.difference.is_none());
    let Some(whole) = whole else { return Vec::new() };
    let mut modules: BTreeMap<RuntimeAddress, &SavedModule> = by_start(&later[whole].modules).collect();
    for difference in later[..whole].iter().rev().filter_map(|one| one.difference.as_ref()) {
        difference.undo(&mut modules);
    }
    modules.into_values().cloned().collect()
}

/// Makes a generation the present one.
pub fn follow(generations: &mut Vec<MappedGeneration>, next: MappedGeneration) {
    if let Some(last) = generations.last_mut() {
        let modules = std::mem::take(&mut last.modules);
        last.difference = Some(Difference::between(modules, &next.modules));
    }
    generations.push(next);
}

/// Drops the generations that are no longer needed.
pub fn retain(generations: &mut Vec<MappedGeneration>, keep: impl Fn(&MappedGeneration) -> bool) {
    for index in (0..generations.len()).rev() {
        if keep(&generations[index]) {
            continue;
        }
        let Some(before) = index.checked_sub(1) else {
            generations.remove(0);
            return;
        };
        if index + 1 == generations.len() {
            // The one before is the present one now.
            let modules = modules_at(generations, before);
            whole(&mut generations[before], modules);
            generations.pop();
        } else if generations[index].difference.is_none() {
            let modules = modules_at(generations, before);
            whole(&mut generations[before], modules);
            generations.remove(index);
        } else {
            let dropped = generations.remove(index).difference.unwrap_or_default();
            let before = &mut generations[before];
            before.difference = before.difference.take().map(|before| before.over(dropped));
        }
    }
}

fn whole(generation: &mut MappedGeneration, modules: Vec<SavedModule>) {
    generation.modules = modules;
    generation.difference = None;
}

/// Which of these modules, the target's of now, find room beside what is kept; how many do not. Those that the present
/// generation has stay, `first` ones come before others.
#[must_use]
pub fn with_room(
    generations: &[MappedGeneration],
    modules: &[SavedModule],
    first: impl Fn(&SavedModule) -> bool,
    most: usize,
) -> (Vec<SavedModule>, u64) {
    let kept = generations.iter().flat_map(|generation| {
        let gone = generation.difference.iter().flat_map(|difference| &difference.gone);
        generation.modules.iter().chain(gone)
    });
    let mut room = most.saturating_sub(kept.map(weight).sum());
    let present: BTreeMap<RuntimeAddress, &SavedModule> = generations
        .last()
        .into_iter()
        .flat_map(|last| by_start(&last.modules))
        .collect();
    let is_present = |module: &SavedModule| {
        by_start(std::slice::from_ref(module)).all(|(start, module)| present.get(&start) == Some(&module))
    };
    let mut fits = vec![true; modules.len()];
    for turn in [true, false] {
        for (fits, module) in fits.iter_mut().zip(modules).filter(|(_, module)| first(module) == turn) {
            if is_present(module) {
                continue;
            }
            match room.checked_sub(weight(module)) {
                Some(left) => room = left,
                None => *fits = false,
            }
        }
    }
    let left_out = fits.iter().filter(|fits| !**fits).count() as u64;
    let kept = modules
        .iter()
        .zip(fits)
        .filter(|(_, fits)| *fits)
        .map(|(module, _)| module.clone());
    (kept.collect(), left_out)
}

/// The bytes that a module takes in the file: its target chose the path, and what is no plain letter in it is written longer.
fn weight(module: &SavedModule) -> usize {
    serde_json::to_vec(module).map_or(usize::MAX, |written| written.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbol::SavedSegment;
    use crate::target::address::FileOffset;

    fn module(start: u64, id: u64) -> SavedModule {
        SavedModule {
            path: format!("/lib/{id}.so").into(),
            build_id: None,
            file: None,
            mapped: None,
            segments: vec![SavedSegment {
                start: RuntimeAddress(start << 12),
                end: RuntimeAddress((start + 1) << 12),
                offset: FileOffset(0),
                elf_address: None,
            }],
        }
    }

    /// Ten places, in each of which files come, go, and take another's place.
    fn mapped_at(look: u64) -> Vec<SavedModule> {
        let state = |place: u64| (look + place * 3) / (place + 1) % 4;
        let there = |place: &u64| state(*place) != 0;
        (1..=10)
            .filter(there)
            .map(|place| module(place, state(place)))
            .collect()
    }

    #[test]
    fn every_generation_is_told_as_it_was_whichever_are_dropped() {
        for kept in 1..64u64 {
            let mut generations = Vec::new();
            for look in 0..40 {
                follow(&mut generations, MappedGeneration::new(look + 1, mapped_at(look)));
                // Of all kinds of gaps; the last one stays.
                if look % 5 == 4 {
                    retain(&mut generations, |one| {
                        one.number == look + 1 || one.number * kept % 7 < 4
                    });
                }
                for (index, one) in generations.iter().enumerate() {
                    assert_eq!(
                        modules_at(&generations, index),
                        mapped_at(one.number - 1),
                        "{kept} {look} {index}"
                    );
                }
            }
            assert!(generations.len() > 10);
        }
    }

    #[test]
    fn the_one_before_is_whole_again_when_the_last_is_dropped() {
        let mut generations = Vec::new();
        for look in 0..9 {
            follow(&mut generations, MappedGeneration::new(look + 1, mapped_at(look)));
        }
        retain(&mut generations, |one| one.number <= 7);
        assert_eq!(generations[6].modules, mapped_at(6));
        assert_eq!(modules_of_site(&generations, 2), Some(mapped_at(1)));
        assert_eq!(modules_of_site(&generations, 9), None);
        retain(&mut generations, |_| false);
        assert!(generations.is_empty() && modules_at(&generations, 0).is_empty());
    }

    #[test]
    fn a_file_that_is_loaded_anew_all_the_time_costs_its_own_entry_and_no_more() {
        let libraries: Vec<SavedModule> = (100..300).map(|place| module(place, place)).collect();
        let mut generations = Vec::new();
        let mut length = 0;
        for look in 0..200 {
            let mut modules = libraries.clone();
            modules.push(module(1, 1000 + look));
            follow(&mut generations, MappedGeneration::new(look + 1, modules));
            if look == 0 {
                length = serde_json::to_vec(&generations).unwrap().len();
            }
        }
        let now = serde_json::to_vec(&generations).unwrap().len();
        assert!(now < length + 200 * 500, "{length} grew to {now}");
    }

    #[test]
    fn what_finds_no_room_is_counted_and_what_was_there_stays() {
        let all: Vec<SavedModule> = (1..=10).map(|place| module(place, place)).collect();
        let most = 4 * weight(&all[0]) + 100;
        let first = |one: &SavedModule| one.path.ends_with("9.so");
        let mut generations = Vec::new();
        let (kept, left_out) = with_room(&generations, &all, first, most);
        let named = [0, 1, 2, 8].map(|index| all[index].clone());
        assert_eq!((&kept[..], left_out), (&named[..], 6));
        follow(&mut generations, MappedGeneration::new(1, kept));
        assert_eq!(with_room(&generations, &all, first, most), (named.to_vec(), 6));
        // One has gone and is still kept for its stacks: nothing new finds room.
        assert_eq!(
            with_room(&generations, &all[1..], first, most),
            (named[1..].to_vec(), 6)
        );
        follow(&mut generations, MappedGeneration::new(2, named[1..].to_vec()));
        assert_eq!(
            with_room(&generations, &all[1..], first, most),
            (named[1..].to_vec(), 6)
        );
        retain(&mut generations, |one| one.number == 2);
        assert_eq!(with_room(&generations, &all[1..], first, most).1, 5);
    }
}
