/* Signals that meet allocation: a storm of them, and handlers that allocate on a stack of their own. */
#include "common.h"

#include <signal.h>
#include <sys/time.h>

static volatile sig_atomic_t signals;

static void count(int signal) {
    (void)signal;
    signals++;
}

/* At least 2 000 signals hit this thread while it does nothing but allocate and free. 400 blocks stay, however long that
 * takes. */
static void do_storm(char *rest) {
    (void)rest;
    struct sigaction action = {.sa_handler = count, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval often = {{0, 100}, {0, 100}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &often, NULL);
    for (unsigned n = 0; n < 20000 || signals < 2000; n++) {
        void *block = hold(malloc(opaque(500 + n % 100)), 500 + n % 100);
        if (n < 20000 && n % 50 == 0) continue;
        block = leave(block);
        if (n % 3) free(block);
        else free(realloc(block, opaque(2000)));
    }
    setitimer(ITIMER_REAL, &never, NULL);
}

static void allocate(int signal) {
    (void)signal;
    for (unsigned n = 0; n < 5; n++) hold(malloc(opaque(10007)), 10007);
    free(leave(hold(malloc(opaque(20011)), 20011)));
}

static void do_altstack(char *rest) {
    (void)rest;
    stack_t stack = {.ss_size = 1 << 16};
    stack.ss_sp = mmap(NULL, stack.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sigaltstack(&stack, NULL)) fail("sigaltstack");
    struct sigaction action = {.sa_handler = allocate, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR1, &action, NULL);
    for (unsigned n = 0; n < 10; n++) {
        hold(malloc(opaque(30011)), 30011);
        raise(SIGUSR1);
    }
}

ACTIONS({"storm", do_storm}, {"altstack", do_altstack})
