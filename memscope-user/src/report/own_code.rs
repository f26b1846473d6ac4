//! Which frame of a stack is the program's own: the one to look at first.

use super::model::{Frame, Stack};

/// Libraries that every program has, by the start of their file name.
const RUNTIME_LIBRARIES: [&str; 16] = [
    "libc.so",
    "libc-",
    "libc.musl",
    "ld-",
    "libstdc++",
    "libc++",
    "libgcc_s",
    "libm.so",
    "libpthread",
    "libjemalloc",
    "libtcmalloc",
    "libmimalloc",
    "libasan",
    "libhoard",
    "librpmalloc",
    "[vdso]",
];

/// Functions of a language's own library, by the start of their name: they allocate for whoever calls them.
const RUNTIME_FUNCTIONS: [&str; 22] = [
    "malloc",
    "calloc",
    "realloc",
    "operator new",
    "std::",
    "__gnu_cxx::",
    "void std::",
    "alloc::",
    "core::",
    "<alloc::",
    "<core::",
    "<std::",
    "hashbrown::",
    "<hashbrown::",
    "__rust_alloc",
    "__rustc",
    "__rdl_alloc",
    "__rg_alloc",
    "_rjem_",
    "je_",
    "tc_",
    "mi_",
];

/// Position of the first frame of the program's own code: the innermost after the allocator function that is neither in a
/// library every program has nor a function of a language's own library. Without one, the caller of the allocator.
/// `None` for a stack without frames.
#[must_use]
pub fn own_frame(stack: &Stack) -> Option<usize> {
    let count = stack.frames.len();
    let own = (1..count).find(|index| is_own(&stack.frames[*index]));
    own.or_else(|| count.checked_sub(1).map(|last| last.min(1)))
}

fn is_own(frame: &Frame) -> bool {
    !RUNTIME_LIBRARIES
        .iter()
        .any(|library| frame.module.starts_with(library))
        && !frame
            .function
            .as_deref()
            .is_some_and(|function| RUNTIME_FUNCTIONS.iter().any(|start| function.starts_with(start)))
}

/// A frame in a line, a group or another tool's file: its function, else module and offset as the text report has them.
#[must_use]
pub fn frame_name(frame: &Frame) -> String {
    match (&frame.function, frame.module.trim_matches(['[', ']'])) {
        (Some(function), _) => function.clone(),
        (None, "") => format!("[unknown] + {:#x}", frame.offset),
        (None, module) => format!("[{module}] + {:#x}", frame.offset),
    }
}

/// The name of a stack's own frame; `[no stack]` without frames.
#[must_use]
pub fn own_name(stack: &Stack) -> String {
    own_frame(stack).map_or_else(|| "[no stack]".to_owned(), |index| frame_name(&stack.frames[index]))
}

/// A stack in one line: its own frame and the callers after it, three at most (`take < serve < main`): a wrapper around
/// the allocator would be the same in every stack.
#[must_use]
pub fn own_path(stack: &Stack) -> String {
    let Some(own) = own_frame(stack) else {
        return own_name(stack);
    };
    let frames = stack.frames[own..].iter().filter(|frame| is_own(frame)).take(3);
    let names: Vec<String> = frames.map(|frame| frame_name(frame)).collect();
    if names.is_empty() {
        own_name(stack)
    } else {
        names.join(" < ")
    }
}

#[cfg(test)]
mod tests {
    use memscope_ebpf::site::StackEnd;

    use super::*;
    use crate::report::samples::{frame, site_stack, stack};

    #[test]
    fn the_first_frame_outside_every_runtime_is_the_programs_own() {
        assert_eq!(own_frame(&site_stack("servGetMem")), Some(1));
        let library = |function: &str| Frame {
            module: "libstdc++.so.6".into(),
            ..frame(1, function, 0)
        };
        let frames = vec![
            library("malloc"),
            library("operator new(unsigned long)"),
            frame(2, "std::vector<int>::push_back(int&&)", 4),
            frame(3, "Session::open()", 8),
        ];
        let whole = stack(frames, StackEnd::Outermost);
        assert_eq!(own_frame(&whole), Some(3));
        assert_eq!(own_path(&whole), "Session::open()");
        assert_eq!(own_path(&site_stack("servGetMem")), "servGetMem < main");
    }

    #[test]
    fn a_stack_of_libraries_alone_is_told_by_the_caller() {
        let frames = vec![frame(1, "malloc", 0), frame(2, "std::thread::run()", 0)];
        assert_eq!(own_frame(&stack(frames, StackEnd::NoTable)), Some(1));
        assert_eq!(
            own_frame(&stack(vec![frame(1, "malloc", 0)], StackEnd::NoTable)),
            Some(0)
        );
        assert_eq!(own_name(&stack(Vec::new(), StackEnd::NotRecorded)), "[no stack]");
        assert_eq!(own_path(&stack(Vec::new(), StackEnd::NotRecorded)), "[no stack]");
    }
}
