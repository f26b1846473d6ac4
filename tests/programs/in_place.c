/* Holds blocks and resizes them in place without a pause: `hold COUNT` takes them, `go` and `rest` start and stop the thread that
 * resizes one after the other, within the room that the allocator has given each. */
#include "common.h"

#include <pthread.h>

#define MOST 4096
static void *blocks[MOST];
static unsigned count;
static pthread_t thread;
static volatile int going;

static void take(char *rest) {
    for (unsigned many = strtoul(rest, NULL, 10); many && count < MOST; many--) blocks[count++] = malloc(opaque(1000));
}

static void *work(void *argument) {
    for (size_t turn = 0; going; turn++)
        for (unsigned n = 0; going && n < count; n++)
            if (realloc(blocks[n], opaque(992 + turn % 8)) != blocks[n]) fail("a block has moved");
    return argument;
}

static void go(char *rest) {
    going = 1;
    if (pthread_create(&thread, NULL, work, rest)) fail("pthread_create");
}

static void rest_now(char *rest) {
    (void)rest;
    going = 0;
    pthread_join(thread, NULL);
}

ACTIONS({"hold", take}, {"go", go}, {"rest", rest_now})
