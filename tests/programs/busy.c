/* Allocates and frees as fast as it can while it is told to, and holds blocks besides.
 *
 * `go` and `rest` (which answers with the pairs made), `take COUNT SIZE`, `mix COUNT SEED` (sizes of all kinds). Every pair
 * writes to its block and reads it back. */
#include "common.h"

#include <pthread.h>

static pthread_t thread;
static volatile int going;
static unsigned long pairs;

static void *work(void *argument) {
    (void)argument;
    while (going) {
        unsigned char *block = malloc(96);
        if (!block) fail("malloc");
        block[0] = (unsigned char)pairs;
        block[95] = block[0];
        __asm__ volatile("" ::: "memory");
        if (block[95] != (unsigned char)pairs) fail("a block changed");
        free(block);
        pairs++;
    }
    return NULL;
}

static void go(char *rest) {
    (void)rest;
    going = 1;
    if (pthread_create(&thread, NULL, work, NULL)) fail("pthread_create");
}

static void rest_now(char *rest) {
    (void)rest;
    going = 0;
    pthread_join(thread, NULL);
}

__attribute__((noinline)) static void *keep(size_t size) {
    void *block = hold(malloc(size), size);
    __asm__ volatile("");
    return block;
}

static void take(char *rest) {
    unsigned many;
    size_t size;
    if (sscanf(rest, "%u %zu", &many, &size) != 2) fail("take COUNT SIZE");
    for (; many; many--) keep(size);
}

/* Sizes from 16 to 65 551 bytes, most of them small. */
static void mix(char *rest) {
    unsigned many, seed;
    if (sscanf(rest, "%u %u", &many, &seed) != 2) fail("mix COUNT SEED");
    for (; many; many--) {
        seed = seed * 1664525 + 1013904223;
        keep(16 + ((seed >> 8) & 0xffff) % (1u << (4 + seed % 13)));
    }
}

ACTIONS({"go", go}, {"rest", rest_now}, {"take", take}, {"mix", mix})
