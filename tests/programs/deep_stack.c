/* Stacks of a chosen depth whose every function has a name of its own: level_000 calls level_001 … calls malloc. */
#include "common.h"

typedef void *(*level)(unsigned depth, unsigned last, size_t size);
static const level levels[200];

#define LEVEL(n)                                                                                                       \
    __attribute__((noinline)) static void *level_##n(unsigned depth, unsigned last, size_t size) {                     \
        void *block = depth == last ? malloc(size) : levels[depth + 1](depth + 1, last, size);                         \
        __asm__ volatile("" : "+r"(block));                                                                            \
        return block;                                                                                                  \
    }
#define TEN(M, t) M(t##0) M(t##1) M(t##2) M(t##3) M(t##4) M(t##5) M(t##6) M(t##7) M(t##8) M(t##9)
#define HUNDRED(M, h)                                                                                                  \
    TEN(M, h##0) TEN(M, h##1) TEN(M, h##2) TEN(M, h##3) TEN(M, h##4) TEN(M, h##5) TEN(M, h##6) TEN(M, h##7)            \
    TEN(M, h##8) TEN(M, h##9)
HUNDRED(LEVEL, 0)
HUNDRED(LEVEL, 1)
#define NAME(n) level_##n,
static const level levels[200] = {HUNDRED(NAME, 0) HUNDRED(NAME, 1)};

/* `depth N` takes a block of 10 000 + N bytes under N levels. */
static void do_depth(char *rest) {
    unsigned depth = (unsigned)strtoul(rest, NULL, 10);
    if (depth < 1 || depth > 200) fail("depth 1 to 200");
    size_t size = 10000 + depth;
    hold(levels[0](0, depth - 1, size), size);
}

__attribute__((noinline)) static void *recurse(unsigned left, size_t size) {
    char room[64];
    __asm__ volatile("" : : "r"(room) : "memory");
    void *block = left ? recurse(left - 1, size) : malloc(size);
    __asm__ volatile("" : "+r"(block));
    return block;
}

/* `recursion N` takes a block of 30 011 bytes under N frames of one function. */
static void do_recursion(char *rest) { hold(recurse((unsigned)strtoul(rest, NULL, 10), 30011), 30011); }

ACTIONS({"depth", do_depth}, {"recursion", do_recursion})
