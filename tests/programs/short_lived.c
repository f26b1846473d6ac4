/* Allocates and ends at once, in a few milliseconds. */
#include <stdlib.h>

int main(void) {
    void *volatile block;
    for (unsigned n = 0; n < 1000; n++) {
        block = malloc(10007);
        if (n % 2) free(block);
    }
    return 0;
}
