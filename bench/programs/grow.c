/* Takes blocks and keeps them: `grow N` answers `N CPU_NANOSECONDS`. Sixteen call sites, sizes from 16 to 271 bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void *volatile sink;

static unsigned long cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (unsigned long)now.tv_sec * 1000000000 + (unsigned long)now.tv_nsec;
}

#define SITE(name)                                                                                                     \
    static __attribute__((noinline)) void name(unsigned long n) {                                                      \
        sink = malloc(16 + n % 256);                                                                                   \
    }
SITE(s0) SITE(s1) SITE(s2) SITE(s3) SITE(s4) SITE(s5) SITE(s6) SITE(s7)
SITE(s8) SITE(s9) SITE(s10) SITE(s11) SITE(s12) SITE(s13) SITE(s14) SITE(s15)

static void (*const sites[16])(unsigned long) = {s0, s1, s2,  s3,  s4,  s5,  s6,  s7,
                                                 s8, s9, s10, s11, s12, s13, s14, s15};

int main(void) {
    char line[256];
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("ready");
    while (fgets(line, sizeof line, stdin)) {
        unsigned long blocks;
        if (sscanf(line, "grow %lu", &blocks) != 1) return 2;
        unsigned long began = cpu_ns();
        for (unsigned long n = 0; n < blocks; n++) sites[n % 16](n);
        printf("%lu %lu\n", blocks, cpu_ns() - began);
    }
    return 0;
}
