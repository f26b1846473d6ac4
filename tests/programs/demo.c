/* The demo's program: a little server that answers requests and loses memory in two of its layers, each loss with a size of its own.
 *
 * Prints `ready`, then answers COUNT requests for each line `COUNT` on standard input and prints what it holds on purpose and
 * what it lost:
 *     lost 3 blocks of 10007 bytes in copy_header
 * Ends at the end of its input.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

enum { HEADER_SIZE = 10007, SESSION_SIZE = 20011, BODY_SIZE = 30011, LOG_STEP = 64 };

static unsigned long lost_headers, lost_sessions;
static volatile unsigned char sink;

/* Uses a block, so that the compiler keeps it. */
static NOINLINE void touch(unsigned char *block, size_t size)
{
    if (!block) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    memset(block, 0x5a, size);
    sink = block[size - 1];
}

/* Every header is copied; the copy of a request without a body is never freed. */
static NOINLINE unsigned char *copy_header(unsigned long request)
{
    unsigned char *header = malloc(HEADER_SIZE);
    touch(header, HEADER_SIZE);
    header[0] = (unsigned char)request;
    return header;
}

static NOINLINE int parse_request(unsigned long request)
{
    unsigned char *header = copy_header(request);
    int has_body = request % 2 == 0;
    if (has_body)
        free(header);
    else
        lost_headers++;
    return has_body;
}

/* A body lives as long as its request. */
static NOINLINE void read_body(void)
{
    unsigned char *body = malloc(BODY_SIZE);
    touch(body, BODY_SIZE);
    free(body);
}

/* Every third session is replaced in the table without having been freed. */
static unsigned char *table[2];

static NOINLINE unsigned char *open_session(void)
{
    unsigned char *session = calloc(1, SESSION_SIZE);
    touch(session, SESSION_SIZE);
    return session;
}

static NOINLINE void keep_session(unsigned long request)
{
    unsigned char **slot = &table[request % 2];
    if (*slot && request % 3 == 2)
        lost_sessions++;
    else
        free(*slot);
    *slot = open_session();
}

/* Grows a line step by step, then lets go of it. */
static NOINLINE void write_log(unsigned long request)
{
    unsigned char *line = NULL;
    for (size_t size = LOG_STEP; size <= 8 * LOG_STEP; size += LOG_STEP) {
        unsigned char *grown = realloc(line, size);
        touch(grown, size);
        line = grown;
    }
    line[0] = (unsigned char)request;
    sink = line[0];
    free(line);
}

static NOINLINE void serve_request(unsigned long request)
{
    if (parse_request(request))
        read_body();
    keep_session(request);
    write_log(request);
}

static NOINLINE void serve(unsigned long count)
{
    for (unsigned long request = 0; request < count; request++)
        serve_request(request);
    sink = (unsigned char)count;
}

int main(void)
{
    /* Buffers of our own: standard input and output take no memory while the program is traced. */
    static char out[BUFSIZ], in[BUFSIZ], line[64];
    setvbuf(stdout, out, _IOLBF, sizeof out);
    setvbuf(stdin, in, _IOFBF, sizeof in);
    printf("ready\n");
    while (fgets(line, sizeof line, stdin)) {
        serve(strtoul(line, NULL, 10));
        printf("lost %lu blocks of %d bytes in copy_header\n", lost_headers, HEADER_SIZE);
        printf("lost %lu blocks of %d bytes in open_session\n", lost_sessions, SESSION_SIZE);
        printf("kept %d blocks of %d bytes in open_session\n", !!table[0] + !!table[1], SESSION_SIZE);
        printf("done\n");
    }
    return 0;
}
