/* Threads that hold, hand over, end, are cancelled, and free in destructors. */
#include "common.h"

#include <pthread.h>

static pthread_barrier_t barrier;
static pthread_key_t key;
static FILE *never;

static void drop_block(void *block) { free(leave(block)); }

static void *nothing(void *argument) { return argument; }

__attribute__((noinline)) void start(int argc, char **argv) {
    (void)argc, (void)argv;
    int ends[2];
    if (pthread_key_create(&key, drop_block) || pipe(ends)) fail("pthread_key_create");
    never = fdopen(ends[0], "r");
    static char buffer[64];
    setvbuf(never, buffer, _IOFBF, sizeof buffer);
    /* libc loads its unwinder at the first cancellation: now, not under trace. */
    pthread_t thread;
    pthread_create(&thread, NULL, nothing, NULL);
    pthread_cancel(thread);
    pthread_join(thread, NULL);
}

static void *take_ten(void *argument) {
    for (unsigned n = 0; n < 10; n++) hold(malloc(opaque(10007)), 10007);
    return argument;
}

static void *take_ten_and_stay(void *argument) {
    take_ten(argument);
    pthread_barrier_wait(&barrier);
    for (;;) pause();
    return argument;
}

/* 200 threads alive at once, each with blocks. */
static void do_crowd(char *rest) {
    (void)rest;
    pthread_barrier_init(&barrier, NULL, 201);
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 1 << 17);
    for (unsigned n = 0; n < 200; n++) {
        pthread_t thread;
        if (pthread_create(&thread, &small, take_ten_and_stay, NULL)) fail("pthread_create");
    }
    pthread_barrier_wait(&barrier);
}

/* Blocks outlive the threads that took them; thread ids are used again. */
static void do_end_holding(char *rest) {
    (void)rest;
    for (unsigned n = 0; n < 50; n++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, take_ten, NULL)) fail("pthread_create");
        pthread_join(thread, NULL);
    }
}

static void *free_given(void *block) {
    free(leave(block));
    return hold(malloc(opaque(20011)), 20011);
}

static void do_free_elsewhere(char *rest) {
    (void)rest;
    for (unsigned n = 0; n < 50; n++) {
        pthread_t thread;
        void *mine = hold(malloc(opaque(10007)), 10007), *theirs;
        if (pthread_create(&thread, NULL, free_given, mine)) fail("pthread_create");
        pthread_join(thread, &theirs);
        if (n % 2) free(leave(theirs));
    }
}

static void *leave_to_destructor(void *argument) {
    pthread_setspecific(key, hold(malloc(opaque(30011)), 30011));
    hold(malloc(opaque(10007)), 10007);
    return argument;
}

static void do_destructor(char *rest) {
    (void)rest;
    for (unsigned n = 0; n < 50; n++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, leave_to_destructor, NULL)) fail("pthread_create");
        pthread_join(thread, NULL);
    }
}

static void *allocate_until_cancelled(void *argument) {
    take_ten(argument);
    pthread_barrier_wait(&barrier);
    for (;;) {
        int state;
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
        free(leave(hold(malloc(opaque(20011)), 20011)));
        pthread_setcancelstate(state, NULL);
        pthread_testcancel();
    }
    return argument;
}

static void do_cancel(char *rest) {
    (void)rest;
    for (unsigned n = 0; n < 50; n++) {
        pthread_t thread;
        pthread_barrier_init(&barrier, NULL, 2);
        if (pthread_create(&thread, NULL, allocate_until_cancelled, NULL)) fail("pthread_create");
        pthread_barrier_wait(&barrier);
        pthread_cancel(thread);
        pthread_join(thread, NULL);
    }
}

static char *cancelled_line;
static size_t cancelled_room;

static void *read_a_line(void *argument) {
    pthread_barrier_wait(&barrier);
    if (getline(&cancelled_line, &cancelled_room, never) >= 0) fail("a line came");
    return argument;
}

/* Cancelled inside getline, which holds a block it took before it waits. */
static void do_cancel_getline(char *rest) {
    (void)rest;
    pthread_t thread;
    pthread_barrier_init(&barrier, NULL, 2);
    if (pthread_create(&thread, NULL, read_a_line, NULL)) fail("pthread_create");
    pthread_barrier_wait(&barrier);
    while (!__atomic_load_n(&cancelled_room, __ATOMIC_ACQUIRE)) usleep(100);
    pthread_cancel(thread);
    pthread_join(thread, NULL);
    hold(cancelled_line, cancelled_room);
}

ACTIONS({"crowd", do_crowd}, {"end_holding", do_end_holding}, {"free_elsewhere", do_free_elsewhere},
        {"destructor", do_destructor}, {"cancel", do_cancel}, {"cancel_getline", do_cancel_getline})
