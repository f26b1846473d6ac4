/* The language every target program speaks: `ready`, commands on stdin, answers on stdout, a ledger of live blocks.
 *
 * A program names its commands in `actions[]`; `start` runs before `ready`. Nothing here allocates through the traced
 * allocator: the ledger is a static table in memory that is touched page by page, and lines are read and written raw. */
#ifndef COMMON_H
#define COMMON_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct action {
    const char *name;
    void (*run)(char *rest);
};
extern const struct action actions[];
extern const unsigned action_count;
#define ACTIONS(...)                                                                                                   \
    const struct action actions[] = {__VA_ARGS__};                                                                     \
    const unsigned action_count = sizeof actions / sizeof *actions;

__attribute__((weak)) void start(int argc, char **argv);

#define LEDGER_SLOTS (1u << 20)
struct ledger_slot {
    uintptr_t address;
    size_t size;
};
static struct ledger_slot ledger[LEDGER_SLOTS];
static char ledger_lock;

__attribute__((noinline, noreturn)) static void fail(const char *what) {
    char line[256];
    int length = snprintf(line, sizeof line, "failed: %s\n", what);
    if (write(1, line, (size_t)length)) {}
    _exit(99);
}

/* One line of answer. */
__attribute__((format(printf, 1, 2), unused)) static void say(const char *format, ...) {
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    line[length++] = '\n';
    for (int done = 0; done < length;) {
        ssize_t n = write(1, line + done, (size_t)(length - done));
        if (n < 0 && errno != EINTR) _exit(98);
        if (n > 0) done += (int)n;
    }
}

static void ledger_enter(void) {
    /* Waits asleep in the end: two hundred threads that spin keep the one that holds the lock off the CPU, on an emulated
     * one for minutes. */
    for (unsigned tries = 0; __atomic_test_and_set(&ledger_lock, __ATOMIC_ACQUIRE); tries++)
        if (tries > 1000) usleep(50);
}

static void ledger_leave(void) { __atomic_clear(&ledger_lock, __ATOMIC_RELEASE); }

/* A block is ours from now on. NULL is no block. Gives it back. */
__attribute__((unused)) static void *hold(void *block, size_t size) {
    if (!block) return block;
    ledger_enter();
    uintptr_t address = (uintptr_t)block;
    unsigned slot = (unsigned)((address * 0x9e3779b97f4a7c15u) >> 44);
    /* A slot is free (0), left (1) or holds an address. */
    while (ledger[slot].address > 1) {
        if (ledger[slot].address == address) fail("the allocator returned a block that is live");
        slot = (slot + 1) % LEDGER_SLOTS;
    }
    ledger[slot].address = address;
    ledger[slot].size = size;
    ledger_leave();
    return block;
}

/* A block is about to be given back. Call it before free: afterwards another thread may hold the address. */
__attribute__((unused)) static void *leave(void *block) {
    if (!block) return block;
    ledger_enter();
    uintptr_t address = (uintptr_t)block;
    unsigned slot = (unsigned)((address * 0x9e3779b97f4a7c15u) >> 44);
    while (ledger[slot].address != address) {
        if (!ledger[slot].address) fail("a block was given back that is not in the ledger");
        slot = (slot + 1) % LEDGER_SLOTS;
    }
    ledger[slot].address = 1;
    ledger_leave();
    return block;
}

__attribute__((unused)) static void dump_ledger(void) {
    for (unsigned slot = 0; slot < LEDGER_SLOTS; slot++)
        if (ledger[slot].address > 1)
            say("block 0x%llx %zu", (unsigned long long)ledger[slot].address, ledger[slot].size);
    say("end");
}

/* A number the compiler cannot see through. */
__attribute__((noinline, unused)) static size_t opaque(size_t value) {
    __asm__ volatile("" : "+r"(value));
    return value;
}

/* Reads one command; 0 at the end of input. */
static int hear(char *line, size_t size) {
    size_t length = 0;
    for (;;) {
        char byte;
        ssize_t n = read(0, &byte, 1);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return 0;
        if (byte == '\n') break;
        if (length + 1 < size) line[length++] = byte;
    }
    line[length] = 0;
    return 1;
}

/* Does what the commands say until `quit` or the end of input. */
__attribute__((unused)) static void obey(void) {
    char line[256];
    while (hear(line, sizeof line)) {
        if (!strcmp(line, "quit")) return;
        if (!strcmp(line, "dump")) {
            dump_ledger();
            continue;
        }
        char *rest = strchr(line, ' ');
        if (rest) *rest++ = 0;
        unsigned index = 0;
        while (index < action_count && strcmp(actions[index].name, line)) index++;
        if (index == action_count) {
            say("unknown command %s", line);
            continue;
        }
        actions[index].run(rest ? rest : line + strlen(line));
        say("done");
    }
}

#ifndef OWN_MAIN
int main(int argc, char **argv) {
    if (start) start(argc, argv);
    say("ready");
    obey();
    return 0;
}
#endif
#endif
