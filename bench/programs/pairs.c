/* malloc+free pairs under a stack of a given depth, on some threads.
 *
 * `run FRAMES THREADS MILLISECONDS` answers `PAIRS CPU_NANOSECONDS`: CPU time, not wall time, so that other work on the
 * machine does not count as ours. `turns …`: with stacks that differ from one to the next. The frames are compiled without frame pointers and differ in size and in call site. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH = 64, MOST_THREADS = 64 };
static unsigned long until_ns;
static void *volatile sink;

static unsigned long clock_of(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (unsigned long)now.tv_sec * 1000000000 + (unsigned long)now.tv_nsec;
}

/* The same pair one frame deeper: `turns` takes the two turn about, so that no stack is like the last one. */
static __attribute__((noinline)) void deeper(void) {
    void *block = malloc(64);
    sink = block;
    free(block);
}

static int turns;

static __attribute__((noinline)) unsigned long at_depth(void) {
    unsigned long pairs = 0;
    if (turns) {
        do {
            for (int n = 0; n < BATCH; n += 2) {
                deeper();
                void *block = malloc(64);
                sink = block;
                free(block);
            }
            pairs += BATCH;
        } while (clock_of(CLOCK_MONOTONIC) < until_ns);
        return pairs;
    }
    do {
        for (int n = 0; n < BATCH; n++) {
            void *block = malloc(64);
            sink = block;
            free(block);
        }
        pairs += BATCH;
    } while (clock_of(CLOCK_MONOTONIC) < until_ns);
    return pairs;
}

static unsigned long descend(unsigned frames);
#define LEVEL(name, words)                                                                                             \
    static __attribute__((noinline)) unsigned long name(unsigned frames) {                                             \
        volatile unsigned long room[words];                                                                            \
        room[0] = frames;                                                                                              \
        unsigned long pairs = descend(frames - 1);                                                                     \
        return pairs + room[0] - frames;                                                                               \
    }
LEVEL(small, 2)
LEVEL(medium, 8)
LEVEL(large, 20)

static __attribute__((noinline)) unsigned long descend(unsigned frames) {
    volatile unsigned long guard = frames;
    unsigned long pairs;
    if (frames <= 1) pairs = at_depth();
    else if (frames % 3 == 0) pairs = small(frames - 1);
    else if (frames % 3 == 1) pairs = medium(frames - 1);
    else pairs = large(frames - 1);
    return pairs + guard - frames;
}

struct work {
    unsigned frames;
    unsigned long pairs;
    pthread_t thread;
};

static void *work(void *argument) {
    struct work *work = argument;
    work->pairs = descend(work->frames);
    return NULL;
}

int main(void) {
    static struct work works[MOST_THREADS];
    char line[256];
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("ready");
    while (fgets(line, sizeof line, stdin)) {
        unsigned frames, threads;
        unsigned long milliseconds;
        turns = !strncmp(line, "turns ", 6);
        if (sscanf(line, "%*s %u %u %lu", &frames, &threads, &milliseconds) != 3 || !threads || threads > MOST_THREADS) {
            return 2;
        }
        /* Of the frames asked for, main or the thread's start, its caller and the pair's own function are three. */
        unsigned inner = frames > 4 ? frames - 4 : 1;
        unsigned long began = clock_of(CLOCK_PROCESS_CPUTIME_ID);
        until_ns = clock_of(CLOCK_MONOTONIC) + milliseconds * 1000000;
        unsigned long pairs = 0;
        if (threads == 1) {
            pairs = frames <= 4 ? at_depth() : descend(inner);
        } else {
            for (unsigned n = 0; n < threads; n++) {
                works[n].frames = inner;
                if (pthread_create(&works[n].thread, NULL, work, &works[n])) return 3;
            }
            for (unsigned n = 0; n < threads; n++) {
                pthread_join(works[n].thread, NULL);
                pairs += works[n].pairs;
            }
        }
        printf("%lu %lu\n", pairs, clock_of(CLOCK_PROCESS_CPUTIME_ID) - began);
    }
    return 0;
}
