//! Tests of the search for exits: the walk on bytes, landing pads, and whole libraries of this machine and of a compiler.

use std::collections::BTreeMap;

use super::ExitObstacle;
use super::frames::{Frame, Frames};
use super::landing_pads::landing_pads;
use super::walk::{Code, JumpsTo, exits};
use crate::target::address::ElfAddress;

const BASE: u64 = 0x1000;

/// Code at [`BASE`], with what the image would know of it.
#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    frames: Frames,
    pads: Vec<ElfAddress>,
    slots: BTreeMap<u64, JumpsTo>,
    probed: Vec<u64>,
}

impl Code for Written {
    fn bytes(&self, at: ElfAddress) -> &[u8] {
        let offset = at.0.checked_sub(BASE).map(|offset| offset as usize);
        offset.and_then(|offset| self.bytes.get(offset..)).unwrap_or_default()
    }

    fn frame(&self, at: ElfAddress) -> Option<&Frame> {
        self.frames.at(at)
    }

    fn landing_pads(&self, frame: &Frame) -> Result<Vec<ElfAddress>, ExitObstacle> {
        Ok(if frame.catch_table.is_some() {
            self.pads.clone()
        } else {
            Vec::new()
        })
    }

    fn jump_through(&self, slot: ElfAddress) -> JumpsTo {
        self.slots.get(&slot.0).cloned().unwrap_or(JumpsTo::Unknown)
    }

    fn takes_over(&self, at: ElfAddress) -> bool {
        self.probed.contains(&at.0)
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex"))
        .collect()
}

fn written(code: &str) -> Written {
    Written {
        bytes: hex(code),
        ..Written::default()
    }
}

fn frame(from: u64, to: u64, catches: bool) -> Frame {
    Frame {
        start: ElfAddress(BASE + from),
        end: ElfAddress(BASE + to),
        catch_table: catches.then_some(ElfAddress(0x9000)),
    }
}

/// Offsets from [`BASE`].
fn found(code: &Written) -> Result<Vec<u64>, ExitObstacle> {
    exits(code, ElfAddress(BASE)).map(|exits| exits.iter().map(|exit| exit.0 - BASE).collect())
}

#[test]
fn both_sides_of_a_branch_are_followed_and_loops_end() {
    // test rdi,rdi; je +3; xor eax,eax; ret; jmp to the entry.
    assert_eq!(found(&written("4885ff 7403 31c0 c3 ebf6")), Ok(vec![7]));
    // test; jne +1; ret; push rbx; pop rbx; repz ret.
    assert_eq!(found(&written("4885ff 7501 c3 53 5b f3c3")), Ok(vec![5, 8]));
}

#[test]
fn a_tail_jump_is_followed_and_ends_at_another_probed_function() {
    // jmp +3; (ud2; nop); ret.
    assert_eq!(found(&written("eb03 0f0b90 c3")), Ok(vec![5]));
    let mut probed = written("4885ff 7501 c3 eb00 c3");
    probed.probed = vec![BASE + 8];
    assert_eq!(found(&probed), Ok(vec![5]));
}

#[test]
fn jumps_through_words_go_where_the_loader_says_or_nowhere() {
    // test; jne +1; ret; jmp *0x10(%rip); (3 bytes;) ret.
    let code = "4885ff 7501 c3 ff2510000000 cccccc c3";
    let slot = BASE + 12 + 0x10;
    let with = |to: JumpsTo| {
        let mut code = written(code);
        code.slots = BTreeMap::from([(slot, to)]);
        found(&code)
    };
    assert_eq!(with(JumpsTo::Here(ElfAddress(BASE + 15))), Ok(vec![5, 15]));
    assert_eq!(with(JumpsTo::Probed), Ok(vec![5]));
    let at = ElfAddress(BASE + 6);
    assert_eq!(
        with(JumpsTo::Elsewhere("f".to_owned())),
        Err(ExitObstacle::LeavesImage { at, to: "f".to_owned() })
    );
    assert_eq!(found(&written(code)), Err(ExitObstacle::IndirectJump { at }));
}

#[test]
fn what_cannot_be_followed_is_an_obstacle() {
    // jmp *%rax; jmp *(%rdx,%rax,8).
    assert_eq!(
        found(&written("ffe0")),
        Err(ExitObstacle::IndirectJump { at: ElfAddress(BASE) })
    );
    assert_eq!(
        found(&written("ff24c2")),
        Err(ExitObstacle::IndirectJump { at: ElfAddress(BASE) })
    );
    // An opcode that 64-bit mode does not have.
    assert_eq!(
        found(&written("06")),
        Err(ExitObstacle::Undecodable { at: ElfAddress(BASE) })
    );
    // The code ends without a return.
    assert_eq!(
        found(&written("90")),
        Err(ExitObstacle::OutsideCode {
            to: ElfAddress(BASE + 1)
        })
    );
    assert_eq!(
        found(&written("e900010000")),
        Err(ExitObstacle::OutsideCode {
            to: ElfAddress(BASE + 0x105)
        })
    );
    // ud2.
    assert_eq!(found(&written("0f0b")), Err(ExitObstacle::NoReturn));
    // push rax; ret, and mov %rax,(%rsp); ret: jumps in disguise. lret.
    assert_eq!(
        found(&written("50c3")),
        Err(ExitObstacle::OddReturn {
            at: ElfAddress(BASE + 1)
        })
    );
    assert_eq!(
        found(&written("48890424c3")),
        Err(ExitObstacle::OddReturn {
            at: ElfAddress(BASE + 4)
        })
    );
    assert_eq!(
        found(&written("cb")),
        Err(ExitObstacle::OddReturn { at: ElfAddress(BASE) })
    );
    // A prefix that the kernel refuses under a probe.
    assert_eq!(
        found(&written("2ec3")),
        Err(ExitObstacle::OddReturn { at: ElfAddress(BASE) })
    );
}

#[test]
fn a_call_that_never_returns_leads_into_no_other_function() {
    // je +6; call +0x100; nop; (the next function:) ret. And far on: ret.
    let mut code = written("7406 e800010000 90 c3 cb");
    assert_eq!(found(&code), Ok(vec![8]), "nothing tells where the other begins");
    // The jump goes to 8: a ret of its own; the call is the last of its part.
    code.bytes = hex("7407 e800010000 9090 c3 cb");
    code.frames = [frame(0, 7, false), frame(9, 11, false)].into_iter().collect();
    assert_eq!(found(&code), Ok(vec![9]), "by the branch, not by the call");
    code.bytes = hex("7408 e800010000 909090 c3");
    code.frames = [frame(0, 7, false), frame(8, 11, false)].into_iter().collect();
    assert_eq!(found(&code), Ok(vec![10]));
}

#[test]
fn landing_pads_are_entries_too() {
    // call +0x100; ret; (the pad:) xor eax,eax; ret.
    let mut code = written("e800010000 c3 31c0 c3");
    code.frames = [frame(0, 9, true)].into_iter().collect();
    code.pads = vec![ElfAddress(BASE + 6)];
    assert_eq!(found(&code), Ok(vec![5, 8]));
    code.frames = [frame(0, 9, false)].into_iter().collect();
    assert_eq!(found(&code), Ok(vec![5]));
}

#[test]
fn a_function_without_end_is_too_large() {
    let mut code = written("");
    code.bytes = vec![0x90; 1 << 16];
    assert_eq!(found(&code), Err(ExitObstacle::TooLarge));
    // A hundred times: je +1; ret.
    code.bytes = hex("7401c3").repeat(100);
    code.bytes.push(0xc3);
    assert_eq!(found(&code), Err(ExitObstacle::TooLarge));
}

const TABLE: ElfAddress = ElfAddress(0x9000);
const FUNCTION: ElfAddress = ElfAddress(BASE);

#[test]
fn a_table_of_call_sites_tells_its_landing_pads() {
    // No start of its own, types after it, uleb128: (0,5,0,0), (5,0x90,0x123,1), (0x95,1,0x10,0).
    let table = hex("ff 9b 19 01 0d 0005 0000 05 9001 a302 01 9501 01 10 00");
    let mut short = table.clone();
    short[4] = 0x0d;
    assert_eq!(
        landing_pads(&short, TABLE, FUNCTION),
        Ok(vec![ElfAddress(BASE + 0x10), ElfAddress(BASE + 0x123)])
    );
    // A start of its own, relative to its place; udata4.
    let mut apart = hex("1b fb0f0000 ff 03 0d 00000000 05000000 07000000 00");
    assert_eq!(
        landing_pads(&apart, TABLE, FUNCTION),
        Ok(vec![ElfAddress(0x9001 + 0xffb + 7)])
    );
    // A longer table than there are bytes, and an encoding nobody uses.
    apart[7] = 0x7f;
    assert!(landing_pads(&apart, TABLE, FUNCTION).is_err());
    assert!(landing_pads(&hex("ff ff 3b 04 00000000"), TABLE, FUNCTION).is_err());
    assert!(landing_pads(&[], TABLE, FUNCTION).is_err());
}

#[test]
fn no_bytes_make_the_reading_of_a_table_fail_badly() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..40)
            .map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                (seed >> 56) as u8
            })
            .collect();
        let _ = landing_pads(&bytes, TABLE, FUNCTION);
        let mut code = written("");
        code.bytes = bytes;
        let _ = found(&code);
    }
}
