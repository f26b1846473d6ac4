/* The truth from inside: a preloaded library that records the result of every allocation call in shared memory.
 *
 * The table lies in the file MEMSCOPE_ORACLE_FILE with `.<pid>` appended, so that a test reads it from outside without the
 * target's help. A slot belongs to one address for good; whoever holds the block at that address is the only one to
 * write it: it is cleared before the block is given back and filled after it was received. A reader stops the process and
 * reads when no thread is inside (`inside` is 0). Everything here is lock-free, signal-safe and takes no memory from the
 * allocator it watches. The table's layout is read by src/oracle/table.rs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAGIC 0x31454c4341524f4du
#define SLOTS (1ull << 22)

struct slot {
    uint64_t address; /* once set, for good */
    uint64_t size;
    uint64_t sequence; /* of the call that made the block; 0: no block lives here */
};

struct table {
    uint64_t magic, slots;
    uint64_t events;   /* calls so far; also the source of sequence numbers */
    uint64_t inside;   /* threads inside one of our functions */
    uint64_t overflow; /* blocks that found no slot: the table is worthless */
    uint64_t twice;    /* blocks given out that were live: a call bypasses us, the table is worthless */
    uint64_t unknown;  /* blocks given back that were not live */
    uint64_t reserved;
    struct slot slot[SLOTS];
};

static struct table *table;
static char path[512];

/* Depth of our own functions in this thread: what an outer one calls in an inner one is not recorded twice. */
static __thread unsigned depth __attribute__((tls_model("initial-exec")));
/* Blocks recorded by this thread: tells whether a C++ operator reached malloc. */
static __thread uint64_t recorded __attribute__((tls_model("initial-exec")));

#ifdef RECORD_STACKS
#pragma GCC visibility push(hidden)
#include "stacks.h"
#endif

static void open_table(void) {
    const char *name = getenv("MEMSCOPE_ORACLE_FILE");
    if (!name || strlen(name) > sizeof path - 16) return;
    snprintf(path, sizeof path, "%s.%d", name, (int)getpid());
    int file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    /* The same process after an exec begins a new table in the old file. */
    if (file < 0) file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0 || ftruncate(file, sizeof *table)) return;
    struct table *new = mmap(NULL, sizeof *new, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (new == MAP_FAILED) return;
    new->slots = SLOTS;
    new->magic = MAGIC;
#ifdef RECORD_STACKS
    /* A forked child's stacks are counted apart from its parent's. */
    stacks = NULL;
    open_stacks();
#endif
    table = new;
}

/* A forked child has blocks of its own from here on: its table begins as a copy of the parent's. */
static void after_fork(void) {
    struct table *old = table;
    if (!old) return;
    table = NULL;
    open_table();
    if (!table) return;
    table->events = old->events;
    for (uint64_t n = 0; n < SLOTS; n++)
        if (old->slot[n].address) table->slot[n] = old->slot[n];
    munmap(old, sizeof *old);
    /* The forking thread is the only one here, and it is outside: fork is none of our functions. */
    table->inside = 0;
}

static struct slot *find(uint64_t address, int make) {
    uint64_t index = (address * 0x9e3779b97f4a7c15u) >> 42;
    for (uint64_t n = 0; n < SLOTS; n++, index = (index + 1) % SLOTS) {
        struct slot *slot = &table->slot[index];
        uint64_t seen = __atomic_load_n(&slot->address, __ATOMIC_ACQUIRE);
        if (seen == address) return slot;
        if (seen) continue;
        if (!make) return NULL;
        if (__atomic_compare_exchange_n(&slot->address, &seen, address, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) return slot;
        if (seen == address) return slot;
    }
    return NULL;
}

static uint64_t enter(void) {
    depth++;
    if (!table) return 0;
    __atomic_add_fetch(&table->inside, 1, __ATOMIC_SEQ_CST);
    return __atomic_add_fetch(&table->events, 1, __ATOMIC_SEQ_CST);
}

static void leave(void) {
    depth--;
    if (table) __atomic_sub_fetch(&table->inside, 1, __ATOMIC_SEQ_CST);
}

static void born(void *block, size_t size, uint64_t sequence) {
    if (!block || !table || !sequence) return;
    struct slot *slot = find((uintptr_t)block, 1);
    if (!slot) {
        __atomic_add_fetch(&table->overflow, 1, __ATOMIC_RELAXED);
        return;
    }
    if (slot->sequence) __atomic_add_fetch(&table->twice, 1, __ATOMIC_RELAXED);
    slot->size = size;
    __atomic_store_n(&slot->sequence, sequence, __ATOMIC_RELEASE);
    recorded++;
#ifdef RECORD_STACKS
    record_stack();
#endif
}

/* Takes a block out before it is given back; its sequence, should the call fail and the block stay. */
static uint64_t gone(void *block) {
    if (!block || !table) return 0;
    struct slot *slot = find((uintptr_t)block, 0);
    uint64_t sequence = slot ? slot->sequence : 0;
    if (!sequence) {
        __atomic_add_fetch(&table->unknown, 1, __ATOMIC_RELAXED);
        return 0;
    }
    __atomic_store_n(&slot->sequence, 0, __ATOMIC_RELEASE);
    return sequence;
}

static void stays(void *block, uint64_t sequence) {
    struct slot *slot = sequence ? find((uintptr_t)block, 0) : NULL;
    if (slot) __atomic_store_n(&slot->sequence, sequence, __ATOMIC_RELEASE);
}

/* dlsym may itself allocate before it has found anything: that comes from here and is never given back. */
static char early[65536];
static size_t early_used;

static void *from_early(size_t size) {
    size_t at = __atomic_fetch_add(&early_used, (size + 31) & ~(size_t)15, __ATOMIC_RELAXED);
    return at + size + 16 > sizeof early ? NULL : early + at;
}

static int is_early(const void *block) { return (const char *)block >= early && (const char *)block < early + sizeof early; }

static __thread int resolving __attribute__((tls_model("initial-exec")));

static void *next(const char *name) {
    resolving++;
    void *function = dlsym(RTLD_NEXT, name);
    resolving--;
    return function;
}

/* The next definition of this function after ours. */
#define REAL(result, name, ...)                                                                                        \
    static result (*real_##name)(__VA_ARGS__);                                                                         \
    static void find_##name(void) {                                                                                    \
        if (!real_##name) real_##name = (result(*)(__VA_ARGS__))next(#name);                                           \
    }

REAL(void *, malloc, size_t)
REAL(void, free, void *)
REAL(void *, calloc, size_t, size_t)
REAL(void *, realloc, void *, size_t)
REAL(void *, reallocarray, void *, size_t, size_t)
REAL(int, posix_memalign, void **, size_t, size_t)
REAL(void *, aligned_alloc, size_t, size_t)
REAL(void *, memalign, size_t, size_t)
REAL(void *, valloc, size_t)
REAL(void *, pvalloc, size_t)

__attribute__((constructor(101))) static void begin(void) {
    find_malloc();
    find_free();
    find_calloc();
    find_realloc();
    if (!table) open_table();
    pthread_atfork(NULL, NULL, after_fork);
}

/* Our own functions in one another (a real one may call ours): the outermost records. */
#define OUTERMOST (depth == 1)

void *malloc(size_t size) {
    if (!real_malloc) {
        if (resolving) return from_early(size);
        find_malloc();
    }
    uint64_t sequence = enter();
    void *block = real_malloc(size);
    if (OUTERMOST) born(block, size, sequence);
    leave();
    return block;
}

void *calloc(size_t count, size_t size) {
    if (!real_calloc) {
        if (resolving) return from_early(count * size);
        find_calloc();
    }
    uint64_t sequence = enter();
    void *block = real_calloc(count, size);
    if (OUTERMOST) born(block, count * size, sequence);
    leave();
    return block;
}

void free(void *block) {
    if (is_early(block)) return;
    find_free();
    enter();
    if (OUTERMOST) gone(block);
    real_free(block);
    leave();
}

void cfree(void *block) { free(block); }
void free_sized(void *block, size_t size) { (void)size, free(block); }
void free_aligned_sized(void *block, size_t alignment, size_t size) { (void)alignment, (void)size, free(block); }

/* A realloc that gives no block has failed and the old one stays, or it was to size 0 and the old one is freed. */
static void resized(void *old, void *block, size_t size, uint64_t sequence, uint64_t old_sequence) {
    if (block) born(block, size, sequence);
    else if (old && size) stays(old, old_sequence);
}

void *realloc(void *old, size_t size) {
    if (is_early(old)) {
        void *block = malloc(size);
        size_t room = (size_t)(early + sizeof early - (char *)old);
        if (block) memcpy(block, old, size < room ? size : room);
        return block;
    }
    find_realloc();
    uint64_t sequence = enter();
    uint64_t old_sequence = OUTERMOST ? gone(old) : 0;
    void *block = real_realloc(old, size);
    if (OUTERMOST) resized(old, block, size, sequence, old_sequence);
    leave();
    return block;
}

void *reallocarray(void *old, size_t count, size_t size) {
    find_reallocarray();
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) bytes = SIZE_MAX;
    uint64_t sequence = enter();
    uint64_t old_sequence = OUTERMOST ? gone(old) : 0;
    void *block;
    if (real_reallocarray) {
        block = real_reallocarray(old, count, size);
    } else if (bytes == SIZE_MAX) {
        block = NULL;
        errno = ENOMEM;
    } else {
        find_realloc();
        block = real_realloc(old, bytes);
    }
    if (OUTERMOST) resized(old, block, bytes, sequence, old_sequence);
    leave();
    return block;
}

int posix_memalign(void **result, size_t alignment, size_t size) {
    find_posix_memalign();
    uint64_t sequence = enter();
    int error = real_posix_memalign(result, alignment, size);
    if (OUTERMOST && !error) born(*result, size, sequence);
    leave();
    return error;
}

#define BY_VALUE(name, parameters, arguments)                                                                          \
    void *name parameters {                                                                                            \
        find_##name();                                                                                                 \
        uint64_t sequence = enter();                                                                                   \
        void *block = real_##name arguments;                                                                           \
        if (OUTERMOST) born(block, size, sequence);                                                                    \
        leave();                                                                                                       \
        return block;                                                                                                  \
    }

BY_VALUE(aligned_alloc, (size_t alignment, size_t size), (alignment, size))
BY_VALUE(memalign, (size_t alignment, size_t size), (alignment, size))
BY_VALUE(valloc, (size_t size), (size))
BY_VALUE(pvalloc, (size_t size), (size))

#ifndef RECORD_STACKS
/* C++ operators: an allocator that is preloaded may bring its own, which do not come by malloc; libstdc++'s do, and then
 * malloc above records what was really asked for (new of 0 bytes asks for 1). They may throw, so nothing of ours is open
 * while they run but the count of threads inside; unwinding past us would leave that too high, hence -fexceptions and a
 * cleanup. */
struct pass {
    uint64_t sequence;
};

static void pass_ends(struct pass *pass) {
    (void)pass;
    if (table) __atomic_sub_fetch(&table->inside, 1, __ATOMIC_SEQ_CST);
}

static struct pass pass_begins(void) {
    struct pass pass = {0};
    if (table) {
        __atomic_add_fetch(&table->inside, 1, __ATOMIC_SEQ_CST);
        pass.sequence = __atomic_add_fetch(&table->events, 1, __ATOMIC_SEQ_CST);
    }
    return pass;
}

#define OPERATOR_NEW(name, parameters, arguments, ...)                                                                 \
    REAL(void *, name, __VA_ARGS__)                                                                                    \
    void *name parameters {                                                                                            \
        find_##name();                                                                                                 \
        struct pass pass __attribute__((cleanup(pass_ends))) = pass_begins();                                          \
        uint64_t before = recorded;                                                                                    \
        void *block = real_##name arguments;                                                                           \
        if (recorded == before) born(block, size, pass.sequence);                                                      \
        return block;                                                                                                  \
    }

/* A delete that reaches our free clears the block there; clearing it here first would make that free an unknown one, so
 * the block is cleared here and the free told that it is nested. */
#define OPERATOR_DELETE(name, parameters, arguments, ...)                                                              \
    REAL(void, name, __VA_ARGS__)                                                                                      \
    void name parameters {                                                                                             \
        find_##name();                                                                                                 \
        enter();                                                                                                       \
        if (OUTERMOST) gone(block);                                                                                    \
        real_##name arguments;                                                                                         \
        leave();                                                                                                       \
    }

OPERATOR_NEW(_Znwm, (size_t size), (size), size_t)
OPERATOR_NEW(_Znam, (size_t size), (size), size_t)
OPERATOR_NEW(_ZnwmRKSt9nothrow_t, (size_t size, const void *tag), (size, tag), size_t, const void *)
OPERATOR_NEW(_ZnamRKSt9nothrow_t, (size_t size, const void *tag), (size, tag), size_t, const void *)
OPERATOR_NEW(_ZnwmSt11align_val_t, (size_t size, size_t alignment), (size, alignment), size_t, size_t)
OPERATOR_NEW(_ZnamSt11align_val_t, (size_t size, size_t alignment), (size, alignment), size_t, size_t)
OPERATOR_NEW(_ZnwmSt11align_val_tRKSt9nothrow_t, (size_t size, size_t alignment, const void *tag), (size, alignment, tag),
             size_t, size_t, const void *)
OPERATOR_NEW(_ZnamSt11align_val_tRKSt9nothrow_t, (size_t size, size_t alignment, const void *tag), (size, alignment, tag),
             size_t, size_t, const void *)
OPERATOR_DELETE(_ZdlPv, (void *block), (block), void *)
OPERATOR_DELETE(_ZdaPv, (void *block), (block), void *)
OPERATOR_DELETE(_ZdlPvm, (void *block, size_t size), (block, size), void *, size_t)
OPERATOR_DELETE(_ZdaPvm, (void *block, size_t size), (block, size), void *, size_t)
OPERATOR_DELETE(_ZdlPvSt11align_val_t, (void *block, size_t alignment), (block, alignment), void *, size_t)
OPERATOR_DELETE(_ZdaPvSt11align_val_t, (void *block, size_t alignment), (block, alignment), void *, size_t)
OPERATOR_DELETE(_ZdlPvmSt11align_val_t, (void *block, size_t size, size_t alignment), (block, size, alignment), void *, size_t,
                size_t)
OPERATOR_DELETE(_ZdaPvmSt11align_val_t, (void *block, size_t size, size_t alignment), (block, size, alignment), void *, size_t,
                size_t)
OPERATOR_DELETE(_ZdlPvRKSt9nothrow_t, (void *block, const void *tag), (block, tag), void *, const void *)
OPERATOR_DELETE(_ZdaPvRKSt9nothrow_t, (void *block, const void *tag), (block, tag), void *, const void *)
#endif
