/* Frames of every make that a C compiler and a C library give: each action takes blocks under one of them.
 *
 * `gate ACTION` does the same, but stands still once, reading a byte from stdin, where it would take its block: then a
 * debugger shows the stack that the allocator would have been called on. */
#include "common.h"

#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <search.h>
#include <setjmp.h>
#include <signal.h>
#include <ucontext.h>

#include <malloc.h>

#define APART __attribute__((noinline, noclone))

static int gate;
static unsigned taken;

/* The block of every action; with an open gate the thread waits here instead. */
__attribute__((noinline, noclone)) static void *take(size_t size) {
    if (gate) {
        char byte;
        gate = 0;
        say("at the gate");
        while (read(0, &byte, 1) < 0) {}
    }
    void *block = malloc(opaque(size));
    __asm__ volatile("" : "+r"(block));
    hold(block, size);
    /* Every other block lives on. */
    if (taken++ % 2) free(leave(block));
    return block;
}

#define USE(memory) __asm__ volatile("" : : "r"(memory) : "memory")

static void do_plain(char *rest) {
    (void)rest;
    take(101);
}

/* Every function of the library that allocates, called from here. */
static void do_family(char *rest) {
    (void)rest;
    void *p = calloc(opaque(3), opaque(5));
    p = realloc(p, opaque(200));
    p = realloc(p, opaque(100000));
    free(p);
    void *aligned = NULL;
    if (posix_memalign(&aligned, 64, opaque(100))) fail("posix_memalign");
    free(aligned);
    free(aligned_alloc(64, opaque(128)));
    free(memalign(64, opaque(128)));
    free(strdup("a copy"));
    char *line = NULL;
    if (asprintf(&line, "%zu", opaque(7)) > 0) free(line);
    void *tree = NULL;
    tsearch("one", &tree, (int (*)(const void *, const void *))strcmp);
    tsearch("two", &tree, (int (*)(const void *, const void *))strcmp);
    tdelete("one", &tree, (int (*)(const void *, const void *))strcmp);
    tdelete("two", &tree, (int (*)(const void *, const void *))strcmp);
}

/* A buffer on the stack, all zero, as argument of a function of the C library that allocates. */
static void do_zeroed(char *rest) {
    (void)rest;
    _Alignas(16) char room[64] = {0};
    USE(room);
    hold(strdup(room), 1);
    USE(room);
}

/* The direct caller of a function of the C library that allocates. */
APART static void opens(const char *path) {
    DIR *folder = opendir(path);
    if (!folder) fail("opendir");
    closedir(folder);
}

static void do_opens(char *rest) {
    (void)rest;
    opens("/");
    USE(rest);
}

APART static unsigned recurse(unsigned left) {
    char room[40];
    USE(room);
    unsigned below = left ? recurse(left - 1) : (unsigned)(uintptr_t)take(102);
    USE(room);
    return below + (unsigned char)room[3];
}

static void do_recursion(char *rest) {
    (void)rest;
    for (unsigned depth = 0; depth < 100; depth += 7) recurse(depth);
}

/* Deeper than a stack may be shown: it is cut off, and says so. */
static void do_deeper(char *rest) {
    (void)rest;
    recurse(300);
}

/* Recursion of three functions in turn, of which one has a large frame, one saves every register. */
APART static void first(unsigned left);
APART static void second(unsigned left) {
    char room[70001];
    USE(room);
    if (left) first(left - 1);
    else take(103);
    USE(room);
}
APART static void first(unsigned left) {
    __asm__ volatile("" : : : "rbx", "r12", "r13", "r14", "r15");
    second(left);
    __asm__ volatile("" : : : "rbx", "r12", "r13", "r14", "r15");
}

static void do_large(char *rest) {
    (void)rest;
    first(10);
}

APART static void with_alloca(size_t size, unsigned left) {
    char *room = __builtin_alloca(size);
    memset(room, 1, size);
    USE(room);
    if (left) with_alloca(size * 2 + 13, left - 1);
    else take(104);
    USE(room);
}

static void do_alloca(char *rest) {
    (void)rest;
    with_alloca(opaque(33), 6);
}

APART static void with_array(size_t count) {
    double room[count];
    USE(room);
    take(105);
    USE(room);
}

static void do_array(char *rest) {
    (void)rest;
    for (size_t count = 1; count < 2000; count += 333) with_array(opaque(count));
}

/* Locals that want more than the stack's alignment: the frame is realigned, and found by a saved pointer. */
APART static void realigned(unsigned left) {
    struct {
        char room[96];
    } __attribute__((aligned(64))) wide;
    USE(&wide);
    if ((uintptr_t)&wide % 64) fail("not aligned");
    if (left) realigned(left - 1);
    else take(106);
    USE(&wide);
}

/* The same with a frame of a size not known, and arguments on the stack: the frame is found by a saved argument pointer. */
APART static long realigned_much(long a, long b, long c, long d, long e, long f, long g, long h, size_t size) {
    struct {
        char room[96];
    } __attribute__((aligned(128))) wide;
    char *room = __builtin_alloca(size);
    USE(&wide);
    USE(room);
    __asm__ volatile("" : : : "rbx", "r12", "r13", "r14", "r15");
    if (size < 600) realigned_much(b, c, d, e, f, g, h, a, size * 2);
    else take(107);
    USE(&wide);
    return a + b + c + d + e + f + g + h + room[0];
}

static void do_realigned(char *rest) {
    (void)rest;
    realigned(5);
    realigned_much(1, 2, 3, 4, 5, 6, 7, 8, opaque(40));
}

/* Vectors spilled over a call. */
#ifdef __AVX__
typedef double wide_vector __attribute__((vector_size(32)));
APART static wide_vector vectors(wide_vector a, unsigned left) {
    wide_vector b = a * a, c = a + b;
    USE(&b);
    USE(&c);
    if (left) b += vectors(c, left - 1);
    else take(108);
    return a + b + c;
}
static void do_vectors(char *rest) {
    (void)rest;
    vectors((wide_vector){1, 2, 3, 4}, 5);
}
#else
static void do_vectors(char *rest) {
    (void)rest;
    take(108);
}
#endif

/* Calls that are jumps: the frames between are gone, and must not be missed nor invented. */
APART static void *tail_third(size_t size) { return take(size); }
APART static void *tail_second(size_t size) { return tail_third(size + 1); }
APART static void *tail_first(size_t size) { return tail_second(size + 1); }
APART static void *straight_to_malloc(size_t size) { return malloc(size); }

static void do_tail(char *rest) {
    (void)rest;
    tail_first(109);
    free(straight_to_malloc(opaque(110)));
}

/* A call that is its function's last instruction: its return address lies in the next function. */
static jmp_buf out;
APART __attribute__((noreturn)) static void never_returns(unsigned left) {
    if (left) never_returns(left - 1);
    take(111);
    longjmp(out, 1);
}
APART static void calls_last(unsigned left) {
    if (left) never_returns(left);
    never_returns(1);
}

static void do_noreturn(char *rest) {
    (void)rest;
    for (unsigned left = 0; left < 6; left++)
        if (!setjmp(out)) calls_last(left);
}

/* Through code of the C library and back. */
static int compare(const void *a, const void *b) {
    take(112);
    return *(const int *)a - *(const int *)b;
}
static pthread_once_t once;
static void only_once(void) { take(113); }
static void at_thread_end(void *value) {
    (void)value;
    take(114);
}

static void do_callbacks(char *rest) {
    (void)rest;
    int numbers[] = {4, 1, 3, 2};
    qsort(numbers, 4, sizeof *numbers, compare);
    int key = 3;
    bsearch(&key, numbers, 4, sizeof *numbers, compare);
    once = PTHREAD_ONCE_INIT;
    pthread_once(&once, only_once);
}

static pthread_key_t thread_key;
static void *in_thread(void *argument) {
    pthread_setspecific(thread_key, argument);
    recurse(5);
    return NULL;
}

static void do_threads(char *rest) {
    (void)rest;
    pthread_key_create(&thread_key, at_thread_end);
    pthread_t threads[4];
    for (unsigned n = 0; n < 4; n++)
        if (pthread_create(&threads[n], NULL, in_thread, &out)) fail("pthread_create");
    for (unsigned n = 0; n < 4; n++) pthread_join(threads[n], NULL);
    pthread_key_delete(thread_key);
}

/* Handlers: in a system call, between two instructions of a loop that calls nothing, on a stack of their own. */
static volatile sig_atomic_t handled;
static void handler(int signal) {
    (void)signal;
    take(115);
    handled = 1;
}

static void handle(int flags) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigaction(SIGUSR2, &action, NULL);
}

APART static void raise_under(unsigned left) {
    if (left) raise_under(left - 1);
    else raise(SIGUSR2);
    USE(&left);
}

static void do_signal(char *rest) {
    (void)rest;
    handle(0);
    raise_under(4);
}

static void do_altstack(char *rest) {
    (void)rest;
    static char memory[1 << 16] __attribute__((aligned(64)));
    stack_t stack = {.ss_sp = memory, .ss_size = sizeof memory}, before;
    sigaltstack(&stack, &before);
    handle(SA_ONSTACK);
    raise_under(4);
    sigaltstack(&before, NULL);
}

static void *interrupts(void *target) {
    pthread_kill((pthread_t)target, SIGUSR2);
    return NULL;
}

/* Spins in a function that calls nothing until a handler has run: the interrupted instruction is anywhere in it. */
APART static unsigned long spin(void) {
    unsigned long turns = 0;
    while (!handled) turns++;
    return turns;
}

static void do_spin(char *rest) {
    (void)rest;
    handle(0);
    handled = 0;
    pthread_t thread;
    if (pthread_create(&thread, NULL, interrupts, (void *)pthread_self())) fail("pthread_create");
    opaque(spin());
    pthread_join(thread, NULL);
}

/* Interrupted at its very first instruction, which the handler steps over. */
__attribute__((naked, noinline, noclone)) static void faults_at_once(void) { __asm__("ud2\n\tret"); }

static void step_over(int signal, siginfo_t *info, void *context) {
    (void)signal, (void)info;
    take(118);
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}

static void do_fault(char *rest) {
    (void)rest;
    struct sigaction action = {.sa_sigaction = step_over, .sa_flags = SA_SIGINFO};
    sigaction(SIGILL, &action, NULL);
    faults_at_once();
}

/* Interrupted in a call that sleeps. */
static void do_sleep(char *rest) {
    (void)rest;
    handle(0);
    handled = 0;
    pthread_t thread;
    if (pthread_create(&thread, NULL, interrupts, (void *)pthread_self())) fail("pthread_create");
    while (!handled) usleep(1000);
    pthread_join(thread, NULL);
}

/* Stacks of their own, by the C library's contexts. */
#ifdef __GLIBC__
static ucontext_t back, there;
static void in_coroutine(int depth) {
    recurse((unsigned)depth);
    swapcontext(&there, &back);
    recurse((unsigned)depth + 3);
}

static void do_coroutine(char *rest) {
    (void)rest;
    static char memory[1 << 17] __attribute__((aligned(64)));
    for (int depth = 0; depth < 6; depth++) {
        getcontext(&there);
        there.uc_stack.ss_sp = memory;
        there.uc_stack.ss_size = sizeof memory;
        there.uc_link = &back;
        makecontext(&there, (void (*)(void))in_coroutine, 1, depth);
        swapcontext(&back, &there);
        take(116);
        swapcontext(&back, &there);
    }
}
#else
static void do_coroutine(char *rest) { (void)rest; }
#endif

/* A library loaded at run time, whose code calls back. */
static void (*call_back)(void (*)(unsigned), unsigned);
static void called_back(unsigned left) { recurse(left); }

static void do_load(char *rest) {
    void *library = dlopen(rest, RTLD_NOW | RTLD_LOCAL);
    if (!library) fail(dlerror());
    call_back = (void (*)(void (*)(unsigned), unsigned))dlsym(library, "call_back");
    if (!call_back) fail("no call_back");
}

static void do_loaded(char *rest) {
    (void)rest;
    call_back(called_back, 9);
}

static void do_gate(char *rest);

ACTIONS({"plain", do_plain}, {"family", do_family}, {"zeroed", do_zeroed}, {"recursion", do_recursion},
        {"deeper", do_deeper}, {"large", do_large}, {"alloca", do_alloca}, {"array", do_array}, {"realigned", do_realigned},
        {"vectors", do_vectors}, {"tail", do_tail}, {"noreturn", do_noreturn}, {"callbacks", do_callbacks},
        {"threads", do_threads}, {"signal", do_signal}, {"altstack", do_altstack}, {"spin", do_spin},
        {"fault", do_fault}, {"opens", do_opens},
        {"sleep", do_sleep}, {"coroutine", do_coroutine}, {"load", do_load}, {"loaded", do_loaded}, {"gate", do_gate})

static void do_gate(char *rest) {
    gate = 1;
    for (unsigned n = 0; n < action_count; n++)
        if (!strcmp(actions[n].name, rest)) actions[n].run(rest);
}
