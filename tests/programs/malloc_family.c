/* Every plain way to take and give back memory, each by its name; blocks from before `ready` can be freed later. */
#include "common.h"

#include <dlfcn.h>

static void *before[8];

__attribute__((noinline)) void start(int argc, char **argv) {
    (void)argc, (void)argv;
    for (unsigned n = 0; n < 8; n++) before[n] = malloc(opaque(10007));
}

static void do_malloc(char *rest) {
    (void)rest;
    for (unsigned n = 0; n < 5; n++) hold(malloc(opaque(10007 + n)), 10007 + n);
    hold(malloc(opaque(1)), 1);
    hold(malloc(opaque(1u << 30)), 1u << 30);
}

static void do_malloc_zero(char *rest) {
    (void)rest;
    for (unsigned n = 0; n < 5; n++) hold(malloc(opaque(0)), 0);
}

static void do_malloc_fails(char *rest) {
    (void)rest;
    for (unsigned n = 0; n < 5; n++)
        if (malloc(opaque(PTRDIFF_MAX))) fail("a malloc of half the address space");
}

static void do_calloc(char *rest) {
    (void)rest;
    hold(calloc(opaque(7), 1429), 7 * 1429);
    hold(calloc(opaque(1), 20011), 20011);
    hold(calloc(opaque(0), 8), 0);
}

static void do_calloc_overflow(char *rest) {
    (void)rest;
    if (calloc(opaque(SIZE_MAX / 2), 3)) fail("a calloc that overflows");
    hold(calloc(opaque(3), 30011), 3 * 30011);
}

static void do_free(char *rest) {
    (void)rest;
    void *blocks[10];
    for (unsigned n = 0; n < 10; n++) blocks[n] = hold(malloc(opaque(20011)), 20011);
    for (unsigned n = 0; n < 10; n += 2) free(leave(blocks[n]));
}

static void do_free_null(char *rest) {
    (void)rest;
    for (unsigned n = 0; n < 5; n++) free((void *)opaque(0));
}

/* Blocks nobody saw being taken: their frees change nothing. */
static void do_free_unknown(char *rest) {
    (void)rest;
    for (unsigned n = 0; n < 8; n++) free(before[n]);
}

/* Above the mmap threshold malloc maps memory of its own: still one block. */
static void do_large(char *rest) {
    (void)rest;
    void *block = hold(malloc(opaque(5000011)), 5000011);
    free(leave(hold(malloc(opaque(6000011)), 6000011)));
    block = leave(block);
    hold(realloc(block, opaque(9000011)), 9000011);
}

/* A full block freed and taken again at once, by a call of another size: the address is the same, the block is not. */
static void do_reuse(char *rest) {
    (void)rest;
    unsigned same = 0;
    for (unsigned n = 0; n < 1000; n++) {
        void *first = hold(malloc(opaque(500)), 500);
        free(leave(first));
        void *second = hold(malloc(opaque(501)), 501);
        same += first == second;
        if (n % 100) free(leave(second));
    }
    if (!same) fail("no address was reused");
}

/* Reached through a pointer that was looked up, not through the program's own linkage. */
static void do_pointer(char *rest) {
    (void)rest;
    void *(*take)(size_t) = (void *(*)(size_t))dlsym(RTLD_DEFAULT, "malloc");
    void (*give)(void *) = (void (*)(void *))dlsym(RTLD_DEFAULT, "free");
    if (!take || !give) fail("dlsym");
    for (unsigned n = 0; n < 5; n++) hold(take(10007), 10007);
    give(leave(hold(take(20011), 20011)));
}

ACTIONS({"malloc", do_malloc}, {"malloc_zero", do_malloc_zero}, {"malloc_fails", do_malloc_fails}, {"calloc", do_calloc},
        {"calloc_overflow", do_calloc_overflow}, {"free", do_free}, {"free_null", do_free_null},
        {"free_unknown", do_free_unknown}, {"large", do_large}, {"pointer", do_pointer}, {"reuse", do_reuse})
