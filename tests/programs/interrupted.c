/* Signals inside an allocator call, whose handler allocates: it returns, or jumps away, on either stack, also twice over.
 * `interrupted_alloc` is the program's own allocator; it may be interrupted where glibc's may not. */
#include "common.h"

#include <setjmp.h>
#include <signal.h>
#include <ucontext.h>

static sigjmp_buf out;
static int jump, again;
static ucontext_t main_context, coroutine;

/* Carves from a chunk that malloc gives inside the call: no block of the program's. The signal comes before and after. */
__attribute__((noinline)) void *interrupted_alloc(size_t size) {
    raise(SIGUSR1);
    char *volatile chunk = malloc(opaque(size + 4096));
    raise(SIGUSR1);
    return chunk + 64;
}

__attribute__((noinline)) static void deeper(unsigned depth) {
    volatile char room[512];
    room[0] = (char)depth;
    if (depth) deeper(depth - 1);
    else hold(malloc(opaque(30011)), 30011);
    room[1] = room[0];
}

static void handler(int signal) {
    (void)signal;
    hold(malloc(opaque(10007)), 10007);
    deeper(20);
    free(leave(hold(malloc(opaque(20011)), 20011)));
    if (again) {
        again = 0;
        raise(SIGUSR2);
        hold(malloc(opaque(10007)), 10007);
    }
    if (jump) siglongjmp(out, 1);
}

static void second_handler(int signal) {
    (void)signal;
    hold(malloc(opaque(40009)), 40009);
}

static void prepare(int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigaction(SIGUSR1, &action, NULL);
    action.sa_handler = second_handler;
    action.sa_flags = 0;
    sigaction(SIGUSR2, &action, NULL);
    jump = again = 0;
}

static void take(void) { hold(interrupted_alloc(opaque(50021)), 50021); }

static void alternate_stack(void) {
    stack_t stack = {.ss_size = 1 << 16};
    stack.ss_sp = mmap(NULL, stack.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sigaltstack(&stack, NULL)) fail("sigaltstack");
}

static void do_returns(char *rest) {
    (void)rest;
    prepare(0);
    for (unsigned n = 0; n < 10; n++) take();
}

static void do_alternate(char *rest) {
    (void)rest;
    alternate_stack();
    prepare(SA_ONSTACK);
    for (unsigned n = 0; n < 10; n++) take();
}

static void do_twice(char *rest) {
    (void)rest;
    prepare(0);
    for (unsigned n = 0; n < 10; n++) {
        again = 1;
        take();
    }
}

/* Out of the call, then on: from where it jumped to, and from deeper down than the call was. */
static void jumps(int flags) {
    prepare(flags);
    for (unsigned n = 0; n < 10; n++) {
        jump = 1;
        if (!sigsetjmp(out, 1)) take();
        jump = 0;
        deeper(50);
        hold(malloc(opaque(10007)), 10007);
        take();
    }
}

static void do_jumps(char *rest) {
    (void)rest;
    jumps(0);
}

static void do_jumps_alternate(char *rest) {
    (void)rest;
    alternate_stack();
    jumps(SA_ONSTACK);
}

static void body(void) {
    take();
    swapcontext(&coroutine, &main_context);
    take();
    swapcontext(&coroutine, &main_context);
}

static void do_coroutine(char *rest) {
    (void)rest;
    prepare(0);
    getcontext(&coroutine);
    coroutine.uc_stack.ss_size = 1 << 16;
    coroutine.uc_stack.ss_sp =
        mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    makecontext(&coroutine, body, 0);
    for (unsigned n = 0; n < 2; n++) {
        swapcontext(&main_context, &coroutine);
        take();
    }
}

ACTIONS({"returns", do_returns}, {"alternate", do_alternate}, {"twice", do_twice}, {"jumps", do_jumps},
        {"jumps_alternate", do_jumps_alternate}, {"coroutine", do_coroutine})
