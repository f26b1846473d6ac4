/* Memory regions, mapped and unmapped in every partial way; the ledger holds what is left of each. */
#include "common.h"

#define PAGE 4096ul

static char *map(size_t pages) {
    char *region = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (region == MAP_FAILED) fail("mmap");
    return hold(region, pages * PAGE);
}

static void unmap(char *start, size_t pages) {
    if (munmap(start, pages * PAGE)) fail("munmap");
}

static void do_whole(char *rest) {
    (void)rest;
    map(10);
    unmap(leave(map(11)), 11);
}

static void do_start(char *rest) {
    (void)rest;
    char *region = map(10);
    unmap(leave(region), 3);
    hold(region + 3 * PAGE, 7 * PAGE);
}

static void do_end(char *rest) {
    (void)rest;
    char *region = map(10);
    unmap(region + 6 * PAGE, 4);
    leave(region);
    hold(region, 6 * PAGE);
}

static void do_middle(char *rest) {
    (void)rest;
    char *region = map(10);
    unmap(region + 4 * PAGE, 2);
    leave(region);
    hold(region, 4 * PAGE);
    hold(region + 6 * PAGE, 4 * PAGE);
}

/* Three regions side by side in space reserved for them; one munmap takes the end of the first, the second, the start
 * of the third. */
static void do_across(char *rest) {
    (void)rest;
    char *space = map(30);
    for (unsigned n = 0; n < 3; n++)
        if (mmap(space + n * 10 * PAGE, 10 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
            fail("mmap");
    leave(space);
    unmap(space + 5 * PAGE, 20);
    hold(space, 5 * PAGE);
    hold(space + 25 * PAGE, 5 * PAGE);
}

static void do_fixed_over(char *rest) {
    (void)rest;
    char *region = map(10);
    if (mmap(region + 2 * PAGE, 3 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
        fail("mmap");
    leave(region);
    hold(region, 2 * PAGE);
    hold(region + 2 * PAGE, 3 * PAGE);
    hold(region + 5 * PAGE, 5 * PAGE);
}

static void do_remap(char *rest) {
    (void)rest;
    char *region = leave(map(10));
    region = hold(mremap(region, 10 * PAGE, 5 * PAGE, 0), 5 * PAGE);
    char *moving = leave(map(10));
    char *place = leave(map(40));
    unmap(place, 40);
    if (mremap(moving, 10 * PAGE, 40 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place) != place) fail("mremap");
    hold(place, 40 * PAGE);
    if (mremap(region, 5 * PAGE, opaque((size_t)1 << 46), 0) != MAP_FAILED) fail("an mremap that cannot be");
}

static void do_fails(char *rest) {
    (void)rest;
    for (unsigned n = 0; n < 5; n++)
        if (mmap(NULL, opaque(0), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) fail("an mmap of nothing");
    map(7);
}

ACTIONS({"whole", do_whole}, {"start", do_start}, {"end", do_end}, {"middle", do_middle}, {"across", do_across},
        {"fixed_over", do_fixed_over}, {"remap", do_remap}, {"fails", do_fails})
