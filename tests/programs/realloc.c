/* realloc and reallocarray in every way they can end. */
#include "common.h"

static void *before;

__attribute__((noinline)) void start(int argc, char **argv) {
    (void)argc, (void)argv;
    before = malloc(opaque(10007));
}

static void resize(size_t from, size_t to) {
    void *block = leave(hold(malloc(opaque(from)), from));
    if (!hold(realloc(block, opaque(to)), to)) fail("realloc");
}

static void do_grow(char *rest) { (void)rest, resize(10007, 20011); }
static void do_shrink(char *rest) { (void)rest, resize(20011, 10007); }
static void do_of_null(char *rest) { (void)rest, hold(realloc(NULL, opaque(10007)), 10007); }

static void do_in_place(char *rest) {
    (void)rest;
    void *block = hold(malloc(opaque(10007)), 10007);
    leave(block);
    if (hold(realloc(block, opaque(10008)), 10008) != block) fail("not in place");
}

static void do_moved(char *rest) {
    (void)rest;
    void *block = hold(malloc(opaque(10007)), 10007);
    hold(malloc(opaque(33)), 33); /* stands in the way */
    leave(block);
    if (hold(realloc(block, opaque(50021)), 50021) == block) fail("not moved");
}

static void do_to_zero(char *rest) {
    (void)rest;
    void *block = leave(hold(malloc(opaque(10007)), 10007));
    hold(realloc(block, opaque(0)), 0);
}

static void do_fails(char *rest) {
    (void)rest;
    void *block = hold(malloc(opaque(10007)), 10007);
    for (unsigned n = 0; n < 3; n++)
        if (realloc(block, opaque(PTRDIFF_MAX))) fail("a realloc to half the address space");
    block = hold(malloc(opaque(20011)), 20011);
    if (realloc(block, opaque(PTRDIFF_MAX))) fail("a realloc to half the address space");
    free(leave(block));
}

/* The old block is from before attach: the new one is the first we know of it. */
static void do_unknown(char *rest) {
    (void)rest;
    if (!hold(realloc(before, opaque(40009)), 40009)) fail("realloc");
}

static void do_array(char *rest) {
    (void)rest;
    void *block = leave(hold(reallocarray(NULL, opaque(3), 10007), 3 * 10007));
    block = hold(reallocarray(block, opaque(5), 10007), 5 * 10007);
    if (reallocarray(block, opaque(SIZE_MAX / 2), 3)) fail("a reallocarray that overflows");
}

ACTIONS({"grow", do_grow}, {"shrink", do_shrink}, {"of_null", do_of_null}, {"in_place", do_in_place},
        {"moved", do_moved}, {"to_zero", do_to_zero}, {"fails", do_fails}, {"unknown", do_unknown}, {"array", do_array})
