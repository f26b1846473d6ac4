/* A library to be loaded by frames.c: its functions stand between the program's. */
#include <stdlib.h>

static void (*function)(unsigned);
static int compare(const void *a, const void *b) {
    function(*(const unsigned *)a);
    return *(const int *)a - *(const int *)b;
}

void call_back(void (*callback)(unsigned), unsigned left) {
    unsigned numbers[] = {left, 2, 1};
    callback(left);
    function = callback;
    qsort(numbers, 3, sizeof *numbers, compare);
    free(malloc(117));
}
