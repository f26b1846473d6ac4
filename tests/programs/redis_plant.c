/* A redis module with a leak put in. Built with -shared -fPIC.
 *
 * `PLANT.KEEP SIZE` serves a request and forgets what it took by malloc, `PLANT.KEEPBYREDIS SIZE` what it took from redis's own
 * allocator; `PLANT.PASS SIZE` does the same work and gives all of it back. What is needed of redis's module interface is
 * declared here from its documentation. */
#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline, noclone))

struct context;
struct text;
typedef int command(struct context *, struct text **, int);

static int (*create_command)(struct context *, const char *, command *, const char *, int, int, int);
static int (*set_attributes)(struct context *, const char *, int, int);
static int (*reply_number)(struct context *, long long);
static int (*number_of)(const struct text *, long long *);
static void *(*redis_alloc)(size_t);
static void (*redis_free)(void *);

static volatile unsigned char sink;

static void use(unsigned char *block, size_t size) {
    memset(block, 0x5a, size);
    sink = block[size - 1];
}

NOINLINE static void *copy_argument(size_t size) {
    unsigned char *copy = malloc(size);
    use(copy, size);
    return copy;
}

NOINLINE static void *copy_by_redis(size_t size) {
    unsigned char *copy = redis_alloc(size);
    use(copy, size);
    return copy;
}

/* The same for every request: what it takes is given back. */
NOINLINE static void work(size_t size) {
    unsigned char *scratch = malloc(size * 2);
    use(scratch, size * 2);
    free(scratch);
}

static size_t size_of(struct text **arguments, int count) {
    long long size = 0;
    if (count != 2 || number_of(arguments[1], &size) || size < 1) size = 1;
    return (size_t)size;
}

static int keep(struct context *context, struct text **arguments, int count) {
    size_t size = size_of(arguments, count);
    work(size);
    copy_argument(size);
    return reply_number(context, (long long)size);
}

static int keep_by_redis(struct context *context, struct text **arguments, int count) {
    size_t size = size_of(arguments, count);
    work(size);
    copy_by_redis(size);
    return reply_number(context, (long long)size);
}

static int pass(struct context *context, struct text **arguments, int count) {
    size_t size = size_of(arguments, count);
    work(size);
    free(copy_argument(size));
    redis_free(copy_by_redis(size));
    return reply_number(context, (long long)size);
}

/* The first word of a context is the function that names all others. */
int RedisModule_OnLoad(struct context *context, struct text **arguments, int count) {
    int (*get)(const char *, void *) = *(int (**)(const char *, void *))context;
    (void)arguments, (void)count;
    if (get("RedisModule_CreateCommand", &create_command) || get("RedisModule_SetModuleAttribs", &set_attributes) ||
        get("RedisModule_ReplyWithLongLong", &reply_number) || get("RedisModule_StringToLongLong", &number_of) ||
        get("RedisModule_Alloc", &redis_alloc) || get("RedisModule_Free", &redis_free))
        return 1;
    set_attributes(context, "plant", 1, 1);
    return create_command(context, "plant.keep", keep, "readonly", 0, 0, 0) ||
           create_command(context, "plant.keepbyredis", keep_by_redis, "readonly", 0, 0, 0) ||
           create_command(context, "plant.pass", pass, "readonly", 0, 0, 0);
}
