/* Many threads, random operations on the whole malloc family, blocks freed by other threads; the ledger is the truth.
 *
 * Arguments: --threads N (8), --seed N (1), --slots N blocks a thread may hold (1024), --cpu N pin all threads there,
 * --pvalloc 0 for allocators that leave pvalloc to glibc, --pause N sleep a millisecond after every N operations of a thread.
 * `run N` does N operations over all threads and answers `done <checksum>`: the sum over all operations of what was asked
 * and whether it succeeded, the same for every run with the same arguments. Contents are checked throughout. */
#define OWN_MAIN
#include "common.h"

#include <malloc.h>
#include <pthread.h>
#include <sched.h>

const struct action actions[1];
const unsigned action_count = 0;

#ifndef __GLIBC__
#define pvalloc valloc
#endif

#define MAX_THREADS 64
#define QUEUE 1024
#define FOREIGN 256

struct block {
    unsigned char *start;
    size_t size;
};

struct worker {
    pthread_t thread;
    unsigned index;
    uint64_t random, foreign_random, checksum;
    struct block *slots;   /* own blocks */
    struct block foreign[FOREIGN]; /* received blocks */
    struct block queue[QUEUE];     /* blocks other threads gave us */
    unsigned head, count;
    pthread_mutex_t lock;
    FILE *lines;
};

static struct worker workers[MAX_THREADS];
static unsigned thread_count = 8, slot_count = 1024, pause_after;
static uint64_t seed = 1, operations;
static int cpu = -1, with_pvalloc = 1;
static pthread_barrier_t begin, over;

static uint64_t next(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1du;
}

static size_t random_size(uint64_t *state) {
    uint64_t r = next(state);
    unsigned kind = (unsigned)(r >> 8) % 100;
    if (kind < 2) return 0;
    if (kind < 80) return 1 + (r >> 16) % 512;
    if (kind < 95) return 1 + (r >> 16) % 8192;
    if (kind < 99) return 1 + (r >> 16) % 65536;
    return 1 + (r >> 16) % 300000;
}

static unsigned char tag(size_t size) { return (unsigned char)(size * 31 + 7); }

static void fill(struct block block) {
    if (!block.size) return;
    block.start[0] = tag(block.size);
    block.start[block.size - 1] = tag(block.size);
}

static void check(struct block block) {
    if (block.size && (block.start[0] != tag(block.size) || block.start[block.size - 1] != tag(block.size)))
        fail("the contents of a block changed");
}

static void count(struct worker *w, unsigned operation, size_t size, int success) {
    uint64_t mixed = (operation * 0x9e3779b97f4a7c15u) ^ (size * 0xc2b2ae3d27d4eb4fu) ^ (uint64_t)success;
    mixed ^= mixed >> 29;
    w->checksum += mixed * 0xbf58476d1ce4e5b9u;
}

static void release(struct block *block) {
    check(*block);
    free(block->start);
    block->start = NULL;
}

/* Takes one block that another thread gave us and frees it, or keeps and resizes it: no part of the checksum. */
static void receive(struct worker *w) {
    struct block block = {0};
    pthread_mutex_lock(&w->lock);
    if (w->count) {
        block = w->queue[w->head];
        w->head = (w->head + 1) % QUEUE;
        w->count--;
    }
    pthread_mutex_unlock(&w->lock);
    if (!block.start) return;
    check(block);
    struct block *place = &w->foreign[next(&w->foreign_random) % FOREIGN];
    if (place->start) release(place);
    if (next(&w->foreign_random) % 2) {
        free(block.start);
        return;
    }
    size_t size = 1 + random_size(&w->foreign_random);
    unsigned char *moved = realloc(block.start, size);
    if (!moved) fail("realloc of a received block");
    *place = (struct block){moved, size};
    fill(*place);
}

static void hand_over(struct worker *w, struct block *block) {
    struct worker *to = &workers[next(&w->random) % thread_count];
    pthread_mutex_lock(&to->lock);
    int room = to->count < QUEUE;
    if (room) to->queue[(to->head + to->count++) % QUEUE] = *block;
    pthread_mutex_unlock(&to->lock);
    if (room) block->start = NULL;
    else release(block);
}

/* Fills an empty slot in one of the ways libc has. */
static void take(struct worker *w, struct block *slot) {
    unsigned operation = (unsigned)(next(&w->random) >> 20) % 20;
    size_t size = random_size(&w->random);
    size_t alignment = (size_t)16 << (next(&w->random) >> 20) % 9;
    void *start = NULL;
    char text[600];
    switch (operation) {
    case 0: start = calloc(1 + size % 7, size / 7), size = (1 + size % 7) * (size / 7); break;
    case 1: start = realloc(NULL, size); break;
    case 2: start = reallocarray(NULL, 3, size / 3), size = 3 * (size / 3); break;
    case 3:
        if (posix_memalign(&start, alignment, size)) fail("posix_memalign");
        break;
    case 4: start = aligned_alloc(alignment, size); break;
    case 5: start = memalign(alignment, size); break;
    case 6:
        size %= 9000;
        start = size % 2 || !with_pvalloc ? valloc(size) : pvalloc(size);
        break;
    case 7:
        size %= sizeof text - 1;
        memset(text, 'x', size);
        text[size] = 0;
        start = strdup(text), size++;
        break;
    case 8: {
        char *line = NULL;
        size_t room = 0;
        if (getline(&line, &room, w->lines) < 0) {
            /* The end of the lines: what getline took for nothing is ours to free. */
            free(line);
            rewind(w->lines);
            count(w, operation, 0, 0);
            return;
        }
        start = line, size = room;
        break;
    }
    case 9: {
        char *line;
        int length = asprintf(&line, "%zu %*d", size, (int)(size % 400), 7);
        if (length < 0) fail("asprintf");
        start = line, size = (size_t)length + 1;
        break;
    }
    /* Failures: no block comes of them. */
    case 10:
        if (malloc(opaque(PTRDIFF_MAX))) fail("a malloc of half the address space");
        if (calloc(opaque(SIZE_MAX / 2), 3)) fail("a calloc that overflows");
        if (posix_memalign(&start, 24, size) != EINVAL) fail("posix_memalign of alignment 24");
        if (posix_memalign(&start, 64, opaque(PTRDIFF_MAX)) != ENOMEM) fail("posix_memalign too large");
        if (reallocarray(NULL, opaque(SIZE_MAX / 2), 3)) fail("a reallocarray that overflows");
        free(NULL);
        count(w, operation, size, 0);
        return;
    default: start = malloc(size); break;
    }
    if (!start) fail("an allocation");
    count(w, operation, size, 1);
    *slot = (struct block){start, size};
    fill(*slot);
}

/* Changes or frees the block of a full slot. */
static void change(struct worker *w, struct block *slot) {
    unsigned operation = 32 + (unsigned)(next(&w->random) >> 20) % 12;
    size_t size = random_size(&w->random);
    size_t old = slot->size;
    unsigned char *moved;
    check(*slot);
    switch (operation) {
    case 32:
    case 33: size = 1 + old / 2; break; /* shrink */
    case 34:
    case 35: size = old + 1 + size; break; /* grow */
    case 36:
        /* A realloc that fails keeps the block. */
        if (realloc(slot->start, opaque(PTRDIFF_MAX))) fail("a realloc to half the address space");
        count(w, operation, old, 0);
        return;
    case 37:
        moved = realloc(slot->start, opaque(0));
        count(w, operation, old, moved != NULL);
        *slot = (struct block){moved, 0};
        return;
    case 38:
        if (reallocarray(slot->start, opaque(SIZE_MAX / 2), 3)) fail("a reallocarray that overflows");
        moved = reallocarray(slot->start, 5, size / 5 + 1);
        size = 5 * (size / 5 + 1);
        goto resized;
    case 39:
    case 40: hand_over(w, slot); return;
    default: release(slot); return;
    }
    moved = realloc(slot->start, size);
resized:
    if (!moved) fail("realloc");
    if (old && size && moved[0] != tag(old)) fail("realloc lost the contents");
    count(w, operation, size, 1);
    *slot = (struct block){moved, size};
    fill(*slot);
}

static FILE *some_lines(void) {
    int descriptor = memfd_create("lines", 0);
    char line[700];
    for (unsigned n = 0; n < 200; n++) {
        unsigned length = n * 37 % 600;
        memset(line, 'l', length);
        line[length] = '\n';
        if (write(descriptor, line, length + 1) < 0) fail("memfd");
    }
    lseek(descriptor, 0, SEEK_SET);
    FILE *lines = fdopen(descriptor, "r");
    /* The stream takes its buffer now, before anybody traces. */
    if (!lines || getc(lines) == EOF) fail("fdopen");
    rewind(lines);
    return lines;
}

static void *work(void *argument) {
    struct worker *w = argument;
    w->lines = some_lines();
    pthread_barrier_wait(&over);
    for (;;) {
        pthread_barrier_wait(&begin);
        for (uint64_t n = operations / thread_count; n; n--) {
            struct block *slot = &w->slots[next(&w->random) % slot_count];
            if (slot->start) change(w, slot);
            else take(w, slot);
            if (n % 4 == 0) receive(w);
            if (pause_after && n % pause_after == 0) usleep(1000);
        }
        pthread_barrier_wait(&over);
    }
    return NULL;
}

static void show(struct block block) {
    if (block.start) hold(block.start, block.size);
}

/* All threads wait at the barrier: their blocks can be looked at. */
static void dump_all(void) {
    memset(ledger, 0, sizeof ledger);
    for (unsigned t = 0; t < thread_count; t++) {
        struct worker *w = &workers[t];
        for (unsigned n = 0; n < slot_count; n++) show(w->slots[n]);
        for (unsigned n = 0; n < FOREIGN; n++) show(w->foreign[n]);
        for (unsigned n = 0; n < w->count; n++) show(w->queue[(w->head + n) % QUEUE]);
    }
    dump_ledger();
}

int main(int argc, char **argv) {
    for (int n = 1; n + 1 < argc; n += 2) {
        unsigned long value = strtoul(argv[n + 1], NULL, 10);
        if (!strcmp(argv[n], "--threads")) thread_count = (unsigned)value;
        else if (!strcmp(argv[n], "--seed")) seed = value;
        else if (!strcmp(argv[n], "--slots")) slot_count = (unsigned)value;
        else if (!strcmp(argv[n], "--cpu")) cpu = (int)value;
        else if (!strcmp(argv[n], "--pause")) pause_after = (unsigned)value;
        else if (!strcmp(argv[n], "--pvalloc")) with_pvalloc = (int)value;
        else fail("unknown argument");
    }
    if (!thread_count || thread_count > MAX_THREADS) fail("--threads");
    if (cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((unsigned)cpu, &set);
        if (sched_setaffinity(0, sizeof set, &set)) fail("sched_setaffinity");
    }
    pthread_barrier_init(&begin, NULL, thread_count + 1);
    pthread_barrier_init(&over, NULL, thread_count + 1);
    for (unsigned t = 0; t < thread_count; t++) {
        struct worker *w = &workers[t];
        w->index = t;
        w->random = (seed * 1000003 + t + 1) * 0x9e3779b97f4a7c15u | 1;
        w->foreign_random = w->random ^ 0x5555555555555555u;
        w->slots = mmap(NULL, slot_count * sizeof *w->slots, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (w->slots == MAP_FAILED) fail("mmap");
        pthread_mutex_init(&w->lock, NULL);
        if (pthread_create(&w->thread, NULL, work, w)) fail("pthread_create");
    }
    pthread_barrier_wait(&over);
    say("ready");
    char line[256];
    while (hear(line, sizeof line) && strcmp(line, "quit")) {
        if (!strncmp(line, "run ", 4)) {
            operations = strtoull(line + 4, NULL, 10);
            pthread_barrier_wait(&begin);
            pthread_barrier_wait(&over);
            uint64_t sum = 0;
            for (unsigned t = 0; t < thread_count; t++) sum += workers[t].checksum;
            say("done %016llx", (unsigned long long)sum);
        } else if (!strcmp(line, "dump")) {
            dump_all();
        } else {
            say("unknown command %s", line);
        }
    }
    return 0;
}
