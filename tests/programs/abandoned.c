/* Calls into glibc's allocator that never return: a handler of the abort that glibc raises inside malloc or realloc
 * jumps out of it. glibc holds no lock there, so the program may go on. `nested` allocates in that handler.
 * Threads with a broken cache of one size must not end: glibc would look at it. */
#include "common.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>

#define BROKEN_SIZE 1000

static __thread sigjmp_buf out;
static __thread int allocate_in_handler;
static pthread_barrier_t ready_threads;

static void jump_out(int signal) {
    (void)signal;
    if (allocate_in_handler) hold(malloc(opaque(20011)), 20011);
    siglongjmp(out, 1);
}

__attribute__((noinline)) void start(int argc, char **argv) {
    (void)argc, (void)argv;
    struct sigaction action = {.sa_handler = jump_out};
    sigaction(SIGABRT, &action, NULL);
    /* glibc's complaints go nowhere. */
    if (dup2(open("/dev/null", O_WRONLY), 2) < 0) fail("/dev/null");
}

/* From now on every malloc(BROKEN_SIZE) of this thread finds a misaligned block in its cache and aborts. */
static void break_cache(void) {
    void *volatile first = malloc(opaque(BROKEN_SIZE));
    void *volatile second = malloc(opaque(BROKEN_SIZE));
    free(first);
    free(second);
    *(uintptr_t *)second = ((uintptr_t)second >> 12) ^ ((uintptr_t)first | 8);
    hold(malloc(opaque(BROKEN_SIZE)), BROKEN_SIZE);
}

__attribute__((noinline)) static void malloc_that_never_returns(void) {
    if (sigsetjmp(out, 1)) return;
    if (malloc(opaque(BROKEN_SIZE))) fail("the broken malloc returned a block");
    fail("the broken malloc returned");
}

static void do_malloc(char *rest) {
    (void)rest;
    break_cache();
    for (unsigned n = 0; n < 20; n++) {
        malloc_that_never_returns();
        hold(malloc(opaque(10007)), 10007);
    }
}

/* The block stays: a realloc that never returned changed nothing. Its size field is made nonsense for the time. */
static void do_realloc(char *rest) {
    (void)rest;
    size_t *block = hold(malloc(opaque(10007)), 10007);
    size_t field = block[-1];
    for (unsigned n = 0; n < 20; n++) {
        block[-1] = (size_t)-32 | (field & 7);
        if (!sigsetjmp(out, 1)) {
            void *volatile moved = realloc(block, opaque(30011));
            (void)moved;
            fail("the broken realloc returned");
        }
        block[-1] = field;
        hold(malloc(opaque(20011)), 20011);
    }
}

static void do_nested(char *rest) {
    (void)rest;
    break_cache();
    allocate_in_handler = 1;
    for (unsigned n = 0; n < 20; n++) malloc_that_never_returns();
    allocate_in_handler = 0;
    hold(malloc(opaque(10007)), 10007);
}

static void *broken_thread(void *argument) {
    break_cache();
    malloc_that_never_returns();
    hold(malloc(opaque(10007)), 10007);
    pthread_barrier_wait(&ready_threads);
    for (;;) pause();
    return argument;
}

static void do_threads(char *rest) {
    (void)rest;
    pthread_barrier_init(&ready_threads, NULL, 65);
    for (unsigned n = 0; n < 64; n++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, broken_thread, NULL)) fail("pthread_create");
    }
    pthread_barrier_wait(&ready_threads);
}

ACTIONS({"malloc", do_malloc}, {"realloc", do_realloc}, {"nested", do_nested}, {"threads", do_threads})
