/* A library with an allocation function of a known name that throws, and whose exits cannot all be found: one of its jumps
 * is computed. Its `lib_take` catches what is thrown. */
#include <cstddef>
#include <cstdlib>
#include <new>

extern "C" __attribute__((noinline, visibility("hidden"))) void *pool_get(std::size_t size) {
    static void *const where[] = {&&refuse, &&serve};
    goto *where[size & 1];
refuse:
    throw std::bad_alloc();
serve:
    return std::malloc(size);
}

extern "C" void *lib_take(std::size_t size) {
    try {
        return pool_get(size);
    } catch (const std::bad_alloc &) {
        return std::malloc(size);
    }
}

extern "C" void lib_give(void *block) { std::free(block); }
