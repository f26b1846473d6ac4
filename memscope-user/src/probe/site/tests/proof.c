/* A uprobe without a kernel: puts int3 at a site of the subject, calls it, and checks at every hit what the site promises.
 * Arguments: object, function, offset, places of the arguments, mask of the needed ones, 1 = return address needed,
 * 1 = the arguments are pointers to nodes. Prints hits of NULL calls, hits of other calls, calls of each kind, wrong hits. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

static volatile unsigned char *site;
static unsigned char original;
static int places[6], needed, need_return, stepping;
static long arguments[3];
static volatile long expected_return;
static volatile int hits, wrong;

static void trapped(int number, siginfo_t *info, void *context) {
    static const int registers[6] = {REG_RDI, REG_RSI, REG_RDX, REG_RCX, REG_R8, REG_R9};
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)number;
    (void)info;
    if (stepping) {
        stepping = 0;
        *site = 0xcc;
        regs[REG_EFL] &= ~0x100L;
        return;
    }
    if (regs[REG_RIP] != (greg_t)(site + 1))
        abort();
    hits++;
    for (int i = 0; i < 3; i++)
        if (needed >> i & 1 && regs[registers[places[i]]] != arguments[i])
            wrong++;
    if (need_return && *(long *)regs[REG_RSP] != expected_return)
        wrong++;
    regs[REG_RIP] -= 1;
    *site = original;
    stepping = 1;
    regs[REG_EFL] |= 0x100L;
}

static __attribute__((noinline)) void call(void *function) {
    long a = arguments[0], b = arguments[1], c = arguments[2];
    __asm__ volatile("lea 1f(%%rip), %%rax\n\tmov %%rax, %0\n\tcall *%4\n1:"
                     : "=m"(expected_return), "+D"(a), "+S"(b), "+d"(c)
                     : "r"(function)
                     : "rax", "rcx", "r8", "r9", "r10", "r11", "memory", "cc");
}

int main(int count, char **words) {
    if (count != 8)
        return 2;
    void *object = dlopen(words[1], RTLD_NOW);
    void *function = object ? dlsym(object, words[2]) : NULL;
    if (!function)
        return 3;
    for (int i = 0; i < 6; i++)
        places[i] = words[4][i] - '0';
    needed = atoi(words[5]);
    need_return = atoi(words[6]);
    site = (unsigned char *)function + atol(words[3]);
    original = *site;
    unsigned long page = (unsigned long)site & ~4095UL;
    if (mprotect((void *)page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC))
        return 4;
    struct sigaction action = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO};
    sigaction(SIGTRAP, &action, NULL);
    static void *nodes[3];
    nodes[0] = &nodes[1];
    nodes[1] = &nodes[2];
    int nodes_wanted = atoi(words[7]), null_hits = 0, null_calls = 0, other_hits = 0, other_calls = 0;
    *site = 0xcc;
    for (long i = 0; i < 40; i++) {
        int is_null = i % 4 == 0;
        hits = 0;
        arguments[0] = is_null ? 0 : nodes_wanted ? (long)&nodes[i % 3] : i << (i % 20);
        arguments[1] = i * 977;
        arguments[2] = ~i;
        call(function);
        *(is_null ? &null_calls : &other_calls) += 1;
        *(is_null ? &null_hits : &other_hits) += hits;
    }
    printf("%d %d %d %d %d\n", null_hits, other_hits, null_calls, other_calls, wrong);
    return 0;
}
