/* A library to be loaded while its host is traced: allocates for the caller. */
#include <stdlib.h>

__attribute__((noinline)) void *lib_take(size_t size) {
    void *block = malloc(size);
    __asm__ volatile("" : "+r"(block));
    return block;
}

void lib_give(void *block) { free(block); }
