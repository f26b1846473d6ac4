/* Blocks that libc's own functions take for the caller. */
#include "common.h"

static FILE *lines;

__attribute__((noinline)) void start(int argc, char **argv) {
    (void)argc, (void)argv;
    static char text[3000];
    memset(text, 'x', sizeof text - 2);
    text[sizeof text - 2] = '\n';
    lines = fmemopen(text, sizeof text - 1, "r");
    if (!lines || getc(lines) != 'x') fail("fmemopen");
    rewind(lines);
}

static void do_strdup(char *rest) {
    (void)rest;
    static char text[10007];
    memset(text, 'x', sizeof text - 1);
    hold(strdup(text), 10007);
    hold(strndup(text, 500), 501);
}

static void do_getline(char *rest) {
    (void)rest;
    char *line = NULL;
    size_t room = 0;
    if (getline(&line, &room, lines) != 2999) fail("getline");
    hold(line, room);
}

static void do_asprintf(char *rest) {
    (void)rest;
    char *text;
    if (asprintf(&text, "%*d", 10006, 7) != 10006) fail("asprintf");
    hold(text, 10007);
    if (asprintf(&text, "short") != 5) fail("asprintf");
    hold(text, 6);
}

ACTIONS({"strdup", do_strdup}, {"getline", do_getline}, {"asprintf", do_asprintf})
