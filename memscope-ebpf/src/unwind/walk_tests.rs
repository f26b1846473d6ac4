//! The walk against made-up stacks: what it follows, and where and why it ends.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::cache::{CACHE_ENTRIES, CacheEntry};
use super::lookup::Tables;
use super::mapping::{MappingEntry, MappingKind, MappingTable};
use super::row::{Page, RbpRule, Row, RowKind};
use super::walk::{ACROSS_SIGNAL, BY_FRAME_POINTER, INTO_UNKNOWN_CODE, Registers, Target, walk};
use crate::limits::MAX_FRAMES;
use crate::site::{INTERRUPTED, StackEnd};

/// Where the code with a table begins; one page of rows, 32 bytes each.
const CODE: u64 = 0x40_0000;
/// Code without a table.
pub(super) const JIT: u64 = 0x50_0000;
/// Return-probe trampolines. The kernel's return address is the first byte of its page, and return addresses are looked up
/// less one: the entry begins a byte early.
const TRAMPOLINE: u64 = 0x60_0000;
pub(super) const STACK: u64 = 0x7fff_0000;

pub(super) struct World {
    mappings: Box<MappingTable>,
    pub(super) rows: Vec<Row>,
    pub(super) memory: BTreeMap<u64, u64>,
    originals: BTreeMap<u64, u64>,
    cache: Vec<CacheEntry>,
    reads: RefCell<Vec<u64>>,
    frames: Vec<u64>,
}

/// A return address in the code of row `number`.
pub(super) fn in_row(number: u64) -> u64 {
    CODE + number * 32 + 16
}

fn rule(kind: RowKind, rbp: RbpRule, words: i32) -> Row {
    Row::rule(kind, rbp, words, 0).unwrap()
}

impl World {
    pub(super) fn new(rules: &[Row]) -> Self {
        let mut mappings = Box::new(MappingTable::EMPTY);
        for (slot, (start, pages, kind)) in mappings.entries.iter_mut().zip([
            (CODE, 1, MappingKind::Code),
            (JIT, 0, MappingKind::Code),
            (TRAMPOLINE - 1, 0, MappingKind::Trampoline),
        ]) {
            *slot = MappingEntry {
                start,
                end: start + 0x1000,
                origin: start,
                first_page: 0,
                pages,
                kind: kind as u32,
                padding: 0,
            };
        }
        let rows = rules.iter().enumerate();
        Self {
            mappings,
            rows: rows
                .map(|(i, rule)| rule.at(i as u16 * 32, i as u16 * 32 + 31))
                .collect(),
            memory: BTreeMap::new(),
            originals: BTreeMap::new(),
            cache: (0..CACHE_ENTRIES).map(|_| CacheEntry::default()).collect(),
            reads: RefCell::new(Vec::new()),
            frames: Vec::new(),
        }
    }

    fn stack(mut self, words: &[(u64, u64)]) -> Self {
        self.memory
            .extend(words.iter().map(|&(offset, value)| (STACK + offset, value)));
        self
    }

    /// Frames of the last walk.
    pub(super) fn frames_found(&self) -> &[u64] {
        &self.frames
    }

    /// Before another walk.
    pub(super) fn forget_frames(&mut self) {
        self.frames.clear();
    }

    /// Frames, end and flags of a walk from a return address in `ip` with rsp at [`STACK`].
    fn walk(&mut self, ip: u64, bp: u64) -> (Vec<u64>, StackEnd, u32) {
        self.frames.clear();
        self.reads.borrow_mut().clear();
        let ended = walk(Registers { ip, sp: STACK, bp }, self);
        assert_eq!(ended.frames as usize, self.frames.len());
        let end = StackEnd::from_number(ended.end as u8).unwrap();
        (self.frames.clone(), end, ended.flags)
    }
}

impl Tables for World {
    fn mapping(&self, address: u64) -> Option<&MappingEntry> {
        self.mappings.find(address)
    }

    fn page(&self, index: u32) -> Option<Page> {
        let rows = self.rows.len() as u32;
        (index == 0).then_some(Page { first_row: 0, rows })
    }

    fn row(&self, index: u32) -> Option<Row> {
        self.rows.get(index as usize).copied()
    }
}

impl Target for World {
    fn read_word(&mut self, address: u64) -> Option<u64> {
        self.reads.borrow_mut().push(address);
        self.memory.get(&address).copied()
    }

    fn cache_entry(&self, index: u32) -> Option<&CacheEntry> {
        self.cache.get(index as usize)
    }

    fn generation(&self) -> u64 {
        1
    }

    fn original_return(&self, slot: u64) -> Option<u64> {
        self.originals.get(&slot).copied()
    }

    fn record(&mut self, index: u32, address: u64) {
        assert_eq!(index as usize, self.frames.len());
        self.frames.push(address);
    }
}

const BOTTOM: Row = Row::bare(RowKind::Outermost);

fn plain(words: i32) -> Row {
    rule(RowKind::CfaFromRsp, RbpRule::Same, words)
}

#[test]
fn frames_without_frame_pointers_are_followed_to_the_bottom_warm_and_cold() {
    let mut world = World::new(&[plain(2), plain(4), BOTTOM]).stack(&[(8, in_row(1)), (40, in_row(2))]);
    let whole = (vec![in_row(0), in_row(1), in_row(2)], StackEnd::Outermost, 0);
    assert_eq!(world.walk(in_row(0), 7), whole);
    world.rows.clear();
    assert_eq!(world.walk(in_row(0), 7), whole, "the rule cache holds every row");
}

#[test]
fn a_call_that_is_its_function_s_last_instruction_belongs_to_that_function() {
    let mut world = World::new(&[BOTTOM, Row::bare(RowKind::Unsupported)]);
    assert_eq!(world.walk(CODE + 32, 0).1, StackEnd::Outermost);
}

#[test]
fn rbp_is_read_only_when_a_frame_depends_on_it_and_from_its_last_save() {
    let saves = rule(RowKind::CfaFromRsp, RbpRule::SavedAt(-2), 4);
    let by_rbp = rule(RowKind::CfaFromRbp, RbpRule::SavedAt(-2), 2);
    let mut world = World::new(&[saves, plain(1), by_rbp, BOTTOM]).stack(&[
        (24, in_row(1)),
        (32, in_row(2)),
        (16, STACK + 64),
        (72, in_row(3)),
        (64, 0),
    ]);
    let (frames, end, _) = world.walk(in_row(0), 0xbad);
    assert_eq!((frames.len(), end), (4, StackEnd::Outermost));
    assert_eq!(*world.reads.borrow(), [STACK + 24, STACK + 32, STACK + 16, STACK + 72]);
}

#[test]
fn realigned_frames_find_their_cfa_in_memory() {
    let by_rbp = Row::rule(RowKind::CfaAtRbp, RbpRule::SavedAt(0), -1, 0).unwrap();
    let by_rsp = Row::rule(RowKind::CfaAtRsp, RbpRule::Same, 1, 1).unwrap();
    let mut world = World::new(&[by_rbp, by_rsp, BOTTOM]).stack(&[
        (24, STACK + 80),
        (72, in_row(1)),
        (88, STACK + 120),
        (120, in_row(2)),
    ]);
    let (frames, end, flags) = world.walk(in_row(0), STACK + 32);
    assert_eq!((frames.len(), end, flags), (3, StackEnd::Outermost, 0));
}

#[test]
fn a_lost_rbp_ends_only_the_stacks_that_need_it() {
    let loses = rule(RowKind::CfaFromRsp, RbpRule::Lost, 2);
    let by_rbp = rule(RowKind::CfaFromRbp, RbpRule::Same, 2);
    let mut world = World::new(&[loses, by_rbp, BOTTOM]).stack(&[(8, in_row(2))]);
    assert_eq!(world.walk(in_row(0), STACK).1, StackEnd::Outermost);
    world.memory.insert(STACK + 8, in_row(1));
    assert_eq!(world.walk(in_row(0), STACK).1, StackEnd::UnsupportedRule);
}

#[test]
fn a_signal_frame_is_crossed_also_to_a_lower_stack() {
    let low = STACK - 0x1_0000;
    let mut world = World::new(&[Row::bare(RowKind::SignalFrame), plain(2), BOTTOM]).stack(&[
        (120, 0x1234),
        (160, low),
        // The interrupted instruction is the first of its range: it is not to be looked up less one.
        (168, CODE + 32),
    ]);
    world.memory.insert(low + 8, in_row(2));
    let (frames, end, flags) = world.walk(in_row(0), 0);
    assert_eq!(frames, [in_row(0), (CODE + 32) | INTERRUPTED, in_row(2)]);
    assert_eq!((end, flags), (StackEnd::Outermost, ACROSS_SIGNAL));
    // Where the thread was interrupted the table may have been pruned: then nothing is guessed.
    world.memory.insert(STACK + 168, CODE + 0x3f0);
    assert_eq!(world.walk(in_row(0), STACK).1, StackEnd::SignalFrame);
}

#[test]
fn code_without_cfi_is_crossed_by_frame_pointer_and_flagged() {
    let mut world = World::new(&[plain(2), BOTTOM]).stack(&[
        (8, JIT + 0x10),
        (32, STACK + 64),
        (40, JIT + 0x20),
        (64, 0),
        (72, in_row(1)),
    ]);
    let (frames, end, flags) = world.walk(in_row(0), STACK + 32);
    assert_eq!(frames, [in_row(0), JIT + 0x10, JIT + 0x20, in_row(1)]);
    assert_eq!((end, flags), (StackEnd::Outermost, BY_FRAME_POINTER));
}

#[test]
fn what_is_no_frame_pointer_is_not_followed() {
    for bp in [STACK - 8, STACK + 17, STACK + (2 << 20), STACK + 0x800] {
        let mut world = World::new(&[plain(2)]).stack(&[(8, JIT + 0x10)]);
        let (frames, end, flags) = world.walk(in_row(0), bp);
        assert_eq!((frames.len(), end, flags), (2, StackEnd::NoTable, 0), "{bp:x}");
    }
    let mut world = World::new(&[]).stack(&[(32, 0x99), (40, 0xdead_0000)]);
    let (frames, end, flags) = world.walk(JIT + 0x10, STACK + 32);
    assert_eq!(
        frames,
        [JIT + 0x10],
        "an address that only a guess led to is no frame unless it is code"
    );
    assert_eq!((end, flags), (StackEnd::FramePointers, BY_FRAME_POINTER));
}

#[test]
fn rbp_zero_marks_the_outermost_frame_of_code_that_keeps_frame_pointers() {
    let mut world = World::new(&[]).stack(&[(32, 0), (40, JIT + 0x20)]);
    assert_eq!(
        world.walk(JIT + 0x10, STACK + 32),
        (vec![JIT + 0x10, JIT + 0x20], StackEnd::Outermost, BY_FRAME_POINTER)
    );
}

/// Code without CFI need not keep frame pointers (musl does not): rbp may hold any number, and is often 0.
#[test]
fn rbp_zero_is_no_mark_where_no_frame_pointer_led() {
    let mut world = World::new(&[plain(2)]).stack(&[(8, JIT + 0x10)]);
    assert_eq!(
        world.walk(in_row(0), 0),
        (vec![in_row(0), JIT + 0x10], StackEnd::NoTable, 0)
    );
    assert_eq!(world.walk(JIT + 0x10, 0), (vec![JIT + 0x10], StackEnd::NoTable, 0));
}

/// Where no frame pointer led, rbp may be at a zeroed buffer of the program's (the argument of musl's strdup): no frame
/// record, and the word above it no return address.
#[test]
fn a_return_address_of_zero_is_no_bottom_where_no_frame_pointer_led() {
    let mut world = World::new(&[plain(2)]).stack(&[(8, JIT + 0x10), (32, 0), (40, 0)]);
    assert_eq!(
        world.walk(in_row(0), STACK + 32),
        (vec![in_row(0), JIT + 0x10], StackEnd::NoTable, 0)
    );
    let mut world = World::new(&[]).stack(&[(32, STACK + 64), (40, JIT + 0x20), (64, 0), (72, 0)]);
    assert_eq!(
        world.walk(JIT + 0x10, STACK + 32),
        (vec![JIT + 0x10, JIT + 0x20], StackEnd::Outermost, BY_FRAME_POINTER)
    );
}

/// A call through a null pointer leaves the handler of its fault at address 0, whose caller is not known.
#[test]
fn a_signal_that_interrupted_address_zero_is_no_bottom() {
    let mut world = World::new(&[Row::bare(RowKind::SignalFrame)]).stack(&[
        (120, 0),
        (160, STACK + 0x100),
        (168, 0),
        (0x100, in_row(1)),
    ]);
    assert_eq!(world.walk(in_row(0), 0), (vec![in_row(0)], StackEnd::SignalFrame, 0));
}

#[test]
fn a_return_address_of_zero_is_the_bottom() {
    let mut world = World::new(&[plain(2)]).stack(&[(8, 0)]);
    assert_eq!(world.walk(in_row(0), 0), (vec![in_row(0)], StackEnd::Outermost, 0));
}

#[test]
fn a_trampoline_gives_way_to_the_address_it_replaced() {
    let mut world = World::new(&[plain(2), BOTTOM]).stack(&[(8, TRAMPOLINE)]);
    assert_eq!(world.walk(in_row(0), 0), (vec![in_row(0)], StackEnd::NotCode, 0));
    world.originals.insert(STACK + 8, in_row(1));
    assert_eq!(
        world.walk(in_row(0), 0),
        (vec![in_row(0), in_row(1)], StackEnd::Outermost, 0)
    );
}

#[test]
fn code_mapped_since_the_tables_were_made_is_kept_as_the_last_frame() {
    let mut world = World::new(&[plain(2)]).stack(&[(8, 0x7f00_0000_1234)]);
    assert_eq!(
        world.walk(in_row(0), 0),
        (vec![in_row(0), 0x7f00_0000_1234], StackEnd::NotCode, INTO_UNKNOWN_CODE)
    );
    for nonsense in [1, 0xfff, 1 << 60, u64::MAX] {
        world.memory.insert(STACK + 8, nonsense);
        assert_eq!(world.walk(in_row(0), 0).0.len(), 1, "{nonsense:x}");
    }
}

#[test]
fn a_frame_address_that_does_not_grow_or_is_misaligned_is_a_cycle() {
    let by_rbp = rule(RowKind::CfaFromRbp, RbpRule::Same, 2);
    for bp in [STACK - 16, STACK - 64, STACK + 4, u64::MAX - 7] {
        let mut world = World::new(&[by_rbp]);
        assert_eq!(world.walk(in_row(0), bp).1, StackEnd::Cycle, "{bp:x}");
    }
    let mut world = World::new(&[plain(0)]).stack(&[(0, in_row(0))]);
    world.memory.insert(STACK - 8, in_row(0));
    assert_eq!(world.walk(in_row(0), 0).1, StackEnd::Cycle);
}

#[test]
fn an_unreadable_stack_says_so() {
    let mut world = World::new(&[plain(2)]);
    assert_eq!(world.walk(in_row(0), 0), (vec![in_row(0)], StackEnd::Unreadable, 0));
}

#[test]
fn a_stack_of_the_limit_is_whole_and_one_deeper_is_cut() {
    for (deep, end) in [
        (MAX_FRAMES, StackEnd::Outermost),
        (MAX_FRAMES + 1, StackEnd::FrameLimit),
    ] {
        let mut world = World::new(&[plain(1), BOTTOM]);
        for frame in 0..deep as u64 - 1 {
            let next = if frame == deep as u64 - 2 { in_row(1) } else { in_row(0) };
            world.memory.insert(STACK + frame * 8, next);
        }
        let (frames, got, _) = world.walk(in_row(0), 0);
        assert_eq!((frames.len(), got), (MAX_FRAMES, end));
    }
}

#[test]
fn any_row_and_any_memory_end_in_bounded_steps_without_panic() {
    let mut seed = 0x1234_5678_9abc_def0u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for _ in 0..2_000 {
        let mut world = World::new(&[]);
        world.rows = (0..random() % 40).map(|_| Row(random())).collect();
        for _ in 0..40 {
            let value = match random() % 4 {
                0 => STACK + random() % 512 / 8 * 8,
                1 => in_row(random() % 32),
                2 => JIT + random() % 0x1000,
                _ => random(),
            };
            world.memory.insert(STACK + random() % 64 * 8, value);
        }
        let bp = STACK + random() % 600;
        world.walk(in_row(random() % 32), bp);
        assert!(world.reads.borrow().len() < 4 * (MAX_FRAMES + 16));
    }
}
