/* A library that allocates by a function whose name tells its builds apart; names of one length leave all else the same. */
#include <stdlib.h>

__attribute__((noinline)) void *BUILD(size_t size) {
    void *block = malloc(size);
    __asm__ volatile("" : "+r"(block));
    return block;
}

__attribute__((noinline)) void *lib_take(size_t size) {
    void *block = BUILD(size);
    __asm__ volatile("" : "+r"(block));
    return block;
}

void lib_give(void *block) { free(block); }
