/* Takes blocks and ends in the way it is told, with or without a thread beside; `exec` begins anew as the same program. */
#include "common.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

static void *others(void *argument) {
    obey();
    exit(0);
    return argument;
}

static void do_take(char *rest) {
    size_t size = strtoul(rest, NULL, 10);
    for (unsigned n = 0; n < 7; n++) hold(malloc(opaque(size)), size);
}

static void do_exit(char *rest) { (void)rest, exit(7); }
static void do__exit(char *rest) { (void)rest, _exit(8); }
static void do_kill(char *rest) { (void)rest, kill(getpid(), SIGKILL); }
static void do_crash(char *rest) { (void)rest, raise(SIGSEGV); }

static void do_abort(char *rest) {
    (void)rest;
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    abort();
}

static void do_exec(char *rest) {
    char *arguments[] = {"ends", rest, NULL}, *environment[] = {NULL};
    execve("/proc/self/exe", arguments, environment);
    fail("execve");
}

/* The process lives on in a second thread, which goes on obeying. */
static void do_main_ends(char *rest) {
    (void)rest;
    pthread_t thread;
    if (pthread_create(&thread, NULL, others, NULL)) fail("pthread_create");
    say("done");
    pthread_exit(NULL);
}

/* Of address space. */
static void do_no_room(char *rest) {
    (void)rest;
    struct rlimit none = {1 << 20, 1 << 20};
    if (setrlimit(RLIMIT_AS, &none)) fail("setrlimit");
}

static void *idle(void *argument) {
    for (;;) pause();
    return argument;
}

static void do_beside(char *rest) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, idle, rest)) fail("pthread_create");
}

ACTIONS({"take", do_take}, {"beside", do_beside}, {"no_room", do_no_room}, {"exit", do_exit}, {"_exit", do__exit}, {"kill", do_kill}, {"crash", do_crash},
        {"abort", do_abort}, {"exec", do_exec}, {"main_ends", do_main_ends})
