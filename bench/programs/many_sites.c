/* Takes blocks from many call stacks and keeps them: `take BLOCKS SITES` answers `done`. A stack is a walk of fourteen calls,
 * each to one of two functions as the bits of its number say, so that there are up to 16 384 of them. */
#include <stdio.h>
#include <stdlib.h>

enum { DEPTH = 14 };

static void *volatile sink;
static volatile unsigned turns;

static void left(unsigned path, int depth, size_t size);
static void right(unsigned path, int depth, size_t size);

static inline __attribute__((always_inline)) void step(unsigned path, int depth, size_t size) {
    if (depth == 0)
        sink = malloc(size);
    else if (path & 1)
        right(path >> 1, depth - 1, size);
    else
        left(path >> 1, depth - 1, size);
    /* Work after the call keeps it from being a jump. */
    turns++;
}

__attribute__((noinline)) static void left(unsigned path, int depth, size_t size) { step(path, depth, size); }
__attribute__((noinline)) static void right(unsigned path, int depth, size_t size) { step(path, depth, size); }

int main(void) {
    static char out[BUFSIZ], in[BUFSIZ], line[256];
    setvbuf(stdout, out, _IOLBF, sizeof out);
    setvbuf(stdin, in, _IOFBF, sizeof in);
    puts("ready");
    while (fgets(line, sizeof line, stdin)) {
        unsigned long blocks, sites;
        if (sscanf(line, "take %lu %lu", &blocks, &sites) != 2 || sites == 0 || sites > 1u << DEPTH) return 2;
        for (unsigned long n = 0; n < blocks; n++) left((unsigned)(n % sites), DEPTH, 16 + n % 7 * 8);
        puts("done");
    }
    return 0;
}
