//! Proof on live stacks: this process's own, walked through the pruned tables and by framehop over full call frame
//! information, through code without frame pointers: libc, Rust's libraries, threads.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::{c_int, c_void};
use std::sync::Arc;

use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, Module, Unwinder as _};
use memscope_ebpf::site::StackEnd;
use memscope_ebpf::unwind::walk::Registers;
use object::{Object as _, ObjectSection as _};

use super::replay::{ReplayTables, ReplayedStack};
use super::session::{CodeMapping, CodeSource, Layout};
use super::table::table_for_elf;
use crate::target::mapping::{Mapping, parse_maps};

/// Registers after a call, as an allocator's return would show them.
#[inline(always)]
fn registers_here() -> Registers {
    let (ip, sp, bp): (u64, u64, u64);
    // SAFETY: a call to the next instruction and a pop leave the stack as it was; the compiler knows that the stack is used.
    unsafe {
        std::arch::asm!(
            "call 2f",
            "2:",
            "pop {ip}",
            "mov {sp}, rsp",
            "mov {bp}, rbp",
            ip = out(reg) ip, sp = out(reg) sp, bp = out(reg) bp,
        );
    }
    Registers { ip, sp, bp }
}

struct Reference {
    tables: ReplayTables,
    unwinder: UnwinderX86_64<Vec<u8>>,
    maps: Vec<Mapping>,
}

impl Reference {
    fn of_this_process() -> Self {
        let maps = parse_maps(&std::fs::read("/proc/self/maps").unwrap());
        let files: Vec<&Mapping> = maps.iter().filter(|m| m.executable && m.file().is_some()).collect();
        let code: Vec<CodeMapping> = files
            .iter()
            .map(|mapping| CodeMapping {
                start: mapping.start,
                end: mapping.end,
                offset: mapping.offset,
                source: CodeSource::Image(mapping.path.to_string_lossy().into_owned()),
            })
            .collect();
        let refresh = Layout::new(1 << 20, 1 << 20).refresh(&code, &BTreeSet::new(), |path| {
            Some(Arc::new(table_for_elf(&std::fs::read(path).unwrap()).unwrap()))
        });
        let mut unwinder = UnwinderX86_64::new();
        for (mapping, entry) in files.iter().zip(&code) {
            let bytes = std::fs::read(&mapping.path).unwrap();
            let bias = table_for_elf(&bytes)
                .unwrap()
                .load_bias(entry.start, entry.offset)
                .unwrap();
            let file = object::File::parse(&*bytes).unwrap();
            let section = |name: &str| {
                file.section_by_name(name).map(|section| {
                    let range = section.address()..section.address() + section.size();
                    (range, section.data().unwrap().to_vec())
                })
            };
            let (text, eh_frame, eh_frame_hdr) = (section(".text"), section(".eh_frame"), section(".eh_frame_hdr"));
            unwinder.add_module(Module::new(
                mapping.path.to_string_lossy().into_owned(),
                mapping.start.0..mapping.end.0,
                bias,
                ExplicitModuleSectionInfo {
                    base_svma: 0,
                    text_svma: text.as_ref().map(|(range, _)| range.clone()),
                    text: text.map(|(_, data)| data),
                    eh_frame_svma: eh_frame.as_ref().map(|(range, _)| range.clone()),
                    eh_frame: eh_frame.map(|(_, data)| data),
                    eh_frame_hdr_svma: eh_frame_hdr.as_ref().map(|(range, _)| range.clone()),
                    eh_frame_hdr: eh_frame_hdr.map(|(_, data)| data),
                    ..ExplicitModuleSectionInfo::default()
                },
            ));
        }
        Self {
            tables: ReplayTables::new(refresh),
            unwinder,
            maps,
        }
    }

    /// The stack of the caller by both unwinders, from the same registers and the same recorded memory.
    fn compare(&self, registers: Registers) -> ReplayedStack {
        let fresh = parse_maps(&std::fs::read("/proc/self/maps").unwrap());
        let inside = |mapping: &&Mapping| (mapping.start.0..mapping.end.0).contains(&registers.sp);
        let stack = fresh.iter().find(inside).unwrap();
        let words = (stack.end.0 - registers.sp) / 8;
        // SAFETY: from rsp to the end of its mapping, stack memory of this thread, which is not written meanwhile.
        let image = unsafe { std::slice::from_raw_parts(registers.sp as *const u64, words as usize) }.to_vec();
        let read = |address: u64| {
            let offset = address.checked_sub(registers.sp).filter(|offset| offset % 8 == 0)?;
            image.get((offset / 8) as usize).copied()
        };
        let got = self.tables.walk(registers, read);

        let mut cache = CacheX86_64::new();
        let mut read_stack = |address| read(address).ok_or(());
        let mut frames = self.unwinder.iter_frames(
            registers.ip,
            UnwindRegsX86_64::new(registers.ip, registers.sp, registers.bp),
            &mut cache,
            &mut read_stack,
        );
        let mut want = Vec::new();
        while let Some(frame) = frames.next().unwrap() {
            want.push(frame.address());
        }
        let named: Vec<String> = got.frames.iter().map(|address| self.module_of(*address)).collect();
        assert_eq!(got.frames, want, "{named:?}");
        got
    }

    fn module_of(&self, address: u64) -> String {
        let inside = |mapping: &&Mapping| (mapping.start.0..mapping.end.0).contains(&address);
        self.maps
            .iter()
            .find(inside)
            .map_or_else(String::new, Mapping::module_name)
    }

    fn modules(&self, stack: &ReplayedStack) -> Vec<String> {
        let mut modules: Vec<String> = stack.frames.iter().map(|address| self.module_of(*address)).collect();
        modules.dedup();
        modules
    }
}

thread_local! {
    static SEEN: RefCell<Vec<ReplayedStack>> = const { RefCell::new(Vec::new()) };
    static REFERENCE: RefCell<Option<Arc<Reference>>> = const { RefCell::new(None) };
}

#[inline(never)]
fn compare_here() {
    let reference = REFERENCE.with_borrow(|reference| reference.clone().unwrap());
    let stack = reference.compare(registers_here());
    SEEN.with_borrow_mut(|seen| seen.push(stack));
}

#[inline(never)]
fn recurse(depth: u32) -> u32 {
    let space = std::hint::black_box([depth; 37]);
    if depth == 0 {
        compare_here();
        return space[3];
    }
    recurse(depth - 1) + std::hint::black_box(space)[5]
}

unsafe extern "C" {
    fn qsort(base: *mut c_void, count: usize, size: usize, compare: extern "C" fn(*const u32, *const u32) -> c_int);
}

extern "C" fn by_value(a: *const u32, b: *const u32) -> c_int {
    recurse(3);
    // SAFETY: qsort passes pointers into the array it was given.
    unsafe { (*a).cmp(&*b) as c_int }
}

#[test]
fn this_process_s_stacks_are_framehop_s() {
    let reference = Arc::new(Reference::of_this_process());
    let shared = Arc::clone(&reference);
    let seen = std::thread::spawn(move || {
        REFERENCE.with_borrow_mut(|slot| *slot = Some(shared));
        recurse(0);
        recurse(60);
        let mut numbers = [3u32, 1, 2];
        // SAFETY: the array has three elements of four bytes.
        unsafe { qsort(numbers.as_mut_ptr().cast(), 3, 4, by_value) };
        let mut rust = [5, 4, 3, 2, 1];
        rust.sort_by(|a, b| {
            recurse(2);
            a.cmp(b)
        });
        let caught = std::panic::catch_unwind(|| recurse(7));
        assert!(caught.is_ok() && rust[0] == 1 && numbers == [1, 2, 3]);
        SEEN.take()
    });
    let seen = seen.join().unwrap();
    assert!(seen.len() > 8);
    for stack in &seen {
        assert_eq!((stack.end, stack.flags), (StackEnd::Outermost, 0), "{stack:x?}");
        let modules = reference.modules(stack);
        assert!(
            modules.last().is_some_and(|module| module.contains("libc")),
            "{modules:?}"
        );
    }
    assert!(seen.iter().any(|stack| stack.frames.len() > 60));
    assert!(
        seen.iter().any(|stack| reference.modules(stack).len() >= 4),
        "through qsort and back"
    );
}
