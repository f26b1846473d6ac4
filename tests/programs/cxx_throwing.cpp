// Threads that ask operator new for more than there is, again and again, catch bad_alloc at different depths, and allocate
// in between, in the handler, and in destructors that run while the exception is on its way.
//
// `throw N`: N rounds on each of four threads. `thrower` starts a thread that throws until `rest`. With the argument
// `handler` there is a new handler, and it is the one that throws.
#include "common.h"

#include <atomic>
#include <new>
#include <pthread.h>

static std::atomic<bool> going;
static std::atomic<unsigned long> thrown;
static pthread_t thrower;

static void handler() { throw std::bad_alloc(); }

void start(int argc, char **) {
    if (argc > 1) std::set_new_handler(handler);
}

// Allocates while it is destroyed: deeper than the frame that threw was.
struct late {
    size_t size;
    __attribute__((noinline)) ~late() {
        if (size) hold(::operator new(opaque(size)), size);
        ::operator delete(::operator new(opaque(77)));
    }
};

__attribute__((noinline)) static void ask(unsigned depth, size_t late_size, int how) {
    volatile char room[64];
    room[depth % 64] = 1;
    late object{depth == 2 ? late_size : 0};
    if (depth) {
        ask(depth - 1, late_size, how);
    } else {
        void *block;
        switch (how % 4) {
        case 0: block = ::operator new(opaque(PTRDIFF_MAX)); break;
        case 1: block = ::operator new[](opaque(PTRDIFF_MAX)); break;
        case 2: block = ::operator new(opaque(PTRDIFF_MAX - 4096), std::align_val_t(64)); break;
        default: block = ::operator new[](opaque(PTRDIFF_MAX - 4096), std::align_val_t(4096)); break;
        }
        if (opaque(1)) fail(block ? "a block" : "no bad_alloc");
    }
    __asm__ volatile("" ::"r"(room) : "memory");
}

// Catches, and throws again from within the handler, as deep as asked.
__attribute__((noinline)) static unsigned nest(unsigned depth) {
    try {
        ask(depth % 5, 0, (int)depth);
    } catch (const std::bad_alloc &) {
        ::operator delete(::operator new(opaque(60 + depth)));
        return 1 + (depth ? nest(depth - 1) : 0);
    }
    return 0;
}

static void round(unsigned n, size_t size) {
    bool caught = false;
    try {
        ask(n % 7, n % 7 > 1 ? size : 0, (int)n);
    } catch (const std::bad_alloc &) {
        caught = true;
        hold(::operator new(opaque(size + 1)), size + 1);
    }
    if (!caught) fail("no bad_alloc");
    if (::operator new(opaque(PTRDIFF_MAX), std::nothrow)) fail("nothrow");
    hold(::operator new(opaque(size + 2)), size + 2);
    thrown++;
}

static void *rounds(void *argument) {
    unsigned long count = (unsigned long)argument;
    for (unsigned n = 0; n < count; n++) round(n, 100 + n % 900);
    if (nest(20) != 21) fail("nested handlers");
    return nullptr;
}

static void do_throw(char *rest) {
    unsigned long count = strtoul(rest, nullptr, 10);
    pthread_t threads[4];
    for (auto &thread : threads) pthread_create(&thread, nullptr, rounds, (void *)count);
    for (auto &thread : threads) pthread_join(thread, nullptr);
    if (thrown != 4 * count) fail("not every bad_alloc was caught");
}

static void *throw_on(void *) {
    for (unsigned n = 0; going; n++) {
        try {
            ask(n % 7, 0, (int)n);
        } catch (const std::bad_alloc &) {
            ::operator delete(::operator new(opaque(300)));
        }
    }
    return nullptr;
}

static void do_thrower(char *) {
    going = true;
    pthread_create(&thrower, nullptr, throw_on, nullptr);
}

static void do_rest(char *) {
    going = false;
    pthread_join(thrower, nullptr);
}

ACTIONS({"throw", do_throw}, {"thrower", do_thrower}, {"rest", do_rest})
