/* A target that means harm to whoever looks: files of any content mapped as code, and stacks that lead nowhere. */
#include "common.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

#define PAGE 4096ul
#define STACK (64 * PAGE)

/* Code without unwind tables: void call(void *rbp, size_t size, void *(*malloc)(size_t)), which calls malloc(size) with
 * that rbp and gives back what it gave. */
static const unsigned char CODE[] = {
    0x55,             /* push %rbp */
    0x48, 0x89, 0xfd, /* mov %rdi, %rbp */
    0x48, 0x89, 0xf7, /* mov %rsi, %rdi */
    0xff, 0xd2,       /* call *%rdx */
    0x5d,             /* pop %rbp */
    0xc3,             /* ret */
};
#define AFTER_CALL 9

static void *(*call)(void *rbp, size_t size, void *(*allocate)(size_t));

void start(int argc, char **argv) {
    (void)argc, (void)argv;
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) fail("mmap");
    memcpy(page, CODE, sizeof CODE);
    if (mprotect(page, PAGE, PROT_READ | PROT_EXEC)) fail("mprotect");
    call = (void *(*)(void *, size_t, void *(*)(size_t)))page;
}

/* Maps the whole file as code. */
static void do_map(char *path) {
    struct stat found;
    int file = open(path, O_RDONLY);
    if (file < 0 || fstat(file, &found)) fail(path);
    if (mmap(NULL, (size_t)found.st_size, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0) == MAP_FAILED) fail("mmap");
    close(file);
}

/* One page of code more, with none beside it. */
static void do_jit(char *rest) {
    (void)rest;
    char *pages = mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + PAGE, PAGE, PROT_READ | PROT_EXEC)) fail("mmap");
}

static void do_take(char *rest) {
    size_t size = strtoul(rest, NULL, 10);
    hold(malloc(size), size);
}

static void take_with(void *rbp, size_t size) { hold(call(rbp, size, malloc), size); }

__attribute__((noinline)) static uintptr_t here(void) { return (uintptr_t)__builtin_return_address(0); }

/* A frame that returns into this function with an rbp that makes it its own caller: this one has unwind tables, and they
 * count from rbp. */
static void do_cycle(char *rest) {
    (void)rest;
    uintptr_t record[2] __attribute__((aligned(16)));
    record[0] = (uintptr_t)record;
    record[1] = here();
    take_with(record, 10007);
    __asm__ volatile("" : : "r"(record) : "memory");
}

/* The same in code without tables. */
static void do_circle(char *rest) {
    (void)rest;
    uintptr_t record[2] __attribute__((aligned(16)));
    record[0] = (uintptr_t)record;
    record[1] = (uintptr_t)call + AFTER_CALL;
    take_with(record, 40009);
    __asm__ volatile("" : : "r"(record) : "memory");
}

/* A frame that returns into data. */
static void do_astray(char *rest) {
    (void)rest;
    uintptr_t record[2] __attribute__((aligned(16)));
    record[0] = (uintptr_t)record + 64;
    record[1] = (uintptr_t)ledger;
    take_with(record, 20011);
    __asm__ volatile("" : : "r"(record) : "memory");
}

static void *above_it_is_nothing(void *end) {
    uintptr_t record[2] __attribute__((aligned(16)));
    record[0] = (uintptr_t)end + PAGE;
    record[1] = here();
    take_with(record, 30011);
    __asm__ volatile("" : : "r"(record) : "memory");
    return NULL;
}

/* A frame whose caller's is in memory that cannot be read, just above a thread's stack. */
static void do_unreadable(char *rest) {
    (void)rest;
    char *stack = mmap(NULL, STACK + 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED || mprotect(stack + STACK, 2 * PAGE, PROT_NONE)) fail("mmap");
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    if (pthread_attr_setstack(&attributes, stack, STACK)) fail("pthread_attr_setstack");
    if (pthread_create(&thread, &attributes, above_it_is_nothing, stack + STACK)) fail("pthread_create");
    pthread_join(thread, NULL);
}

ACTIONS({"map", do_map}, {"jit", do_jit}, {"take", do_take}, {"cycle", do_cycle}, {"circle", do_circle}, {"astray", do_astray}, {"unreadable", do_unreadable})
