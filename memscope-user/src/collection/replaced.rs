//! Where a look at a target finds other code than was mapped before, and whose stacks are in doubt for that.

use std::collections::BTreeMap;

use memscope_ebpf::site::SiteRecord;

use crate::database::generations::{Leaving, MappedGeneration, Range, modules_at};
use crate::symbol::{FileStamp, SavedModule, SavedSegment};
use crate::target::address::{FileOffset, RuntimeAddress};
use crate::unwind::CodeMapping;

/// What a look at a target found.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    /// Files with executable mappings.
    pub(super) modules: &'a [SavedModule],
    /// Those of them that the session has room for.
    pub(super) kept: &'a [SavedModule],
    /// Files beside them for which there was no room.
    pub(super) left_out: u64,
    /// All executable mappings, with code that no file names.
    pub(super) mappings: &'a [CodeMapping],
    /// The sites as they were before it: what was counted by then was walked before it.
    pub(super) sites: &'a [SiteRecord],
}

impl<'a> Look<'a> {
    /// Notes with the generations that walks have used since the look before, the published one and the one before that, which of
    /// their stacks are in doubt by this look. `true`: the files are those of the published generation.
    pub(super) fn doubt(&self, generations: &mut [MappedGeneration], published: u64) -> bool {
        let present = generations.len().checked_sub(1);
        let Some(present) = present.filter(|last| generations[*last].until == published) else {
            return false;
        };
        if let Some(left) = present.checked_sub(1) {
            self.doubt_the_left(generations, left);
        }
        let last = &mut generations[present];
        if last.modules == self.kept {
            // Whether files without room are the same nobody can say.
            if last.left_out == 0 && self.left_out == 0 {
                last.verified = self.counted(last);
            }
            return true;
        }
        let replaced = self.replaced(&last.modules);
        if replaced.is_empty() {
            last.verified.clear();
        }
        last.replaced.extend(replaced);
        false
    }

    /// Of a generation that walks had left before this look: the first such look tells, and by a later one all its stacks have
    /// been counted.
    fn doubt_the_left(&self, generations: &mut [MappedGeneration], left: usize) {
        let leaving = &generations[left].leaving;
        if leaving.is_over || !leaving.replaced.is_empty() {
            return;
        }
        let counted = self.counted(&generations[left]);
        if counted == generations[left].leaving.verified {
            return;
        }
        let replaced = self.replaced(&modules_at(generations, left));
        let leaving = &mut generations[left].leaving;
        if replaced.is_empty() {
            leaving.verified = counted;
        } else {
            leaving.replaced = replaced;
        }
    }

    /// The last of these generations is about to be followed by another, with what this look found.
    pub(super) fn leave(&self, generations: &mut [MappedGeneration]) {
        let Some((last, before)) = generations.split_last_mut() else {
            return;
        };
        last.leaving = Leaving {
            verified: self.counted(last),
            ..Leaving::default()
        };
        // No walk uses them any more, and this look has told of those that did.
        for Leaving {
            replaced,
            verified,
            is_over,
        } in before.iter_mut().map(|generation| &mut generation.leaving)
        {
            *is_over = true;
            if replaced.is_empty() {
                verified.clear();
            }
        }
    }

    /// The sites that have an index and a stack.
    pub(super) fn in_use(&self) -> impl Iterator<Item = (u32, &'a SiteRecord)> + use<'a> {
        (0..).zip(self.sites).filter(|(_, site)| site.hash != 0)
    }

    /// How many blocks each site of a generation has allocated.
    fn counted(&self, generation: &MappedGeneration) -> BTreeMap<u32, u64> {
        self.in_use()
            .filter(|(_, site)| generation.holds(site.generation))
            .map(|(index, site)| (index, site.allocated))
            .collect()
    }

    /// Where something else is mapped now, by address, than the modules that were. Where nothing is, nothing is known to have
    /// taken its place.
    fn replaced(&self, were: &[SavedModule]) -> Vec<Range> {
        let mut now: BTreeMap<RuntimeAddress, &SavedModule> = BTreeMap::new();
        for is in self.modules {
            now.extend(is.segments.iter().map(|segment| (segment.start, is)));
        }
        let mut ranges = Vec::new();
        for was in were {
            for segment in &was.segments {
                let first = self.mappings.partition_point(|mapping| mapping.end <= segment.start);
                let here = self.mappings[first..].iter();
                // Small pieces of other code, as a JIT maps them, are one range.
                let mut run: Option<Range> = None;
                for mapping in here.take_while(|mapping| mapping.start < segment.end) {
                    let is = now.get(&mapping.start);
                    if is.is_some_and(|is| same_file(was, is) && same_place(segment, mapping)) {
                        ranges.extend(run.take());
                        continue;
                    }
                    let end = segment.end.min(mapping.end);
                    run.get_or_insert(Range {
                        start: segment.start.max(mapping.start),
                        end,
                    })
                    .end = end;
                }
                ranges.extend(run);
            }
        }
        ranges
    }
}

fn same_place(was: &SavedSegment, is: &CodeMapping) -> bool {
    let origin = |at: RuntimeAddress, offset: FileOffset| at.0.wrapping_sub(offset.0);
    origin(was.start, was.offset) == origin(is.start, is.offset)
}

/// What was read of a file tells it from every other. Of one that could not be opened at either look, such as one deleted
/// since, the kernel says which it is: no other file has its inode while it is mapped.
fn same_file(was: &SavedModule, is: &SavedModule) -> bool {
    match (key_of(was), key_of(is)) {
        (Some(was), Some(is)) => was == is,
        _ => was.mapped.is_some() && was.mapped == is.mapped && was.path == is.path,
    }
}

/// What tells a module's file from every other.
pub(super) fn key_of(module: &SavedModule) -> Option<String> {
    match (&module.build_id, &module.file) {
        (Some(build_id), _) => Some(build_id.as_hex().to_owned()),
        (None, Some(stamp)) => Some(stamp_key(stamp)),
        _ => None,
    }
}

/// A file without build id is known by what makes it this very file.
fn stamp_key(stamp: &FileStamp) -> String {
    let FileStamp {
        device,
        inode,
        size,
        modified_s,
        modified_ns,
    } = stamp;
    format!("{device:x}:{inode:x}:{size:x}:{modified_s:x}.{modified_ns:x}")
}

#[cfg(test)]
mod tests {
    use memscope_ebpf::live::SiteIndex;

    use super::*;
    use crate::database::generations::{follow, of_site, retain};
    use crate::target::address::BuildId;
    use crate::target::mapping::FileKey;
    use crate::unwind::CodeSource;

    fn library(id: u8, start: u64, offset: u64) -> SavedModule {
        SavedModule {
            path: "/lib/plugin.so".into(),
            build_id: BuildId::from_bytes(&[id]),
            file: None,
            mapped: None,
            segments: vec![SavedSegment {
                start: RuntimeAddress(start),
                end: RuntimeAddress(start + 0x2000),
                offset: FileOffset(offset),
                elf_address: None,
            }],
        }
    }

    /// One whose file could not be opened.
    fn closed(path: &str, inode: u64, offset: u64) -> SavedModule {
        SavedModule {
            path: path.into(),
            build_id: None,
            mapped: Some(FileKey { device: (8, 1), inode }),
            ..library(0, 0x5000, offset)
        }
    }

    fn mappings(modules: &[SavedModule]) -> Vec<CodeMapping> {
        let segments = modules.iter().flat_map(|module| &module.segments);
        let mappings = segments.map(|segment| CodeMapping {
            start: segment.start,
            end: segment.end,
            offset: segment.offset,
            source: CodeSource::Bare,
        });
        let mut mappings: Vec<CodeMapping> = mappings.collect();
        mappings.sort_by_key(|mapping| mapping.start);
        mappings
    }

    fn ranges(were: &[SavedModule], are: &[SavedModule], mappings: &[CodeMapping]) -> Vec<(u64, u64)> {
        let look = Look {
            modules: are,
            kept: are,
            left_out: 0,
            mappings,
            sites: &[],
        };
        let ranges = look.replaced(were);
        ranges.iter().map(|range| (range.start.0, range.end.0)).collect()
    }

    #[test]
    fn what_another_file_has_taken_is_told_and_what_has_gone_is_not() {
        let were = [library(1, 0x5000, 0x1000), library(2, 0x9000, 0)];
        let of = |are: &[SavedModule]| ranges(&were, are, &mappings(are));
        assert_eq!(of(&[]), []);
        assert_eq!(of(&were), []);
        // A part of the file is the file still, as after mprotect of the rest.
        assert_eq!(of(&[library(1, 0x6000, 0x2000)]), []);
        assert_eq!(of(&[library(3, 0x5000, 0x1000)]), [(0x5000, 0x7000)]);
        assert_eq!(of(&[library(1, 0x6000, 0x1000)]), [(0x6000, 0x7000)], "elsewhere in it");
        let bare = mappings(&[library(0, 0xa000, 0)]);
        assert_eq!(ranges(&were, &[], &bare), [(0xa000, 0xb000)]);
        let mut pieces = bare;
        pieces[0].start = RuntimeAddress(0xa800);
        pieces.insert(
            0,
            CodeMapping {
                start: RuntimeAddress(0x9000),
                end: RuntimeAddress(0x9100),
                ..pieces[0].clone()
            },
        );
        assert_eq!(ranges(&were, &[], &pieces), [(0x9000, 0xb000)], "one range a run");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_the_same_where_the_kernel_says_so() {
        let path = "/lib/plugin.so";
        let known = SavedModule {
            build_id: BuildId::from_bytes(&[7]),
            ..closed(path, 42, 0x1000)
        };
        let was = closed(path, 42, 0x1000);
        let of = |was: &SavedModule, is: SavedModule| {
            let are = [is];
            ranges(std::slice::from_ref(was), &are, &mappings(&are))
        };
        assert_eq!(of(&was, was.clone()), []);
        assert_eq!(of(&known, was.clone()), [], "deleted since");
        assert_eq!(of(&was, known.clone()), []);
        let all = [(0x5000, 0x7000)];
        assert_eq!(of(&was, closed(path, 43, 0x1000)), all, "another inode");
        assert_eq!(of(&was, closed(path, 42, 0x2000)), all, "elsewhere in it");
        assert_eq!(of(&was, closed("/lib/other.so", 42, 0x1000)), all, "another name");
        let unknown = SavedModule { mapped: None, ..was };
        assert_eq!(of(&unknown, unknown.clone()), all, "nothing tells what it is");
    }

    fn site(generation: u16, allocated: u64) -> SiteRecord {
        SiteRecord {
            generation,
            allocated,
            hash: 1,
            ..SiteRecord::default()
        }
    }

    /// A look at a target that has these files mapped, and these sites by then. `true`: it is published as generation `next`.
    fn look(generations: &mut Vec<MappedGeneration>, next: u64, are: &[SavedModule], sites: &[SiteRecord]) -> bool {
        let mappings = mappings(are);
        let look = Look {
            modules: are,
            kept: are,
            left_out: 0,
            mappings: &mappings,
            sites,
        };
        let published = generations.last().map_or(0, |last| last.until);
        if look.doubt(generations, published) {
            return false;
        }
        look.leave(generations);
        follow(generations, MappedGeneration::new(next, are.to_vec()));
        true
    }

    /// How many of these two frames are believed, by site: the first is in the plugin, if it is there, the second is not.
    fn believed(generations: &[MappedGeneration], sites: &[SiteRecord]) -> Vec<usize> {
        let of = |(index, site): (u32, &SiteRecord)| {
            of_site(generations, site.generation)
                .expect("of a generation that is kept")
                .believed(SiteIndex(index), site, &[0x9010, 0x5010])
        };
        (0..).zip(sites).map(of).collect()
    }

    #[test]
    fn stacks_taken_while_the_next_tables_were_made_are_in_doubt_by_the_look_after_them() {
        let (program, plugin) = (library(1, 0x9000, 0), library(2, 0x5000, 0));
        let (another, more) = (library(3, 0x5000, 0), library(4, 0xf000, 0));
        let mut generations = Vec::new();
        let first = [program.clone(), plugin.clone()];
        assert!(look(&mut generations, 1, &first, &[]));
        // A library more; the plugin is still the one it was.
        let second = [program.clone(), plugin, more.clone()];
        assert!(look(&mut generations, 2, &second, &[site(1, 5), site(1, 7)]));
        // The plugin is replaced before generation 2 is published: the second site and the third are counted in it.
        let sites = [site(1, 5), site(1, 8), site(1, 1), site(2, 1)];
        assert!(look(&mut generations, 3, &[program, another, more], &sites));
        assert_eq!(believed(&generations, &sites), [2, 1, 1, 1]);
    }

    #[test]
    fn what_comes_where_nothing_was_seen_leaves_stacks_of_before_in_doubt() {
        let (program, plugin, another) = (library(1, 0x9000, 0), library(2, 0x5000, 0), library(3, 0x5000, 0));
        let mut generations = Vec::new();
        assert!(look(&mut generations, 1, &[program.clone(), plugin], &[]));
        let gone = std::slice::from_ref(&program);
        assert!(look(&mut generations, 2, gone, &[site(1, 5)]));
        let sites = [site(1, 5), site(1, 1), site(2, 1)];
        assert!(look(&mut generations, 3, &[program, another], &sites));
        assert_eq!(believed(&generations, &sites), [2, 1, 2]);
    }

    #[test]
    fn a_generation_that_was_looked_at_since_is_not_doubted_for_what_comes_later() {
        let (program, plugin, another) = (library(1, 0x9000, 0), library(2, 0x5000, 0), library(3, 0x5000, 0));
        let more = library(4, 0xf000, 0);
        let mut generations = Vec::new();
        assert!(look(&mut generations, 1, &[program.clone(), plugin.clone()], &[]));
        let second = [program.clone(), plugin, more.clone()];
        assert!(look(&mut generations, 2, &second, &[]));
        let sites = [site(1, 5), site(2, 1)];
        assert!(!look(&mut generations, 3, &second, &sites));
        let later = [site(1, 5), site(2, 1), site(2, 1)];
        let third = [program.clone(), another.clone(), more];
        assert!(look(&mut generations, 3, &third, &later));
        assert_eq!(believed(&generations, &later), [2, 2, 1]);
        // Two generations later nothing is kept for the first.
        assert!(look(&mut generations, 4, &[program, another], &later));
        assert!(!generations[0].is_doubted() && generations[0].leaving.verified.is_empty());
        assert_eq!(believed(&generations, &later), [2, 2, 1]);
        // Nor is it taken for the one that walks have just left when those in between go: no site of theirs is left, or a
        // refresh was killed before it published its own.
        retain(&mut generations, |generation| {
            generation.number != 2 && generation.number != 3
        });
        let sites = [site(1, 5)];
        assert!(!look(
            &mut generations,
            5,
            &[library(1, 0x9000, 0), library(3, 0x5000, 0)],
            &sites
        ));
        assert_eq!(believed(&generations, &sites), [2]);
    }
}
