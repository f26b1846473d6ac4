/* Allocators of a program's own, in layers over malloc, as the old system had them. */
#include "common.h"

#define CHUNK 65536
static char *chunk;
static size_t used = CHUNK;

/* zOsMem_Alloc(kind, size): carved from chunks that come from malloc. */
__attribute__((noinline)) void *zOsMem_Alloc(unsigned kind, size_t size) {
    (void)kind;
    size_t rounded = (size + 31) & ~(size_t)15;
    if (used + rounded > CHUNK) {
        chunk = malloc(CHUNK);
        used = 0;
    }
    void *block = chunk + used + 16;
    used += rounded;
    __asm__ volatile("" : "+r"(block));
    return block;
}

__attribute__((noinline)) void zOsMem_Free(void *block) { __asm__ volatile("" : : "r"(block) : "memory"); }

/* pool_get(pool, count, size, &block): a layer over zOsMem_Alloc; 0 when it worked. */
__attribute__((noinline)) int pool_get(void *pool, size_t count, size_t size, void **block) {
    (void)pool;
    if (!size) return -1;
    *block = zOsMem_Alloc(1, count * size);
    __asm__ volatile("");
    return 0;
}

static void do_plain(char *rest) {
    (void)rest;
    void *blocks[10];
    for (unsigned n = 0; n < 10; n++) blocks[n] = hold(zOsMem_Alloc(0, opaque(1007 + n)), 1007 + n);
    for (unsigned n = 0; n < 4; n++) zOsMem_Free(leave(blocks[n]));
}

static void do_layered(char *rest) {
    (void)rest;
    for (unsigned n = 0; n < 10; n++) {
        void *block = NULL;
        if (pool_get(NULL, opaque(3), 501, &block)) fail("pool_get");
        hold(block, 3 * 501);
        if (n < 4) zOsMem_Free(leave(block));
        if (!pool_get(NULL, 3, opaque(0), &block)) fail("pool_get of nothing");
    }
}

ACTIONS({"plain", do_plain}, {"layered", do_layered})
