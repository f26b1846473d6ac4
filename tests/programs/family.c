/* A process whose children speak the programs' language too, each with a ledger of its own: what is told to `tell N …` is told
 * to the Nth child, and its answer passed on. Children have children in the same way.
 *
 * `fork` and `spawn` (posix_spawn of this program) make a child and say its pid; `exec` begins anew as this program;
 * `brief N` makes N children that end within a millisecond; `crowd N` makes N that do nothing, in this process's memory so that
 * they cost little, until `disperse`; `thread` takes a block in a thread that then ends. */
#include "common.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#define MOST 256
static struct {
    pid_t pid;
    int to, from;
} child[MOST];
static unsigned children;

static void two_pipes(int to[2], int from[2]) {
    if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC)) fail("pipe");
}

static void born(pid_t pid, int to[2], int from[2]) {
    close(to[0]);
    close(from[1]);
    child[children].pid = pid;
    child[children].to = to[1];
    child[children++].from = from[0];
    say("pid %d", pid);
}

static void do_fork(char *rest) {
    int to[2], from[2];
    if (children == MOST) fail("too many children");
    two_pipes(to, from);
    pid_t pid = fork();
    if (!pid) {
        dup2(to[0], 0);
        dup2(from[1], 1);
        for (unsigned n = 0; n < children; n++) close(child[n].to), close(child[n].from);
        close(to[1]);
        children = 0;
        memset(ledger, 0, sizeof ledger);
        if (*rest) prctl(PR_SET_NAME, rest);
        obey();
        exit(0);
    }
    born(pid, to, from);
}

static void do_spawn(char *rest) {
    (void)rest;
    int to[2], from[2];
    two_pipes(to, from);
    char *arguments[] = {"family", NULL}, *environment[] = {NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, to[0], 0);
    posix_spawn_file_actions_adddup2(&actions, from[1], 1);
    pid_t pid;
    if (posix_spawn(&pid, "/proc/self/exe", &actions, NULL, arguments, environment)) fail("posix_spawn");
    posix_spawn_file_actions_destroy(&actions);
    char line[64];
    unsigned length = 0;
    /* It says `ready`. */
    while (read(from[0], line + length, 1) == 1 && line[length] != '\n') length++;
    born(pid, to, from);
}

static void do_exec(char *rest) {
    (void)rest;
    char *arguments[] = {"family", NULL}, *environment[] = {NULL};
    execve("/proc/self/exe", arguments, environment);
    fail("execve");
}

/* Passes lines on until the child is done; `ready` is said by one that has exec'd. */
static void do_tell(char *rest) {
    char *line;
    unsigned n = (unsigned)strtoul(rest, &line, 10);
    if (n >= children || *line++ != ' ') fail("tell N …");
    size_t length = strlen(line);
    line[length] = '\n';
    if (write(child[n].to, line, length + 1) != (ssize_t)length + 1) fail("tell");
    line[length] = 0;
    int dump = strstr(line, "dump") != NULL;
    for (;;) {
        char answer[256];
        unsigned got = 0;
        while (got < sizeof answer - 1 && read(child[n].from, answer + got, 1) == 1 && answer[got] != '\n') got++;
        answer[got] = 0;
        if (!got) fail("the child says nothing");
        if (!strcmp(answer, "done") || !strcmp(answer, "ready")) return;
        say("%s", answer);
        if (dump && !strcmp(answer, "end") && !strncmp(line, "dump", 4)) return;
    }
}

/* The child ends, by itself. */
static void do_end(char *rest) {
    unsigned n = (unsigned)strtoul(rest, NULL, 10);
    if (n >= children) fail("end N");
    close(child[n].to);
    int status;
    if (waitpid(child[n].pid, &status, 0) != child[n].pid || status) fail("the child failed");
}

static void do_take(char *rest) {
    unsigned many;
    size_t size;
    if (sscanf(rest, "%u %zu", &many, &size) != 2) fail("take COUNT SIZE");
    for (; many; many--) hold(malloc(opaque(size)), size);
}

static void *inherited[50];

static void do_fill(char *rest) {
    (void)rest;
    for (unsigned n = 0; n < 50; n++) inherited[n] = hold(malloc(opaque(5003)), 5003);
}

/* What a child does with its copies of the parent's blocks: they are in no ledger of its own. */
static void do_give_inherited(char *rest) {
    (void)rest;
    for (unsigned n = 0; n < 50; n++) free(inherited[n]);
}

static void do_brief(char *rest) {
    unsigned many = (unsigned)strtoul(rest, NULL, 10);
    for (; many; many--) {
        pid_t pid = fork();
        if (!pid) {
            prctl(PR_SET_NAME, "mayfly");
            if (!malloc(opaque(7001))) _exit(1);
            _exit(0);
        }
        int status;
        if (waitpid(pid, &status, 0) != pid || status) fail("the child failed");
    }
}

#define CROWD_STACK 4096
static pid_t *crowd;
static unsigned crowded;

static int linger(void *unused) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) pause();
    return unused != NULL;
}

static void do_crowd(char *rest) {
    unsigned many = (unsigned)strtoul(rest, NULL, 10);
    crowd = mmap(NULL, many * sizeof *crowd, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *stacks = mmap(NULL, (size_t)many * CROWD_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (crowd == MAP_FAILED || stacks == MAP_FAILED) fail("mmap");
    for (; crowded < many; crowded++) {
        crowd[crowded] = clone(linger, stacks + (crowded + 1) * (size_t)CROWD_STACK, CLONE_VM | SIGCHLD, NULL);
        if (crowd[crowded] < 0) fail("clone");
    }
}

static void do_disperse(char *rest) {
    (void)rest;
    for (; crowded; crowded--) {
        int status;
        kill(crowd[crowded - 1], SIGKILL);
        if (waitpid(crowd[crowded - 1], &status, 0) != crowd[crowded - 1]) fail("waitpid");
    }
}

/* Hears nothing any more, not even the end of its input. */
static void do_stay(char *rest) {
    (void)rest;
    say("done");
    for (;;) pause();
}

/* As `stay`, but has a child, which stays too, when SIGUSR1 comes. */
static void do_stay_and_fork(char *rest) {
    (void)rest;
    sigset_t wanted;
    int signal;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGUSR1);
    sigprocmask(SIG_BLOCK, &wanted, NULL);
    say("done");
    sigwait(&wanted, &signal);
    fork();
    for (;;) pause();
}

static void *in_thread(void *unused) {
    hold(malloc(opaque(11003)), 11003);
    return unused;
}

static void do_thread(char *rest) {
    (void)rest;
    pthread_t thread;
    if (pthread_create(&thread, NULL, in_thread, NULL)) fail("pthread_create");
    pthread_join(thread, NULL);
}

ACTIONS({"fork", do_fork}, {"spawn", do_spawn}, {"exec", do_exec}, {"tell", do_tell}, {"end", do_end}, {"take", do_take},
        {"fill", do_fill}, {"give_inherited", do_give_inherited}, {"brief", do_brief}, {"thread", do_thread},
        {"crowd", do_crowd}, {"disperse", do_disperse},
        {"stay", do_stay}, {"stay_and_fork", do_stay_and_fork})
