/* Children that are not the target: forked, forked among threads, vforked, spawned. */
#include "common.h"

#include <pthread.h>
#include <spawn.h>
#include <sys/wait.h>

static void *blocks[100];
static volatile int stop;

static void wait_for(pid_t child) {
    int status;
    if (waitpid(child, &status, 0) != child || status) fail("the child failed");
}

static void fill(void) {
    for (unsigned n = 0; n < 100; n++) blocks[n] = hold(malloc(opaque(10007)), 10007);
}

/* The child frees its copies of the parent's blocks and takes its own at the same addresses. */
static void child_works(void) {
    for (unsigned n = 0; n < 100; n++) free(blocks[n]);
    for (unsigned n = 0; n < 500; n++)
        if (!malloc(opaque(9000 + n))) _exit(1);
    void *block = malloc(opaque(100));
    if (!realloc(block, opaque(100000))) _exit(1);
    _exit(0);
}

static void do_fork(char *rest) {
    (void)rest;
    fill();
    for (unsigned n = 0; n < 10; n++) {
        pid_t child = fork();
        if (!child) child_works();
        wait_for(child);
        hold(malloc(opaque(20011)), 20011);
    }
}

static void *allocate(void *argument) {
    while (!stop) free(leave(hold(malloc(opaque(30011)), 30011)));
    return argument;
}

static void do_fork_threads(char *rest) {
    pthread_t threads[4];
    stop = 0;
    for (unsigned n = 0; n < 4; n++)
        if (pthread_create(&threads[n], NULL, allocate, NULL)) fail("pthread_create");
    do_fork(rest);
    stop = 1;
    for (unsigned n = 0; n < 4; n++) pthread_join(threads[n], NULL);
}

static void do_vfork(char *rest) {
    (void)rest;
    fill();
    for (unsigned n = 0; n < 20; n++) {
        pid_t child = vfork();
        if (!child) {
            execl("/bin/true", "true", NULL);
            _exit(1);
        }
        wait_for(child);
        hold(malloc(opaque(20011)), 20011);
    }
}

static void do_spawn(char *rest) {
    (void)rest;
    fill();
    char *arguments[] = {"true", NULL}, *environment[] = {NULL};
    for (unsigned n = 0; n < 20; n++) {
        pid_t child;
        if (posix_spawn(&child, "/bin/true", NULL, NULL, arguments, environment)) fail("posix_spawn");
        wait_for(child);
        hold(malloc(opaque(20011)), 20011);
    }
}

ACTIONS({"fork", do_fork}, {"fork_threads", do_fork_threads}, {"vfork", do_vfork}, {"spawn", do_spawn})
