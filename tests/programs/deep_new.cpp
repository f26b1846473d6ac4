// Templates thirty deep that end in operator new: C++ names, and libstdc++ between the program and malloc.
#include "common.h"

namespace deep {
template <unsigned N> struct level {
    __attribute__((noinline)) static void *take(size_t size) {
        void *block = level<N - 1>::take(size);
        __asm__ volatile("" : "+r"(block));
        return block;
    }
};
template <> struct level<0> {
    __attribute__((noinline)) static void *take(size_t size) {
        void *block = ::operator new(size);
        __asm__ volatile("" : "+r"(block));
        return block;
    }
};
} // namespace deep

static void do_take(char *) { hold(deep::level<30>::take(opaque(10007)), 10007); }

ACTIONS({"take", do_take})
