/* Coroutines on stacks of their own, switching between calls: allocated in one, freed in another. */
#include "common.h"

#include <ucontext.h>

#define MANY 8
static ucontext_t caller, coroutines[MANY];
static void *handed;

static void body(int index) {
    for (unsigned n = 0;; n++) {
        hold(malloc(opaque(10007 + (size_t)index)), 10007 + (size_t)index);
        void *mine = hold(malloc(opaque(20011)), 20011);
        if (handed) free(leave(handed));
        handed = mine;
        swapcontext(&coroutines[index], &caller);
    }
}

static void do_switch(char *rest) {
    (void)rest;
    for (int n = 0; n < MANY; n++) {
        getcontext(&coroutines[n]);
        coroutines[n].uc_stack.ss_size = 1 << 16;
        coroutines[n].uc_stack.ss_sp =
            mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        coroutines[n].uc_link = &caller;
        makecontext(&coroutines[n], (void (*)(void))body, 1, n);
    }
    for (unsigned round = 0; round < 50; round++)
        for (int n = 0; n < MANY; n++) swapcontext(&caller, &coroutines[n]);
}

ACTIONS({"switch", do_switch})
