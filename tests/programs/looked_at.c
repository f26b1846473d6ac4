/* Threads to be looked at: asleep under known callers, running, many, and coming and going. Each kind has its name. */
#include "common.h"

#include <pthread.h>
#include <signal.h>

#define NOINLINE __attribute__((noinline, noclone))

static volatile unsigned long work;

/* The innermost frames are a system call's, with nothing in between that saves rbp. */
static NOINLINE void wait_for_ever(unsigned depth) {
    for (;;) pause();
    work += depth;
}

static NOINLINE void with_alloca(unsigned depth) {
    char *room = __builtin_alloca(opaque(depth) * 16 + 16);
    room[0] = (char)depth;
    work += (unsigned long)room[0];
    wait_for_ever(depth);
    work += (unsigned long)room[0];
}

static NOINLINE void with_locals(unsigned depth) {
    volatile unsigned long many[64];
    many[depth % 64] = depth;
    with_alloca((unsigned)many[depth % 64]);
    work += many[depth % 64];
}

static NOINLINE void descend(unsigned depth) {
    if (depth)
        descend(depth - 1);
    else
        with_locals(3);
    work++;
}

static void *sleeper(void *argument) {
    descend(5);
    return argument;
}

static NOINLINE void spin(void) {
    for (;;) work++;
}

static NOINLINE void spin_under(void) {
    spin();
    work++;
}

static void *spinner(void *argument) {
    spin_under();
    return argument;
}

static void *idler(void *argument) {
    for (;;) pause();
    return argument;
}

static void *passing(void *argument) { return argument; }

static void *churner(void *argument) {
    for (;;) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, passing, NULL)) fail("pthread_create");
        pthread_join(thread, NULL);
    }
    return argument;
}

static void begin(void *(*body)(void *), const char *name) {
    pthread_t thread;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 1 << 18);
    if (pthread_create(&thread, &small, body, NULL)) fail("pthread_create");
    pthread_setname_np(thread, name);
}

static void do_sleeper(char *rest) {
    (void)rest;
    begin(sleeper, "sleeper");
}

static void do_spinner(char *rest) {
    (void)rest;
    begin(spinner, "spinner");
}

static void do_churner(char *rest) {
    (void)rest;
    begin(churner, "churner");
}

static void do_crowd(char *rest) {
    for (unsigned long left = strtoul(rest, NULL, 10); left; left--) begin(idler, "idler");
}

/* A handler in the middle of the stack. */
static void handler(int signal) {
    (void)signal;
    wait_for_ever(1);
}

static NOINLINE void interrupted(void) {
    signal(SIGUSR1, handler);
    raise(SIGUSR1);
    work++;
}

static void *in_handler(void *argument) {
    interrupted();
    return argument;
}

static void do_handler(char *rest) {
    (void)rest;
    begin(in_handler, "handler");
}

ACTIONS({"sleeper", do_sleeper}, {"spinner", do_spinner}, {"churner", do_churner}, {"crowd", do_crowd},
        {"handler", do_handler})
