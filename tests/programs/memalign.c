/* Aligned allocations: results by pointer and by value, and refusals that leave the pointer alone. */
#include "common.h"

#include <malloc.h>

static void do_posix(char *rest) {
    (void)rest;
    for (size_t alignment = 8; alignment <= 65536; alignment *= 2) {
        void *block = NULL;
        if (posix_memalign(&block, alignment, opaque(10007))) fail("posix_memalign");
        if ((uintptr_t)block % alignment) fail("posix_memalign's alignment");
        hold(block, 10007);
    }
}

static void do_posix_einval(char *rest) {
    (void)rest;
    static char here[16];
    void *block = here;
    if (posix_memalign(&block, opaque(24), 10007) != EINVAL) fail("alignment 24");
    if (posix_memalign(&block, opaque(0), 10007) != EINVAL) fail("alignment 0");
    if (block != here) fail("a refusal changed the pointer");
}

static void do_posix_enomem(char *rest) {
    (void)rest;
    static char here[16];
    void *block = here;
    if (posix_memalign(&block, 64, opaque(PTRDIFF_MAX)) != ENOMEM) fail("half the address space");
}

static void do_aligned_alloc(char *rest) {
    (void)rest;
    hold(aligned_alloc(opaque(64), 20032), 20032);
    hold(aligned_alloc(opaque(4096), 40960), 40960);
    if (aligned_alloc(64, opaque(PTRDIFF_MAX - 63))) fail("half the address space");
}

static void do_memalign(char *rest) {
    (void)rest;
    hold(memalign(opaque(256), 30011), 30011);
    free(leave(hold(memalign(opaque(256), 30011), 30011)));
}

static void do_valloc(char *rest) { (void)rest, hold(valloc(opaque(10007)), 10007); }
static void do_pvalloc(char *rest) { (void)rest, hold(pvalloc(opaque(10007)), 10007); }

ACTIONS({"posix", do_posix}, {"posix_einval", do_posix_einval}, {"posix_enomem", do_posix_enomem},
        {"aligned_alloc", do_aligned_alloc}, {"memalign", do_memalign}, {"valloc", do_valloc}, {"pvalloc", do_pvalloc})
