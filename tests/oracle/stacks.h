/* The reference for stacks, built into the recorder by -DRECORD_STACKS: libgcc's own unwinder is asked for the call stack
 * of each block that is recorded, and each distinct stack is counted in the file MEMSCOPE_STACKS_FILE with `.<pid>` appended.
 *
 * libgcc follows full call frame information (by glibc's _dl_find_object: no lock, no memory from the allocator), so this is
 * independent of everything that memscope does. Frames of the recorder itself, innermost, are left out. Lock-free, as the
 * recorder is; read while no thread is inside. The layout is read by src/stacks/ledger.rs.
 *
 * A return probe puts another address in the place of the one its function returns to, and libgcc would stop there. So no
 * function of the recorder may be probed: it has them under other names, and the allocator's names are jumps to them, symbols
 * without a type, which the loader binds to and memscope does not take for functions. */
#include <unwind.h>

#define STACKS_MAGIC 0x31534b4341545321u
#define STACK_SLOTS (1ull << 18)
#define STACK_FRAMES (1ull << 24)
#define DEEPEST 1024

struct stack_slot {
    uint64_t hash; /* once set, for good; 0: free */
    uint64_t count;
    uint64_t frames_at;
    uint64_t frames;
};

struct stack_table {
    uint64_t magic, slots;
    uint64_t frames_used; /* elements of frame[] given out */
    uint64_t lost;        /* stacks that found no room: the table is worthless */
    struct stack_slot slot[STACK_SLOTS];
    uint64_t frame[STACK_FRAMES];
};

static struct stack_table *stacks;

extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char _end[] __attribute__((visibility("hidden")));

struct recorded_stack {
    uint64_t frames;
    uint64_t address[DEEPEST];
};

static void open_stacks(void) {
    const char *name = getenv("MEMSCOPE_STACKS_FILE");
    char file_name[512];
    if (!name || strlen(name) > sizeof file_name - 16) return;
    snprintf(file_name, sizeof file_name, "%s.%d", name, (int)getpid());
    int file = open(file_name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0 || ftruncate(file, sizeof *stacks)) return;
    struct stack_table *new = mmap(NULL, sizeof *new, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (new == MAP_FAILED) return;
    new->slots = STACK_SLOTS;
    new->magic = STACKS_MAGIC;
    stacks = new;
}

static _Unwind_Reason_Code one_frame(struct _Unwind_Context *context, void *argument) {
    struct recorded_stack *stack = argument;
    uint64_t address = _Unwind_GetIP(context);
    int own = address > (uint64_t)__ehdr_start && address <= (uint64_t)_end;
    /* libgcc shows one frame more, address 0, where the outermost is marked. */
    if (!address || (own && !stack->frames)) return _URC_NO_REASON;
    if (stack->frames == DEEPEST) return _URC_END_OF_STACK;
    stack->address[stack->frames++] = address;
    return _URC_NO_REASON;
}

__attribute__((noinline)) static void record_stack(void) {
    if (!stacks) return;
    struct recorded_stack stack;
    stack.frames = 0;
    _Unwind_Backtrace(one_frame, &stack);
    uint64_t hash = 0xcbf29ce484222325u;
    for (uint64_t n = 0; n < stack.frames; n++) {
        hash = (hash ^ stack.address[n]) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 29;
    }
    hash |= 1;
    for (uint64_t n = 0, index = hash >> 46; n < STACK_SLOTS; n++, index = (index + 1) % STACK_SLOTS) {
        struct stack_slot *slot = &stacks->slot[index];
        uint64_t seen = __atomic_load_n(&slot->hash, __ATOMIC_ACQUIRE);
        if (!seen && __atomic_compare_exchange_n(&slot->hash, &seen, hash, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            uint64_t at = __atomic_fetch_add(&stacks->frames_used, stack.frames, __ATOMIC_RELAXED);
            if (at + stack.frames > STACK_FRAMES) break;
            memcpy(&stacks->frame[at], stack.address, stack.frames * sizeof(uint64_t));
            slot->frames_at = at;
            slot->frames = stack.frames;
            seen = hash;
        }
        if (!seen || seen == hash) {
            __atomic_add_fetch(&slot->count, 1, __ATOMIC_RELAXED);
            return;
        }
    }
    __atomic_add_fetch(&stacks->lost, 1, __ATOMIC_RELAXED);
}

#define malloc recorded_malloc
#define free recorded_free
#define cfree recorded_cfree
#define free_sized recorded_free_sized
#define free_aligned_sized recorded_free_aligned_sized
#define calloc recorded_calloc
#define realloc recorded_realloc
#define reallocarray recorded_reallocarray
#define posix_memalign recorded_posix_memalign
#define aligned_alloc recorded_aligned_alloc
#define memalign recorded_memalign
#define valloc recorded_valloc
#define pvalloc recorded_pvalloc

/* `malloc: jmp recorded_malloc` */
#define JUMP(name) __asm__(".globl " name "\n" name ": jmp recorded_" name "\n");
JUMP("malloc")
JUMP("free")
JUMP("cfree")
JUMP("free_sized")
JUMP("free_aligned_sized")
JUMP("calloc")
JUMP("realloc")
JUMP("reallocarray")
JUMP("posix_memalign")
JUMP("aligned_alloc")
JUMP("memalign")
JUMP("valloc")
JUMP("pvalloc")
