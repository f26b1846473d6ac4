/* A library that python loads by ctypes: `plant_keep` forgets what it took, `plant_pass` gives it back. Built with -shared -fPIC. */
#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline, noclone))

static volatile unsigned char sink;

NOINLINE static void *copy_row(size_t size) {
    unsigned char *row = malloc(size);
    memset(row, 0x5a, size);
    sink = row[size - 1];
    return row;
}

NOINLINE void plant_keep(size_t size) { sink = *(unsigned char *)copy_row(size); }

NOINLINE void plant_pass(size_t size) { free(copy_row(size)); }
