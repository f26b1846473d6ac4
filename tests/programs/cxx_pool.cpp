// A pool of C++: its functions throw when asked for too much, and catch what is thrown inside them.
#include "common.h"

#include <new>
#include <stdexcept>
#include <string>

alignas(4096) static char arena[8 << 20];
static size_t used;

// Something to destroy while an exception passes, so that the function has landing pads.
struct counted {
    static int alive;
    __attribute__((noinline)) counted() { alive++; }
    __attribute__((noinline)) ~counted() { alive--; }
};
int counted::alive;

__attribute__((noinline)) static void check(size_t size) {
    if (size > 1 << 20) throw std::runtime_error("more than a pool holds, said at such length that it lies on the heap");
}

extern "C" __attribute__((noinline)) void *pool_new(size_t size) {
    counted here;
    check(size);
    char *block = arena + used;
    used += (size + 63) / 64 * 64;
    return block;
}

// Returns by way of a handler when it is asked for too much.
extern "C" __attribute__((noinline)) void *pool_new_or_small(size_t size) {
    try {
        check(size);
    } catch (const std::runtime_error &) {
        char *small = arena + used;
        used += 64;
        return small;
    }
    char *block = arena + used;
    used += (size + 63) / 64 * 64;
    return block;
}

extern "C" __attribute__((noinline)) void pool_delete(void *block) { __asm__ volatile("" ::"r"(block) : "memory"); }

static void do_pool(char *) {
    for (unsigned n = 1; n <= 1000; n++) {
        bool caught = false;
        try {
            hold(pool_new(n % 3 ? n : opaque(2 << 20)), n);
        } catch (const std::runtime_error &) {
            caught = true;
            hold(pool_new(n), n);
        }
        if (caught != (n % 3 == 0)) fail("an exception too many or too few");
        void *kept = hold(pool_new(n), n);
        if (n % 2) pool_delete(leave(kept));
        size_t asked = n % 5 ? n : opaque(3 << 20);
        hold(pool_new_or_small(asked), asked);
    }
    if (counted::alive) fail("something was not destroyed");
}

ACTIONS({"pool", do_pool})
