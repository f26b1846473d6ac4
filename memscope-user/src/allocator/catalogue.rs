//! The known allocators: which functions they define and what each does, as data.
//!
//! Sources: the manual pages and headers of each allocator (malloc(3), posix_memalign(3), jemalloc(3), gperftools'
//! `tcmalloc.h`, google/tcmalloc's `libc_override_gcc_and_weak.h`, mimalloc's `mimalloc.h`), the Itanium C++ ABI for
//! the operators' names, rustc's `rustc_ast::expand::allocator` for Rust's.
//!
//! Absent on purpose: `malloc_usable_size`, `nallocx` and their like change nothing; functions that give back whole
//! heaps at once (`mi_heap_destroy`, jemalloc's `arena.i.reset`) name no block; `strdup` and its like of a C library
//! call `malloc`; `reallocarr` hands its block over through memory that no row can describe, but calls `reallocarray`.

mod functions;

use std::fmt;

use memscope_ebpf::call::{Argument, CallIndex, CallKind, CallResult, CallSpec};

pub use functions::{C, JEMALLOC, MIMALLOC, OPERATORS, REGIONS, RUST, TCMALLOC};

/// A family of allocation functions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AllocatorName {
    /// The GNU C library's.
    Glibc,
    /// musl's, old and new.
    Musl,
    /// jemalloc, with the prefix its functions were given (`je_`, `_rjem_`; empty: none).
    Jemalloc {
        /// Before every function's name.
        prefix: String,
    },
    /// gperftools' or Google's.
    Tcmalloc,
    /// Microsoft's mimalloc, overriding `malloc` or not.
    Mimalloc,
    /// Defines `malloc` and `free` and is none of the above.
    Other,
    /// A Rust program's `#[global_allocator]` that is none of the above.
    RustGlobal,
    /// No allocator: mmap and its kin (`--regions`).
    Regions,
    /// No allocator: what exceptions pass in the C++ runtime, watched where an allocator's functions throw.
    Exceptions,
    /// Functions the user named (`--alloc`, `--free`, `--realloc`, `--allocators`).
    Custom,
}

impl fmt::Display for AllocatorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Glibc => f.write_str("glibc"),
            Self::Musl => f.write_str("musl"),
            Self::Jemalloc { prefix } if prefix.is_empty() => f.write_str("jemalloc"),
            Self::Jemalloc { prefix } => write!(f, "jemalloc (functions named {prefix}…)"),
            Self::Tcmalloc => f.write_str("tcmalloc"),
            Self::Mimalloc => f.write_str("mimalloc"),
            Self::Other => f.write_str("an unknown allocator that defines malloc and free"),
            Self::RustGlobal => f.write_str("a Rust global allocator"),
            Self::Regions => f.write_str("mmap and its kin"),
            Self::Exceptions => f.write_str("the passage of exceptions"),
            Self::Custom => f.write_str("functions named by hand"),
        }
    }
}

impl AllocatorName {
    /// Whether `realloc(p, 0)` frees `p` and returns NULL. Where it can be set (jemalloc's `opt.zero_realloc`) the rule
    /// of the default holds for the other settings too: they return no NULL.
    ///
    /// glibc: malloc/malloc.c `__libc_realloc`, `REALLOC_ZERO_BYTES_FREES`. jemalloc: `opt_zero_realloc`, "free" on
    /// Linux. tcmalloc: `do_realloc_with_callback`, `do_realloc`. musl and mimalloc return a block of their smallest
    /// size, so NULL says that they failed. An unknown allocator that returns NULL most likely freed, as C11 allows.
    #[must_use]
    pub fn zero_size_frees(&self) -> bool {
        match self {
            Self::Glibc | Self::Jemalloc { .. } | Self::Tcmalloc | Self::Other | Self::Custom => true,
            Self::Musl | Self::Mimalloc | Self::RustGlobal | Self::Regions | Self::Exceptions => false,
        }
    }

    /// Whether this is the allocator of a C library, whose C++ operators (libstdc++'s, libc++'s) call `malloc`.
    #[must_use]
    pub fn is_libc(&self) -> bool {
        matches!(self, Self::Glibc | Self::Musl)
    }
}

/// What a function of the catalogue does; a [`CallSpec`] that does not yet know whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    /// What it does to the live set.
    pub kind: CallKind,
    /// Position of the size in bytes.
    pub size: Option<Argument>,
    /// Position of the number of elements.
    pub count: Option<Argument>,
    /// Position of the block that may end.
    pub pointer: Option<Argument>,
    /// How the new block comes back.
    pub result: CallResult,
    /// A call that fails has freed its old block all the same.
    pub failure_frees: bool,
    /// Position of mremap's flags.
    pub flags: Option<Argument>,
    /// Rounds the size up before it hands over to another function: the block is still as large as it was asked for.
    pub rounds: bool,
}

impl Role {
    /// The row for the probe.
    #[must_use]
    pub const fn to_spec(self, zero_size_frees: bool, index: CallIndex) -> CallSpec {
        CallSpec {
            kind: self.kind,
            size: self.size,
            count: self.count,
            pointer: self.pointer,
            result: self.result,
            zero_size_frees: zero_size_frees && matches!(self.kind, CallKind::Realloc),
            failure_frees: self.failure_frees,
            flags: self.flags,
            by_exits: false,
            rounds: self.rounds,
            stepped: false,
            index,
        }
    }

    /// Whether both do the same with the same arguments; code that is one function does not round under one name only.
    #[must_use]
    pub fn is_same_as(self, other: Self) -> bool {
        Self {
            rounds: other.rounds,
            ..self
        } == other
    }

    /// Whether a block may end in the call.
    #[must_use]
    pub const fn may_free(self) -> bool {
        matches!(self.kind, CallKind::Free | CallKind::Realloc)
    }

    /// Whether a block may be born in the call.
    #[must_use]
    pub const fn may_allocate(self) -> bool {
        matches!(self.kind, CallKind::Alloc | CallKind::Realloc)
    }
}

/// One function: its name (less the allocator's prefix) and its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Linker name.
    pub name: &'static str,
    /// What it does.
    pub role: Role,
}

#[cfg(test)]
mod tests;
