/* What the programs of the labelled corpus share: `leaking_shapes.c` and `sound_shapes.c`.
 *
 * A shape is one way in which a program's memory behaves. `PROGRAM list` names the program's shapes; `PROGRAM NAME SEED` is
 * one of them: it does `NAME_before` (if any) before `ready`, runs the shape in a thread of its own from the command `go` on, and
 * answers `truth` with the blocks and bytes it has lost since. Rates and sizes are drawn from the seed.
 *
 * The label is in the function that allocates: `lost_…` for what a correct program would have freed or kept from growing, `kept_…`
 * for what is held on purpose, `unknowable_…` for what nobody can tell from outside. Time is kept by absolute deadlines, so that a busy machine does not change a rate. */
#ifndef SHAPE_H
#define SHAPE_H
#include "common.h"

#include <math.h>
#include <pthread.h>
#include <time.h>

#define NOINLINE __attribute__((noinline, noclone))

struct shape {
    const char *name;
    void (*run)(void);
    void (*before)(void);
};
extern const struct shape shapes[];
extern const unsigned shape_count;
#define SHAPES(...)                                                                                                    \
    const struct shape shapes[] = {__VA_ARGS__};                                                                       \
    const unsigned shape_count = sizeof shapes / sizeof *shapes;

/* Chance (xorshift64*), one state a thread. */
static _Thread_local uint64_t chance;

static uint64_t draw(void) {
    chance ^= chance >> 12;
    chance ^= chance << 25;
    chance ^= chance >> 27;
    return chance * 0x2545f4914f6cdd1du;
}

/* 0 to 1. */
static double unit(void) { return (double)(draw() >> 11) * 0x1p-53; }

__attribute__((unused)) static unsigned below(unsigned limit) { return (unsigned)(unit() * limit); }

/* A number in a range, each order of magnitude as likely. */
static double pick(double from, double to) { return from * pow(to / from, unit()); }

__attribute__((unused)) static size_t sized(double from, double to) { return (size_t)pick(from, to); }

/* A time between independent events, or the life of what may end at any moment. */
__attribute__((unused)) static double exponential(double mean) { return -log(1 - unit()) * mean; }

/* The moment of `go`; times are milliseconds since. */
static struct timespec gone;

static void sleep_until(double ms) {
    struct timespec at = gone;
    at.tv_sec += (time_t)(ms / 1e3);
    at.tv_nsec += (long)(fmod(ms, 1e3) * 1e6);
    if (at.tv_nsec >= 1000000000) at.tv_sec++, at.tv_nsec -= 1000000000;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR) {}
}

/* Blocks that are to be freed later: a heap by time. For the shape's own thread. */
#define LATER 65536
static struct {
    double at;
    void *block;
} later[LATER];
static unsigned later_count;

__attribute__((unused)) static void free_at(double at, void *block) {
    if (later_count == LATER) fail("too many blocks to free later");
    unsigned place = later_count++;
    for (; place && later[(place - 1) / 2].at > at; place = (place - 1) / 2) later[place] = later[(place - 1) / 2];
    later[place].at = at;
    later[place].block = block;
}

static void free_first(void) {
    free(later[0].block);
    unsigned last = --later_count, place = 0;
    for (;;) {
        unsigned child = place * 2 + 1;
        if (child >= last) break;
        if (child + 1 < last && later[child + 1].at < later[child].at) child++;
        if (later[child].at >= later[last].at) break;
        later[place] = later[child];
        place = child;
    }
    later[place] = later[last];
}

/* Sleeps until a moment, and frees on the way what is due. */
static void wait_until(double at) {
    while (later_count && later[0].at <= at) {
        sleep_until(later[0].at);
        free_first();
    }
    sleep_until(at);
}

/* Events at a mean distance: `for (double at = 0; next(&at, mean);)`. Never ends. */
__attribute__((unused)) static int next(double *at, double mean_ms) {
    *at += exponential(mean_ms);
    wait_until(*at);
    return 1;
}

/* What was lost, by the program's own count. */
static unsigned long lost_blocks;

__attribute__((unused)) static void lost(void) { __atomic_add_fetch(&lost_blocks, 1, __ATOMIC_RELAXED); }

static const struct shape *shape;
static uint64_t seed;

static void *run(void *unused) {
    chance = seed;
    shape->run();
    return unused;
}

static void go(char *rest) {
    (void)rest;
    pthread_t thread;
    clock_gettime(CLOCK_MONOTONIC, &gone);
    if (pthread_create(&thread, NULL, run, NULL)) fail("pthread_create");
}

/* Answers `truth BLOCKS`, and then `done` as every command. */
static void truth(char *rest) {
    (void)rest;
    say("truth %lu", __atomic_load_n(&lost_blocks, __ATOMIC_RELAXED));
}

void start(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "list")) {
        for (unsigned n = 0; n < shape_count; n++) say("%s", shapes[n].name);
        _exit(0);
    }
    if (argc != 3) fail("usage: list | NAME SEED");
    for (unsigned n = 0; n < shape_count; n++)
        if (!strcmp(shapes[n].name, argv[1])) shape = &shapes[n];
    if (!shape) fail("no such shape");
    seed = strtoull(argv[2], NULL, 10) * 0x9e3779b97f4a7c15u | 1;
    /* The first draws of like seeds are alike. */
    chance = seed;
    for (unsigned n = 0; n < 16; n++) draw();
    seed = chance;
    if (shape->before) shape->before();
}

ACTIONS({"go", go}, {"truth", truth})
#endif
