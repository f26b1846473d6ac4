//! Whose functions an image's definitions are: which allocators it implements, and which tables belong to each.

use super::definitions::{Definitions, GLIBC_MARKS, MUSL_MARKS, RUST_DEFAULT};
use crate::allocator::catalogue::{AllocatorName, C, Entry, JEMALLOC, MIMALLOC, OPERATORS, REGIONS, RUST, TCMALLOC};

/// One allocator of an image with the functions it may define.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) name: AllocatorName,
    pub(super) tables: Vec<Table>,
}

/// A table of the catalogue, its names preceded by a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) prefix: String,
    pub(super) entries: &'static [Entry],
}

impl Table {
    fn plain(entries: &'static [Entry]) -> Self {
        let prefix = String::new();
        Self { prefix, entries }
    }
}

impl Owner {
    fn new(name: AllocatorName, entries: &'static [Entry]) -> Self {
        let mut owner = Self {
            name,
            tables: Vec::new(),
        };
        owner.show_first(entries);
        owner
    }

    /// Adds a table whose names are shown rather than those of the tables it already has.
    fn show_first(&mut self, entries: &'static [Entry]) {
        self.insert(0, entries);
    }

    /// The same, but for C's names.
    fn show_after_c(&mut self, entries: &'static [Entry]) {
        let c = Table::plain(C);
        self.insert(usize::from(self.tables.first() == Some(&c)), entries);
    }

    fn insert(&mut self, at: usize, entries: &'static [Entry]) {
        self.tables.insert(at, Table::plain(entries));
    }
}

/// The allocators an image implements, its own `malloc`'s first. Every function name belongs to at most one of them.
pub(super) fn owners(defined: &Definitions, soname: Option<&str>) -> Vec<Owner> {
    let mut owners = Vec::new();
    for prefix in &defined.jemalloc_prefixes {
        let tables = [C, JEMALLOC].into_iter().map(|entries| Table {
            prefix: prefix.clone(),
            entries,
        });
        owners.push(Owner {
            name: AllocatorName::Jemalloc { prefix: prefix.clone() },
            tables: tables.collect(),
        });
    }
    if defined.has("tc_malloc") || defined.has("TCMallocInternalMalloc") {
        owners.push(Owner::new(AllocatorName::Tcmalloc, TCMALLOC));
    }
    // A linked-in one has only those functions left that its program uses (mi_malloc_aligned in Rust's).
    if defined.has("mi_free") {
        owners.push(Owner::new(AllocatorName::Mimalloc, MIMALLOC));
    }
    give_c_names(&mut owners, defined, soname);
    // libstdc++'s and libc++'s operators call malloc; an allocator's own may not (jemalloc 5.3 has malloc inlined there).
    if let Some(owner) = owners.iter_mut().find(|owner| !owner.name.is_libc()) {
        owner.show_after_c(OPERATORS);
    }
    // With its default allocator, or one that is found in the same image, Rust's functions end in functions probed.
    let reached = defined.has(RUST_DEFAULT) || owners.iter().any(|owner| !owner.name.is_libc());
    if defined.has("__rust_alloc") && defined.has("__rust_dealloc") && !reached {
        owners.push(Owner::new(AllocatorName::RustGlobal, RUST));
    }
    owners
}

/// mmap and its kin, where a C library, or what stands in for it, defines them.
pub(super) fn of_regions(defined: &Definitions) -> Option<Owner> {
    (defined.has("mmap") && defined.has("munmap")).then(|| Owner::new(AllocatorName::Regions, REGIONS))
}

/// Decides who the plain C names belong to. One statically linked image may hold the C library's `malloc` and another
/// allocator beside it under names of its own.
fn give_c_names(owners: &mut Vec<Owner>, defined: &Definitions, soname: Option<&str>) {
    if !(defined.has("malloc") && defined.has("free")) || defined.jemalloc_prefixes.iter().any(String::is_empty) {
        return;
    }
    let marked = |marks: &[&str]| marks.iter().any(|mark| defined.has(mark));
    let glibc = soname == Some("libc.so.6") || marked(GLIBC_MARKS);
    let musl = soname.is_some_and(|name| name.starts_with("libc.musl-")) || marked(MUSL_MARKS);
    let shares_malloc = |name: &AllocatorName| {
        let own: &[&str] = match name {
            AllocatorName::Tcmalloc => &["tc_malloc", "TCMallocInternalMalloc"],
            AllocatorName::Mimalloc => &["mi_malloc"],
            _ => &[],
        };
        let own = own.iter().flat_map(|name| defined.named(name));
        own.flat_map(|own| defined.named("malloc").map(move |malloc| malloc.address == own.address))
            .any(|same| same)
    };
    let replaced = owners.iter().position(|owner| shares_malloc(&owner.name));
    let replaced = replaced.or_else(|| {
        let replaces = |owner: &Owner| matches!(owner.name, AllocatorName::Tcmalloc | AllocatorName::Mimalloc);
        owners.iter().position(replaces).filter(|_| !glibc && !musl)
    });
    if let Some(owner) = replaced.and_then(|index| owners.get_mut(index)) {
        owner.show_first(C);
        return;
    }
    let name = match (glibc, musl) {
        (true, _) => AllocatorName::Glibc,
        (false, true) => AllocatorName::Musl,
        (false, false) => AllocatorName::Other,
    };
    owners.insert(0, Owner::new(name, C));
}
