/* An allocator of the program's own whose realloc takes its time, so that something can happen in the midst of it.
 *
 * `take SIZE` takes a block, `move SIZE` starts a thread that resizes it and stays inside for as long as the program runs,
 * `thread` lets a thread come and go, `hold SIZE` takes a block by malloc. `swap SIZE` starts a thread that resizes the
 * block, is given another place for it, and ends inside; what was the block's is taken by the main thread meanwhile. */
#include "common.h"

#include <pthread.h>
#include <sys/syscall.h>

static char arena[1 << 16] __attribute__((aligned(16)));
static size_t used;
static void *block;
static volatile int inside, is_taken;

__attribute__((noinline)) void *slow_take(size_t size) {
    void *taken = arena + used;
    used += (size + 15) & ~(size_t)15;
    if (used > sizeof arena) fail("the arena is full");
    return taken;
}

__attribute__((noinline)) void *slow_move(void *old, size_t size) {
    inside = 1;
    while (!is_taken) usleep(1000);
    syscall(SYS_exit, 0);
    return size ? old : NULL;
}

static void *work(void *argument) { return slow_move(block, (size_t)argument); }

static void take(char *rest) { block = hold(slow_take(strtoul(rest, NULL, 10)), strtoul(rest, NULL, 10)); }

static void move(char *rest) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, (void *)strtoul(rest, NULL, 10))) fail("pthread_create");
    while (!inside) usleep(100);
}

static void swap(char *rest) {
    pthread_t thread;
    size_t size = strtoul(rest, NULL, 10);
    if (pthread_create(&thread, NULL, work, (void *)size)) fail("pthread_create");
    while (!inside) usleep(100);
    used = 0;
    leave(block);
    block = hold(slow_take(size), size);
    is_taken = 1;
    pthread_join(thread, NULL);
}

static void *nothing(void *argument) { return argument; }

static void come_and_go(char *rest) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, nothing, rest)) fail("pthread_create");
    pthread_join(thread, NULL);
}

static void hold_some(char *rest) { hold(malloc(opaque(strtoul(rest, NULL, 10))), strtoul(rest, NULL, 10)); }

ACTIONS({"take", take}, {"move", move}, {"thread", come_and_go}, {"hold", hold_some}, {"swap", swap})
