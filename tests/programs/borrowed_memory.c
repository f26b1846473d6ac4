/* Processes that run in the memory of another: a child by vfork, and one whose parent has ended. */
#include "common.h"

#include <sched.h>
#include <sys/wait.h>

static char stacks[2][256 << 10];
static volatile unsigned long count, size;
static volatile int orphan_is_done;

static void take(void) {
    for (unsigned long n = 0; n < count; n++) hold(malloc(opaque(size)), size);
}

static void heed(char *rest) {
    if (sscanf(rest, "%lu %lu", &count, &size) != 2) fail("wants a count and a size");
}

/* The child takes blocks that are its parent's as much as its own, and ends. */
static void do_vfork(char *rest) {
    heed(rest);
    pid_t child = vfork();
    if (!child) {
        take();
        _exit(0);
    }
    if (waitpid(child, NULL, 0) != child) fail("waitpid");
}

static int orphan(void *parent) {
    while (getppid() == *(pid_t *)parent) usleep(1000);
    take();
    orphan_is_done = 1;
    return 0;
}

static pid_t middle_pid;

static int middle(void *argument) {
    middle_pid = getpid();
    if (clone(orphan, stacks[1] + sizeof stacks[1], CLONE_VM, &middle_pid) < 0) return 1;
    return argument != NULL;
}

/* The child of a child in the same memory, which takes its blocks once its own parent has ended. The thread's own memory is the
 * target's, too, so only one of them may be at work at a time. */
static void do_orphan(char *rest) {
    heed(rest);
    orphan_is_done = 0;
    pid_t child = clone(middle, stacks[0] + sizeof stacks[0], CLONE_VM | SIGCHLD, NULL);
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child || status) fail("the child failed");
    while (!orphan_is_done) usleep(1000);
    usleep(100000);
}

ACTIONS({"vfork", do_vfork}, {"orphan", do_orphan})
