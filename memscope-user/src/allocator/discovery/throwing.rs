//! C++ operators that throw: a return probe takes the place of the return address, and an exception cannot pass it.
//!
//! The unwinder of the C++ runtime finds the kernel's trampoline where the caller should be, takes the stack for ended and
//! calls `terminate`: a `bad_alloc` that the program would have caught ends it. Operators that nobody in the process calls
//! are left out; where somebody does, the preflight refuses unless told otherwise.

use super::{Discovery, FoundFunction, LeftOut};
use crate::target::elf::SlotValue;
use crate::target::loaded::LoadedImage;

/// Whether the function reports failure by an exception.
#[must_use]
pub fn throws(function: &FoundFunction) -> bool {
    std::iter::once(&function.name)
        .chain(&function.aliases)
        .any(|name| is_throwing(name))
}

/// `operator new` and `new[]`, plain and aligned (Itanium C++ ABI mangling), and what allocators call theirs.
fn is_throwing(name: &str) -> bool {
    const OPERATORS: [&str; 4] = ["_Znwm", "_Znam", "_ZnwmSt11align_val_t", "_ZnamSt11align_val_t"];
    const STARTS: [&str; 2] = ["tc_new", "mi_new"];
    OPERATORS.contains(&name)
        || STARTS
            .iter()
            .any(|start| name.starts_with(start) && !name.contains("nothrow"))
}

impl Discovery {
    /// Leaves throwing operators out where nobody in the process can be calling them.
    pub fn leave_uncalled_operators_out(&mut self, images: &[LoadedImage]) {
        let owners: Vec<usize> = self
            .functions()
            .filter(|function| throws(function))
            .map(|function| function.module)
            .collect();
        if owners.is_empty()
            || images
                .iter()
                .enumerate()
                .any(|(index, image)| calls_operators(image, owners.contains(&index)))
        {
            return;
        }
        for allocator in &mut self.found {
            let (left_out, kept) = allocator.functions.drain(..).partition::<Vec<_>, _>(throws);
            allocator.functions = kept;
            let reason = "throws, and nobody in the process calls it: an exception cannot pass a return probe";
            allocator
                .left_out
                .extend(left_out.iter().map(|function| LeftOut::new(&function.name, reason)));
        }
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
        for name in ["_Znwm", "_ZnamSt11align_val_t", "tc_newarray", "mi_new_aligned"] {
            assert!(is_throwing(name), "{name}");
        }
        for name in [
            "_ZnwmRKSt9nothrow_t",
            "tc_new_nothrow",
            "mi_new_nothrow",
            "malloc",
            "_ZdlPv",
        ] {
            assert!(!is_throwing(name), "{name}");
        }
    }
}
