/* Thousands of mappings, many of them executable, before `ready`. */
#include "common.h"

__attribute__((noinline)) void start(int argc, char **argv) {
    (void)argc, (void)argv;
    for (unsigned n = 0; n < 6000; n++) {
        /* Neighbours differ in protection, so that the kernel keeps them apart. */
        int protection = n % 2 ? PROT_READ : PROT_READ | PROT_EXEC;
        if (mmap(NULL, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED) fail("mmap");
    }
}

static void do_take(char *rest) {
    (void)rest;
    for (unsigned n = 0; n < 10; n++) hold(malloc(opaque(10007)), 10007);
}

ACTIONS({"take", do_take})
