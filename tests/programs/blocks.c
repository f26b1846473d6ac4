/* Takes and gives back blocks as told, through three functions whose names a report must show.
 *
 * `take COUNT SIZE` and `give COUNT SIZE` (the newest first), `name NAME` sets the thread's name. */
#include "common.h"

#include <sys/prctl.h>

#define MOST 1000000
static struct {
    void *block;
    size_t size;
} held[MOST];
static unsigned count;

__attribute__((noinline)) static void *layer_one(size_t size) {
    void *block = malloc(size);
    __asm__ volatile("");
    return block;
}

__attribute__((noinline)) static void *layer_two(size_t size) {
    void *block = layer_one(size);
    __asm__ volatile("");
    return block;
}

__attribute__((noinline)) static void *layer_three(size_t size) {
    void *block = layer_two(size);
    __asm__ volatile("");
    return block;
}

static void take(char *rest) {
    unsigned many;
    size_t size;
    if (sscanf(rest, "%u %zu", &many, &size) != 2 || many > MOST - count) fail("take COUNT SIZE");
    for (; many; many--) {
        held[count].block = hold(layer_three(size), size);
        held[count++].size = size;
    }
}

static void give(char *rest) {
    unsigned many;
    size_t size;
    if (sscanf(rest, "%u %zu", &many, &size) != 2) fail("give COUNT SIZE");
    for (unsigned n = count; n-- > 0 && many;) {
        if (held[n].size != size || !held[n].block) continue;
        free(leave(held[n].block));
        held[n].block = NULL;
        many--;
    }
    if (many) fail("give: not that many");
}

/* `fill COUNT SIZE`: the same as take without a ledger, for more blocks than it has room for. */
static void fill(char *rest) {
    unsigned many;
    size_t size;
    if (sscanf(rest, "%u %zu", &many, &size) != 2) fail("fill COUNT SIZE");
    for (; many; many--)
        if (!layer_three(size)) fail("malloc");
}

static void name(char *rest) { prctl(PR_SET_NAME, rest); }

#ifdef LSAN_RULES
/* Suppressions of the program's own, as LeakSanitizer would ask for them. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) { return LSAN_RULES; }
#endif

ACTIONS({"take", take}, {"give", give}, {"fill", fill}, {"name", name})
