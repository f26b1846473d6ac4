//! Frames that the thread's last stack had in the same place: found again without a lookup.
//!
//! A thread's stacks resemble each other: mostly the outer frames are the same, often all of them. Each frame of the last
//! one is kept with its row. A row depends on nothing but the return address and the tables' generation, so where the new
//! stack has the same return address at the same depth, its row is the one kept. What is read from the stack is compared
//! with what is expected and not waited for: the processor goes ahead, which the walk proper cannot let it.

use super::bounded::element;
use super::memory::WalkMemory;
use super::row::{RbpRule, RowKind};
use super::walk::{BY_CALL, BY_SIGNAL, RBP_LOST, RBP_SAVED};
use crate::limits::MAX_FRAMES;
use crate::site::StackEnd;

/// Frames followed at once; the walk comes back for more.
const RUN: u32 = 32;

/// Takes as many steps as the window of stack and the last stack's frames allow. 1: they led to the outermost frame, and the
/// walk has ended there. Not inlined for BPF: verified apart.
#[cfg_attr(target_arch = "bpf", inline(never))]
pub fn follow_again(memory: &mut WalkMemory) -> u64 {
    let mut index = memory.walk.frames;
    let mut sp = memory.walk.sp;
    let from_window = sp.wrapping_sub(memory.window_at);
    if *element(&memory.frames, index) != memory.walk.pc || memory.walk.came == BY_SIGNAL || (sp | from_window) & 7 != 0
    {
        return 0;
    }
    let mut ended = 0;
    for _ in 0..RUN {
        let row = *element(&memory.rows, index);
        if row.kind_number() != RowKind::CfaFromRsp as u8 {
            ended = u64::from(row.kind_number() == RowKind::Outermost as u8);
            break;
        }
        let cfa = sp.wrapping_add(row.offset_bytes());
        let at = cfa.wrapping_sub(8).wrapping_sub(memory.window_at);
        if cfa <= sp || at >= memory.window_bytes || index + 1 >= MAX_FRAMES as u32 {
            break;
        }
        let return_address = *element(&memory.window, (at >> 3) as u32);
        if return_address == 0 || return_address != *element(&memory.frames, index + 1) {
            break;
        }
        match row.rbp() {
            RbpRule::Same => {}
            RbpRule::SavedAt(words) => {
                memory.walk.rbp = cfa.wrapping_add((i64::from(words) * 8) as u64);
                memory.walk.rbp_is = RBP_SAVED;
            }
            RbpRule::Lost => memory.walk.rbp_is = RBP_LOST,
        }
        sp = cfa;
        index += 1;
    }
    if index != memory.walk.frames {
        memory.walk.frames = index;
        memory.walk.pc = *element(&memory.frames, index);
        memory.walk.sp = sp;
        memory.walk.came = BY_CALL;
    }
    if ended != 0 {
        memory.walk.frames = index + 1;
        memory.walk.end = StackEnd::Outermost as u32;
    }
    ended
}

#[cfg(test)]
mod tests {
    use super::super::cache::CacheEntry;
    use super::super::lookup::Tables;
    use super::super::mapping::MappingEntry;
    use super::super::row::{Page, Row};
    use super::super::walk::{MAX_STEPS, Progress, Registers, Target, walk};
    use super::super::walk_tests::{JIT, STACK, World, in_row};
    use super::*;

    /// A thread of the world: the walk as the BPF program does it.
    struct Thread<'a> {
        world: &'a mut World,
        memory: &'a mut WalkMemory,
        /// Frames that were followed without a lookup.
        again: u32,
        /// Stacks that ended there.
        whole: u32,
    }

    impl Thread<'_> {
        fn walk(&mut self, registers: Registers, window_words: usize) -> (Vec<u64>, u32, u32, u64) {
            self.memory.begin(registers, 1);
            for word in 0..window_words {
                self.memory.window[word] = self
                    .world
                    .read_word(registers.sp.wrapping_add(word as u64 * 8))
                    .unwrap_or(0xdead);
            }
            self.memory.window_at = registers.sp;
            self.memory.window_bytes = window_words as u64 * 8;
            for _ in 0..MAX_STEPS {
                let before = self.memory.walk.frames;
                let ended = follow_again(self.memory);
                self.again += self.memory.walk.frames - before;
                if ended == 1 {
                    self.whole += 1;
                    break;
                }
                let mut walk = self.memory.walk;
                let progress = walk.step(self);
                self.memory.walk = walk;
                if progress == Progress::Ended {
                    break;
                }
            }
            let walk = self.memory.walk;
            let frames = self.memory.frames[..walk.frames as usize].to_vec();
            (frames, walk.end, walk.flags, walk.position().1)
        }
    }

    impl Tables for Thread<'_> {
        fn mapping(&self, address: u64) -> Option<&MappingEntry> {
            self.world.mapping(address)
        }
        fn page(&self, index: u32) -> Option<Page> {
            self.world.page(index)
        }
        fn row(&self, index: u32) -> Option<Row> {
            self.world.row(index)
        }
    }

    impl Target for Thread<'_> {
        fn read_word(&mut self, address: u64) -> Option<u64> {
            self.memory.in_window(address).or_else(|| self.world.read_word(address))
        }
        fn cache_entry(&self, index: u32) -> Option<&CacheEntry> {
            self.world.cache_entry(index)
        }
        fn generation(&self) -> u64 {
            1
        }
        fn original_return(&self, slot: u64) -> Option<u64> {
            self.world.original_return(slot)
        }
        fn record(&mut self, index: u32, address: u64) {
            self.memory.record(index, address);
        }
        fn keep_row(&mut self, index: u32, row: Row) {
            self.memory.keep_row(index, row);
        }
    }

    fn xorshift(seed: &mut u64) -> u64 {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    }

    /// Rules of every kind, most of them the common one.
    fn random_rows(seed: &mut u64) -> Vec<Row> {
        let slot = |n: u64| match n % 3 {
            0 => RbpRule::Same,
            1 => RbpRule::SavedAt(-2),
            _ => RbpRule::Lost,
        };
        let mut rows = Vec::new();
        for number in 0..32u16 {
            let n = xorshift(seed);
            let words = 1 + ((n >> 8) % 6) as i32;
            let rule = match n % 48 {
                0 => Row::rule(RowKind::CfaFromRbp, slot(n >> 20), words, 0),
                1 => Row::rule(RowKind::CfaAtRsp, slot(n >> 20), words, 1),
                2 => Some(Row::bare(RowKind::SignalFrame)),
                3 => Some(Row::bare(RowKind::Outermost)),
                4 => Some(Row::bare(RowKind::Unsupported)),
                _ => Row::rule(RowKind::CfaFromRsp, slot(n >> 20), words, 0),
            };
            rows.push(rule.unwrap().at(number * 32, number * 32 + 31));
        }
        rows
    }

    fn random_word(seed: &mut u64) -> u64 {
        let n = xorshift(seed);
        match n % 96 {
            0 => 0,
            1 => STACK + (n >> 8) % 2048 / 8 * 8,
            2 => JIT + (n >> 8) % 0x1000,
            3 => n,
            _ => in_row((n >> 8) % 32),
        }
    }

    #[test]
    fn a_thread_s_stacks_one_after_another_are_those_that_a_walk_without_memory_finds() {
        let mut seed = 0x0123_4567_89ab_cdefu64;
        let (mut again, mut whole, mut frames) = (0, 0, 0);
        for _ in 0..300 {
            let mut world = World::new(&[]);
            world.rows = random_rows(&mut seed);
            for word in 0..256 {
                world.memory.insert(STACK + word * 8, random_word(&mut seed));
            }
            let mut plain = World::new(&[]);
            plain.rows.clone_from(&world.rows);
            let mut memory = Box::<WalkMemory>::default();
            let mut registers = Registers {
                ip: in_row(xorshift(&mut seed) % 32),
                sp: STACK,
                bp: STACK + 64,
            };
            for _ in 0..40 {
                // A little of the stack changes from one to the next, or where it begins.
                for _ in 0..xorshift(&mut seed) % 3 {
                    let at = STACK + xorshift(&mut seed) % 256 * 8;
                    let word = random_word(&mut seed);
                    world.memory.insert(at, word);
                }
                match xorshift(&mut seed) % 8 {
                    0 => registers.ip = in_row(xorshift(&mut seed) % 32),
                    1 => registers.sp = STACK + xorshift(&mut seed) % 8 * 8,
                    2 => registers.bp = STACK + xorshift(&mut seed) % 1024,
                    3 => registers.sp = STACK + xorshift(&mut seed) % 64,
                    _ => {}
                }
                plain.memory.clone_from(&world.memory);
                plain.forget_frames();
                let expected = walk(registers, &mut plain);
                let window = [256, 256, 16, 1][xorshift(&mut seed) as usize % 4]
                    .min(((STACK + 256 * 8 - registers.sp) / 8) as usize);
                // Windows hold what is readable only: a misaligned one would hold what `World` cannot read.
                let window = if registers.sp & 7 == 0 { window } else { 0 };
                let mut thread = Thread {
                    world: &mut world,
                    memory: &mut memory,
                    again: 0,
                    whole: 0,
                };
                let found = thread.walk(registers, window);
                again += thread.again;
                whole += thread.whole;
                frames += expected.frames;
                assert_eq!(
                    (found.0, found.1, found.2, found.3),
                    (
                        plain.frames_found().to_vec(),
                        expected.end,
                        expected.flags,
                        expected.position().1
                    )
                );
            }
        }
        assert!(
            whole > 100,
            "{whole} stacks ended at a remembered frame: too few to prove anything"
        );
        assert!(
            again * 4 > frames,
            "{again} of {frames} frames were followed again: too few to prove anything"
        );
    }

    #[test]
    fn new_tables_make_it_forget_every_row() {
        let mut memory = Box::<WalkMemory>::default();
        let registers = Registers {
            ip: 1,
            sp: STACK,
            bp: 0,
        };
        memory.begin(registers, 4);
        memory.record(0, 77);
        memory.keep_row(0, Row::bare(RowKind::Outermost));
        memory.begin(registers, 4);
        assert_eq!(memory.rows[0].kind(), Some(RowKind::Outermost));
        memory.begin(registers, 5);
        assert_eq!(memory.rows[0].kind(), Some(RowKind::Gap));
    }

    #[test]
    fn a_frame_that_changes_is_noticed_and_loses_its_row() {
        let mut memory = Box::<WalkMemory>::default();
        memory.record(3, 77);
        memory.keep_row(3, Row::bare(RowKind::Outermost));
        memory.changed = 0;
        memory.record(3, 77);
        assert_eq!((memory.changed, memory.rows[3].kind()), (0, Some(RowKind::Outermost)));
        memory.record(3, 78);
        assert_eq!((memory.changed, memory.rows[3].kind()), (1, Some(RowKind::Gap)));
    }
}
