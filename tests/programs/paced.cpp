// Calls its allocator at a pace, one kind of call at a time: what each kind costs alone.
//
// `new RATE` makes and deletes RATE blocks a second by the C++ operators until `rest`, never faster, whatever it has missed;
// `keep COUNT` makes blocks, `drop` gives all of them back as fast as it can; `nest COUNT` makes so many blocks, and keeps
// them, inside calls of `carve`, a thousand in each.
#include "common.h"

#include <new>
#include <pthread.h>
#include <time.h>

static pthread_t thread;
static volatile int going;
static long rate;

static void *work(void *) {
    const long slots = 1000;
    timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    while (going) {
        for (long n = 0; n < rate / slots; n++) {
            void *block = ::operator new(opaque(96));
            __asm__ volatile("" : : "r"(block) : "memory");
            ::operator delete(block);
        }
        timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        do {
            next.tv_nsec += 1000000000 / slots;
            if (next.tv_nsec >= 1000000000) {
                next.tv_nsec -= 1000000000;
                next.tv_sec++;
            }
        } while (next.tv_sec < now.tv_sec || (next.tv_sec == now.tv_sec && next.tv_nsec < now.tv_nsec));
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, nullptr);
    }
    return nullptr;
}

static void do_new(char *rest) {
    rate = atol(rest);
    going = 1;
    if (pthread_create(&thread, nullptr, work, nullptr)) fail("pthread_create");
}

static void do_rest(char *) {
    going = 0;
    pthread_join(thread, nullptr);
}

// The blocks hold each other: nothing else is allocated for them.
static void **kept;

static void keep_one(void *block) {
    if (!block) fail("no memory");
    *static_cast<void **>(block) = kept;
    kept = static_cast<void **>(block);
}

static void do_keep(char *rest) {
    for (long many = atol(rest); many > 0; many--) keep_one(malloc(opaque(24)));
}

static void do_drop(char *) {
    while (kept) {
        void *block = kept;
        kept = static_cast<void **>(*kept);
        free(block);
    }
}

extern "C" __attribute__((noinline)) void *carve(size_t many) {
    for (; many > 1; many--) keep_one(malloc(opaque(24)));
    void *block = malloc(opaque(24));
    keep_one(block);
    __asm__ volatile("" : "+r"(block));
    return block;
}

static void do_nest(char *rest) {
    for (long many = atol(rest); many > 0; many -= 1000) carve(opaque(1000));
}

ACTIONS({"new", do_new}, {"rest", do_rest}, {"keep", do_keep}, {"drop", do_drop}, {"nest", do_nest})
