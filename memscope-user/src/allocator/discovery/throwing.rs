//! Functions that may end by an exception: a return probe takes the place of the return address, and none can pass it.
//!
//! The unwinder of the C++ runtime finds the kernel's trampoline where the caller should be, takes the stack for ended and
//! calls `terminate`: a `bad_alloc` that the program would have caught ends it. Such functions are probed at their exits
//! ([`crate::probe::exits`]), and exceptions are watched where the C++ runtime raises and catches them. An operator whose
//! exits are not known is left out if nobody in the process calls it; where somebody does, the preflight refuses unless told
//! otherwise.

use memscope_ebpf::call::{Argument, CallKind, CallResult, CallSpec};

use super::{AllocatorFound, Discovery, FoundFunction, LeftOut, UNNUMBERED};
use crate::allocator::catalogue::AllocatorName;
use crate::target::elf::{FunctionKind, SlotValue};
use crate::target::loaded::{Content, LoadedImage};

/// Whether a function of the catalogue reports failure by an exception: `operator new` and `new[]` in all forms but nothrow
/// (Itanium C++ ABI mangling), and what allocators call theirs.
fn is_throwing(name: &str) -> bool {
    const STARTS: [&str; 7] = [
        "_Znwm",
        "_Znam",
        "tc_new",
        "TCMallocInternalNew",
        "tcmalloc_size_returning_operator_new",
        "mi_new",
        "mi_heap_alloc_new",
    ];
    let says_no = name.contains("nothrow") || name.contains("Nothrow");
    !says_no && STARTS.iter().any(|start| name.starts_with(start))
}

/// Where an exception is made, raised, raised again, and caught: libsupc++ and libc++abi, libgcc and libunwind.
const PASSED_BY_EXCEPTIONS: [&str; 6] = [
    "__cxa_allocate_exception",
    "__cxa_begin_catch",
    "_Unwind_RaiseException",
    "_Unwind_Resume_or_Rethrow",
    "_Unwind_ForcedUnwind",
    "_Unwind_SjLj_RaiseException",
];

/// Which functions may throw.
pub struct MayThrow {
    /// By image: whether its code throws, catches or lets exceptions pass.
    images: Vec<bool>,
}

impl MayThrow {
    /// Looks at the images.
    #[must_use]
    pub fn of(images: &[LoadedImage]) -> Self {
        let uses = |image: &LoadedImage| image.content.as_ref().is_ok_and(uses_exceptions);
        Self {
            images: images.iter().map(uses).collect(),
        }
    }

    /// Whether this function may: by its name if the catalogue knows it, since an allocator's C functions do not. What is
    /// named by hand may if it is C++ or Rust, by its name or by what else its image does.
    #[must_use]
    pub fn is_so_of(&self, discovery: &Discovery, function: &FoundFunction) -> bool {
        if !matches!(function.call.kind, CallKind::Alloc | CallKind::Realloc) {
            return false;
        }
        let by_hand = discovery
            .found
            .iter()
            .any(|found| found.name == AllocatorName::Custom && found.functions.contains(function));
        if by_hand {
            let is_mangled = ["_Z", "_R"].iter().any(|start| function.name.starts_with(start));
            return is_mangled || self.images.get(function.module).copied().unwrap_or(true);
        }
        std::iter::once(&function.name)
            .chain(&function.aliases)
            .any(|name| is_throwing(name))
    }
}

/// Whether the code of an image has to do with exceptions: it asks the loader for a function of the C++ runtime or for the
/// unwinder, or has the C++ or Rust runtime linked in. (The unwinder alone is in every static C program.)
fn uses_exceptions(content: &Content) -> bool {
    const ASKED_FOR: [&str; 5] = [
        "__cxa_throw",
        "__cxa_begin_catch",
        "__gxx_personality_v0",
        "_Unwind_Resume",
        "_Unwind_RaiseException",
    ];
    const LINKED_IN: [&str; 4] = [
        "__cxa_throw",
        "__cxa_begin_catch",
        "__gxx_personality_v0",
        "rust_eh_personality",
    ];
    let mut uses = false;
    let read = content.image.visit_slots(&mut |slot| {
        uses |= matches!(slot.value, SlotValue::Named(name) if ASKED_FOR.contains(&name));
    });
    if !uses && read.is_ok() {
        let _unreadable = content
            .image
            .visit_functions(&mut |function| uses |= LINKED_IN.contains(&function.name));
    }
    uses || read.is_err()
}

impl Discovery {
    /// Leaves throwing operators that would be in danger out where nobody in the process can be calling them. Whether any
    /// was.
    pub fn leave_uncalled_operators_out(
        &mut self,
        images: &[LoadedImage],
        in_danger: impl Fn(&FoundFunction) -> bool,
    ) -> bool {
        let is_operator = |function: &FoundFunction| {
            std::iter::once(&function.name)
                .chain(&function.aliases)
                .any(|name| is_throwing(name))
        };
        let left = |function: &FoundFunction| is_operator(function) && in_danger(function);
        let owners: Vec<usize> = self
            .functions()
            .filter(|function| left(function))
            .map(|function| function.module)
            .collect();
        if owners.is_empty()
            || images
                .iter()
                .enumerate()
                .any(|(index, image)| calls_operators(image, owners.contains(&index)))
        {
            return false;
        }
        let mut any = false;
        for allocator in &mut self.found {
            let of_catalogue = allocator.name != AllocatorName::Custom;
            let (left_out, kept) = allocator
                .functions
                .drain(..)
                .partition::<Vec<_>, _>(|function| of_catalogue && left(function));
            allocator.functions = kept;
            any |= !left_out.is_empty();
            let reason = "throws, its exits are not known, and nobody in the process calls it";
            allocator
                .left_out
                .extend(left_out.iter().map(|function| LeftOut::new(&function.name, reason)));
        }
        self.number();
        any
    }

    /// Adds the functions of the C++ runtime that exceptions pass.
    pub fn watch_exceptions(&mut self, images: &[LoadedImage]) {
        for (module, image) in images.iter().enumerate() {
            let Ok(content) = &image.content else { continue };
            let mut functions: Vec<FoundFunction> = Vec::new();
            // What cannot be read is said by the discovery itself.
            let _unreadable = content.image.visit_functions(&mut |function| {
                let is_wanted = function.kind == FunctionKind::Direct && PASSED_BY_EXCEPTIONS.contains(&function.name);
                if !is_wanted || functions.iter().any(|known| known.address == function.address) {
                    return;
                }
                let segments = content.image.segments();
                let executable = segments
                    .holding(function.address)
                    .is_some_and(|segment| segment.executable);
                if let Some(offset) = segments.to_offset(function.address).filter(|_| executable) {
                    functions.push(FoundFunction {
                        call: passed_by_exceptions(),
                        name: function.name.to_owned(),
                        aliases: Vec::new(),
                        module,
                        address: function.address,
                        offset,
                        size: function.size,
                    });
                }
            });
            if !functions.is_empty() {
                functions.sort_by_key(|function| function.address);
                self.found.push(AllocatorFound {
                    name: AllocatorName::Exceptions,
                    module,
                    functions,
                    left_out: Vec::new(),
                    notes: Vec::new(),
                });
            }
        }
        self.number();
    }
}

fn passed_by_exceptions() -> CallSpec {
    CallSpec {
        kind: CallKind::Exception,
        size: None,
        count: None,
        pointer: None::<Argument>,
        result: CallResult::Nothing,
        zero_size_frees: false,
        failure_frees: false,
        flags: None,
        by_exits: false,
        rounds: false,
        stepped: false,
        index: UNNUMBERED,
    }
}

/// Whether an image asks the loader for a throwing operator; a program that brings its own calls it directly.
fn calls_operators(image: &LoadedImage, brings_them: bool) -> bool {
    let Ok(content) = &image.content else { return false };
    if brings_them {
        return content.image.has_interpreter() || content.image.soname().is_none();
    }
    // The C++ runtime itself asks for them, in every process it is loaded into.
    if content
        .image
        .soname()
        .is_some_and(|name| name.starts_with("libstdc++") || name.starts_with("libc++"))
    {
        return false;
    }
    let mut calls = false;
    // A relocation table that cannot be read may hold anything.
    let read = content.image.visit_slots(&mut |slot| {
        calls |= matches!(slot.value, SlotValue::Named(name) if is_throwing(name));
    });
    calls || read.is_err()
}

#[cfg(test)]
mod tests {
    use super::is_throwing;

    #[test]
    fn plain_and_aligned_operators_throw_and_nothrow_ones_do_not() {
        for name in [
            "_Znwm",
            "_ZnamSt11align_val_t",
            "tc_newarray",
            "mi_new_aligned",
            "mi_heap_alloc_new_n",
            "TCMallocInternalNewAligned",
            "_Znwm12__hot_cold_t",
        ] {
            assert!(is_throwing(name), "{name}");
        }
        for name in [
            "_ZnwmRKSt9nothrow_t",
            "TCMallocInternalNewArrayNothrow",
            "tc_new_nothrow",
            "mi_new_nothrow",
            "malloc",
            "_ZdlPv",
        ] {
            assert!(!is_throwing(name), "{name}");
        }
    }
}
