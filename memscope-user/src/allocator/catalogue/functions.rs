//! The catalogue's rows: one table an interface, the name a report should show before its aliases.

use memscope_ebpf::call::{Argument, CallKind, CallResult};

use super::{Entry, Role};

const fn at(position: u8) -> Option<Argument> {
    Argument::new(position)
}

const fn row(name: &'static str, kind: CallKind, count: Option<Argument>, size: Option<Argument>) -> Entry {
    Entry {
        name,
        role: Role {
            kind,
            size,
            count,
            pointer: None,
            result: CallResult::Returned,
            failure_frees: false,
            flags: None,
            rounds: false,
        },
    }
}

/// Takes the size at `size`, returns the block.
const fn alloc(name: &'static str, size: u8) -> Entry {
    row(name, CallKind::Alloc, None, at(size))
}

/// As [`alloc`], in whole pages. tcmalloc's and mimalloc's end in a jump to their `memalign`, with the size rounded up.
const fn pages(name: &'static str, size: u8) -> Entry {
    let mut entry = alloc(name, size);
    entry.role.rounds = true;
    entry
}

/// Takes count and size, returns the block.
const fn array(name: &'static str, count: u8, size: u8) -> Entry {
    row(name, CallKind::Alloc, at(count), at(size))
}

/// Is not told the size (`mi_strdup`), returns the block.
const fn copy(name: &'static str) -> Entry {
    row(name, CallKind::Alloc, None, None)
}

/// Takes the size at `size`, stores the block through its first argument and returns 0.
const fn stored(name: &'static str, size: u8) -> Entry {
    let mut entry = alloc(name, size);
    if let Some(first) = at(0) {
        entry.role.result = CallResult::Stored(first);
    }
    entry
}

/// Ends the block at the first argument.
const fn free(name: &'static str) -> Entry {
    let mut entry = row(name, CallKind::Free, None, None);
    entry.role.pointer = at(0);
    entry.role.result = CallResult::Nothing;
    entry
}

/// Takes the old block at `pointer` and the new size at `size`, returns the new block.
const fn realloc(name: &'static str, pointer: u8, size: u8) -> Entry {
    let mut entry = row(name, CallKind::Realloc, None, at(size));
    entry.role.pointer = at(pointer);
    entry
}

/// As [`realloc`], but frees the old block when it fails.
const fn realloc_or_free(name: &'static str, pointer: u8, size: u8) -> Entry {
    let mut entry = realloc(name, pointer, size);
    entry.role.failure_frees = true;
    entry
}

/// As [`realloc`], with a count.
const fn realloc_array(name: &'static str, pointer: u8, count: u8, size: u8) -> Entry {
    let mut entry = row(name, CallKind::Realloc, at(count), at(size));
    entry.role.pointer = at(pointer);
    entry
}

/// Resizes the block at the first argument in place to the second, returns its real size.
const fn resize(name: &'static str) -> Entry {
    let mut entry = row(name, CallKind::ResizeInPlace, None, at(1));
    entry.role.pointer = at(0);
    entry.role.result = CallResult::Nothing;
    entry
}

/// The C library's interface, which every allocator that replaces it defines.
pub const C: &[Entry] = &[
    alloc("malloc", 0),
    free("free"),
    array("calloc", 0, 1),
    realloc("realloc", 0, 1),
    realloc_array("reallocarray", 0, 1, 2),
    stored("posix_memalign", 2),
    alloc("aligned_alloc", 1),
    alloc("memalign", 1),
    alloc("valloc", 0),
    pages("pvalloc", 0),
    free("cfree"),
    // C23.
    free("free_sized"),
    free("free_aligned_sized"),
    // BSD's.
    realloc_or_free("reallocf", 0, 1),
    // glibc's second names, which replacements define as well.
    alloc("__libc_malloc", 0),
    free("__libc_free"),
    array("__libc_calloc", 0, 1),
    realloc("__libc_realloc", 0, 1),
    realloc_array("__libc_reallocarray", 0, 1, 2),
    stored("__posix_memalign", 2),
    alloc("__libc_memalign", 1),
    alloc("__libc_valloc", 0),
    pages("__libc_pvalloc", 0),
    free("__libc_cfree"),
];

/// jemalloc's own interface.
pub const JEMALLOC: &[Entry] = &[
    alloc("mallocx", 0),
    realloc("rallocx", 0, 1),
    resize("xallocx"),
    free("dallocx"),
    free("sdallocx"),
];

/// The C++ operators (Itanium C++ ABI, 5.1.4 and 5.1.5: `nw` new, `na` new[], `dl` delete, `da` delete[]).
pub const OPERATORS: &[Entry] = &[
    alloc("_Znwm", 0),
    alloc("_Znam", 0),
    alloc("_ZnwmRKSt9nothrow_t", 0),
    alloc("_ZnamRKSt9nothrow_t", 0),
    alloc("_ZnwmSt11align_val_t", 0),
    alloc("_ZnamSt11align_val_t", 0),
    alloc("_ZnwmSt11align_val_tRKSt9nothrow_t", 0),
    alloc("_ZnamSt11align_val_tRKSt9nothrow_t", 0),
    free("_ZdlPv"),
    free("_ZdaPv"),
    free("_ZdlPvRKSt9nothrow_t"),
    free("_ZdaPvRKSt9nothrow_t"),
    free("_ZdlPvm"),
    free("_ZdaPvm"),
    free("_ZdlPvSt11align_val_t"),
    free("_ZdaPvSt11align_val_t"),
    free("_ZdlPvSt11align_val_tRKSt9nothrow_t"),
    free("_ZdaPvSt11align_val_tRKSt9nothrow_t"),
    free("_ZdlPvmSt11align_val_t"),
    free("_ZdaPvmSt11align_val_t"),
    // Google's extension of them.
    alloc("_Znwm12__hot_cold_t", 0),
    alloc("_Znam12__hot_cold_t", 0),
    alloc("_ZnwmRKSt9nothrow_t12__hot_cold_t", 0),
    alloc("_ZnamRKSt9nothrow_t12__hot_cold_t", 0),
    alloc("_ZnwmSt11align_val_t12__hot_cold_t", 0),
    alloc("_ZnamSt11align_val_t12__hot_cold_t", 0),
    alloc("_ZnwmSt11align_val_tRKSt9nothrow_t12__hot_cold_t", 0),
    alloc("_ZnamSt11align_val_tRKSt9nothrow_t12__hot_cold_t", 0),
];

/// tcmalloc's own names: gperftools' `tc_*`, then Google's.
pub const TCMALLOC: &[Entry] = &[
    alloc("tc_malloc", 0),
    alloc("tc_malloc_skip_new_handler", 0),
    free("tc_free"),
    free("tc_free_sized"),
    array("tc_calloc", 0, 1),
    realloc("tc_realloc", 0, 1),
    free("tc_cfree"),
    alloc("tc_memalign", 1),
    stored("tc_posix_memalign", 2),
    alloc("tc_valloc", 0),
    pages("tc_pvalloc", 0),
    alloc("tc_new", 0),
    alloc("tc_new_nothrow", 0),
    alloc("tc_newarray", 0),
    alloc("tc_newarray_nothrow", 0),
    alloc("tc_new_aligned", 0),
    alloc("tc_new_aligned_nothrow", 0),
    alloc("tc_newarray_aligned", 0),
    alloc("tc_newarray_aligned_nothrow", 0),
    free("tc_delete"),
    free("tc_delete_sized"),
    free("tc_delete_nothrow"),
    free("tc_deletearray"),
    free("tc_deletearray_sized"),
    free("tc_deletearray_nothrow"),
    free("tc_delete_aligned"),
    free("tc_delete_sized_aligned"),
    free("tc_delete_aligned_nothrow"),
    free("tc_deletearray_aligned"),
    free("tc_deletearray_sized_aligned"),
    free("tc_deletearray_aligned_nothrow"),
    // jemalloc's sized free, which both define.
    free("sdallocx"),
    alloc("TCMallocInternalMalloc", 0),
    free("TCMallocInternalFree"),
    free("TCMallocInternalFreeSized"),
    free("TCMallocInternalFreeAlignedSized"),
    free("TCMallocInternalCfree"),
    free("TCMallocInternalSdallocx"),
    array("TCMallocInternalCalloc", 0, 1),
    realloc("TCMallocInternalRealloc", 0, 1),
    realloc_array("TCMallocInternalReallocArray", 0, 1, 2),
    alloc("TCMallocInternalMemalign", 1),
    alloc("TCMallocInternalAlignedAlloc", 1),
    stored("TCMallocInternalPosixMemalign", 2),
    alloc("TCMallocInternalValloc", 0),
    pages("TCMallocInternalPvalloc", 0),
    alloc("TCMallocInternalNew", 0),
    alloc("TCMallocInternalNewArray", 0),
    alloc("TCMallocInternalNewNothrow", 0),
    alloc("TCMallocInternalNewArrayNothrow", 0),
    alloc("TCMallocInternalNewAligned", 0),
    alloc("TCMallocInternalNewArrayAligned", 0),
    alloc("TCMallocInternalNewAlignedNothrow", 0),
    alloc("TCMallocInternalNewArrayAlignedNothrow", 0),
    free("TCMallocInternalDelete"),
    free("TCMallocInternalDeleteArray"),
    free("TCMallocInternalDeleteSized"),
    free("TCMallocInternalDeleteArraySized"),
    free("TCMallocInternalDeleteNothrow"),
    free("TCMallocInternalDeleteArrayNothrow"),
    free("TCMallocInternalDeleteAligned"),
    free("TCMallocInternalDeleteArrayAligned"),
    free("TCMallocInternalDeleteSizedAligned"),
    free("TCMallocInternalDeleteArraySizedAligned"),
    free("TCMallocInternalDeleteAlignedNothrow"),
    free("TCMallocInternalDeleteArrayAlignedNothrow"),
    // These return the block and its real size in two registers, the block in the first.
    alloc("tcmalloc_size_returning_operator_new", 0),
    alloc("tcmalloc_size_returning_operator_new_nothrow", 0),
    alloc("tcmalloc_size_returning_operator_new_aligned", 0),
    alloc("tcmalloc_size_returning_operator_new_aligned_nothrow", 0),
    alloc("tcmalloc_size_returning_operator_new_hot_cold", 0),
    alloc("tcmalloc_size_returning_operator_new_hot_cold_nothrow", 0),
    alloc("tcmalloc_size_returning_operator_new_aligned_hot_cold", 0),
    alloc("tcmalloc_size_returning_operator_new_aligned_hot_cold_nothrow", 0),
];

/// mimalloc's own names. `mi_expand` fails with NULL and changes nothing.
pub const MIMALLOC: &[Entry] = &[
    alloc("mi_malloc", 0),
    free("mi_free"),
    alloc("mi_zalloc", 0),
    array("mi_calloc", 0, 1),
    realloc("mi_realloc", 0, 1),
    array("mi_mallocn", 0, 1),
    realloc_array("mi_reallocn", 0, 1, 2),
    realloc_or_free("mi_reallocf", 0, 1),
    realloc("mi_rezalloc", 0, 1),
    realloc_array("mi_recalloc", 0, 1, 2),
    realloc("mi_expand", 0, 1),
    realloc("mi__expand", 0, 1),
    alloc("mi_malloc_small", 0),
    alloc("mi_zalloc_small", 0),
    copy("mi_strdup"),
    copy("mi_strndup"),
    copy("mi_realpath"),
    copy("mi_wcsdup"),
    copy("mi_mbsdup"),
    free("mi_cfree"),
    free("mi_free_size"),
    free("mi_free_size_aligned"),
    free("mi_free_aligned"),
    free("mi_free_small"),
    stored("mi_posix_memalign", 2),
    alloc("mi_memalign", 1),
    alloc("mi_aligned_alloc", 1),
    alloc("mi_valloc", 0),
    pages("mi_pvalloc", 0),
    realloc_array("mi_reallocarray", 0, 1, 2),
    realloc_array("mi_aligned_recalloc", 0, 1, 2),
    realloc_array("mi_aligned_offset_recalloc", 0, 1, 2),
    alloc("mi_malloc_aligned", 0),
    alloc("mi_malloc_aligned_at", 0),
    alloc("mi_zalloc_aligned", 0),
    alloc("mi_zalloc_aligned_at", 0),
    array("mi_calloc_aligned", 0, 1),
    array("mi_calloc_aligned_at", 0, 1),
    realloc("mi_realloc_aligned", 0, 1),
    realloc("mi_realloc_aligned_at", 0, 1),
    realloc("mi_rezalloc_aligned", 0, 1),
    realloc("mi_rezalloc_aligned_at", 0, 1),
    realloc_array("mi_recalloc_aligned", 0, 1, 2),
    realloc_array("mi_recalloc_aligned_at", 0, 1, 2),
    alloc("mi_new", 0),
    alloc("mi_new_aligned", 0),
    alloc("mi_new_nothrow", 0),
    alloc("mi_new_aligned_nothrow", 0),
    array("mi_new_n", 0, 1),
    realloc("mi_new_realloc", 0, 1),
    realloc_array("mi_new_reallocn", 0, 1, 2),
    // Under a heap given as the first argument.
    alloc("mi_heap_malloc", 1),
    alloc("mi_heap_zalloc", 1),
    array("mi_heap_calloc", 1, 2),
    array("mi_heap_mallocn", 1, 2),
    alloc("mi_heap_malloc_small", 1),
    alloc("mi_heap_zalloc_small", 1),
    realloc("mi_heap_realloc", 1, 2),
    realloc_array("mi_heap_reallocn", 1, 2, 3),
    realloc_or_free("mi_heap_reallocf", 1, 2),
    realloc("mi_heap_rezalloc", 1, 2),
    realloc_array("mi_heap_recalloc", 1, 2, 3),
    copy("mi_heap_strdup"),
    copy("mi_heap_strndup"),
    copy("mi_heap_realpath"),
    alloc("mi_heap_malloc_aligned", 1),
    alloc("mi_heap_malloc_aligned_at", 1),
    alloc("mi_heap_zalloc_aligned", 1),
    alloc("mi_heap_zalloc_aligned_at", 1),
    array("mi_heap_calloc_aligned", 1, 2),
    array("mi_heap_calloc_aligned_at", 1, 2),
    realloc("mi_heap_realloc_aligned", 1, 2),
    realloc("mi_heap_realloc_aligned_at", 1, 2),
    realloc("mi_heap_rezalloc_aligned", 1, 2),
    realloc("mi_heap_rezalloc_aligned_at", 1, 2),
    realloc_array("mi_heap_recalloc_aligned", 1, 2, 3),
    realloc_array("mi_heap_recalloc_aligned_at", 1, 2, 3),
    alloc("mi_heap_alloc_new", 1),
    array("mi_heap_alloc_new_n", 1, 2),
    // Version 3: a thread's part of a heap first, and functions that also tell the block's real size.
    alloc("mi_theap_malloc", 1),
    alloc("mi_theap_zalloc", 1),
    array("mi_theap_calloc", 1, 2),
    alloc("mi_theap_malloc_small", 1),
    alloc("mi_theap_zalloc_small", 1),
    alloc("mi_theap_malloc_aligned", 1),
    realloc("mi_theap_realloc", 1, 2),
    alloc("mi_umalloc", 0),
    array("mi_ucalloc", 0, 1),
    realloc("mi_urealloc", 0, 1),
    free("mi_ufree"),
    alloc("mi_umalloc_aligned", 0),
    alloc("mi_uzalloc_aligned", 0),
    alloc("mi_umalloc_small", 0),
    alloc("mi_uzalloc_small", 0),
    free("vfree"),
];

/// Rust's allocation functions, as `__rust_alloc(size, align)` and so on; newer compilers mangle them.
pub const RUST: &[Entry] = &[
    alloc("__rust_alloc", 0),
    alloc("__rust_alloc_zeroed", 0),
    free("__rust_dealloc"),
    realloc("__rust_realloc", 0, 3),
];

const fn region(name: &'static str, kind: CallKind, pointer: Option<Argument>, size: u8) -> Entry {
    let mut entry = row(name, kind, None, at(size));
    entry.role.pointer = pointer;
    entry
}

/// mremap(old, old size, new size, flags, …): the old size travels as the count.
const fn remap(name: &'static str) -> Entry {
    let mut entry = region(name, CallKind::Remap, at(0), 2);
    entry.role.count = at(1);
    entry.role.flags = at(3);
    entry
}

/// The C library's calls for memory regions (mmap(2), munmap(2), mremap(2)).
pub const REGIONS: &[Entry] = &[
    region("mmap", CallKind::Map, None, 1),
    region("mmap64", CallKind::Map, None, 1),
    region("munmap", CallKind::Unmap, at(0), 1),
    remap("mremap"),
];
