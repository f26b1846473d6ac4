/* Shapes that leak. Accelerated: a leak here loses a block every few seconds at least, not every few hours. See shape.h. */
#include "shape.h"

#include "lru.h"

/* A block lost every now and then, of sizes in a range. */
NOINLINE static void *lost_record(size_t size) {
    lost();
    return malloc(size);
}

static void lose_at(double mean_ms, double from, double to) {
    for (double at = 0; next(&at, mean_ms);) lost_record(sized(from, to));
}

static void steady_small(void) { lose_at(pick(20, 200), 16, 512); }
static void steady_large(void) { lose_at(pick(500, 1500), 256 << 10, 2 << 20); }
static void rare(void) { lose_at(pick(2000, 4000), 16, 64 << 10); }

static void bursty(void) {
    double every = pick(4000, 8000), at = 0;
    unsigned most = 10 + below(50);
    for (;;) {
        at += every * (0.7 + 0.6 * unit());
        for (unsigned many = 5 + below(most); many; many--) {
            wait_until(at += exponential(8));
            lost_record(sized(32, 4096));
        }
    }
}

/* Many threads serve; one of them takes a path on which the request is not freed. */
static double request_every, request_life;

NOINLINE static void *lost_request(void) { return malloc(sized(64, 8192)); }

NOINLINE static void serve(uintptr_t number) {
    chance = number * 0x9e3779b97f4a7c15u ^ seed;
    for (double at = 0;;) {
        sleep_until(at += exponential(request_every));
        void *request = lost_request();
        sleep_until(at += exponential(request_life));
        if (number == 1)
            lost();
        else
            free(request);
    }
}

static void *serve_in_thread(void *number) {
    serve((uintptr_t)number);
    return NULL;
}

static void one_thread_of_many(void) {
    request_every = pick(60, 200);
    request_life = pick(1, 40);
    for (uintptr_t number = 3 + below(5); number; number--) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve_in_thread, (void *)number)) fail("pthread_create");
    }
}

/* A cache that forgets to free some of what it lets go. */
static struct lru cache;

NOINLINE static void *lost_entry(void) { return malloc(sized(100, 2000)); }

static void behind_cache(void) {
    cache.room = (unsigned)pick(50, 300);
    unsigned keys = cache.room * (3 + below(8));
    double mean = pick(10, 40), share = pick(0.05, 0.3);
    for (double at = 0; next(&at, mean);) {
        void *gone = lru_ask(&cache, below(keys), lost_entry);
        if (gone && unit() < share)
            lost();
        else
            free(gone);
    }
}

/* Items that nobody takes out again, and the vector that holds them. */
NOINLINE static void *lost_item(size_t size) {
    lost();
    return malloc(size);
}

NOINLINE static void *kept_vector(void *vector, size_t size) { return realloc(vector, size); }

static void container(void) {
    double mean = pick(20, 150), factor = pick(1.1, 2);
    size_t room = 0, count = 0;
    void **items = NULL;
    for (double at = 0; next(&at, mean);) {
        if (count == room) {
            room = (size_t)((double)room * factor) + 4;
            items = kept_vector(items, room * sizeof *items);
        }
        items[count++] = lost_item(sized(24, 200));
    }
}

/* Some requests take a path on which they are not freed. */
NOINLINE static void *lost_message(size_t size) { return malloc(size); }

static void serve_one(double at, double share, double life) {
    size_t size = sized(32, 4096);
    void *message = lost_message(size);
    if (unit() < share)
        lost();
    else
        free_at(at + exponential(life), message);
}

static void some_requests(void) {
    double mean = pick(8, 40), share = pick(0.02, 0.3), life = pick(2, 200);
    for (double at = 0; next(&at, mean);) serve_one(at, share, life);
}

/* The same under a load that swings. */
static void swinging_load(void) {
    double mean = pick(10, 60), share = pick(0.05, 1), life = pick(2, 200);
    double period = pick(10e3, 40e3), swing = 0.3 + 0.6 * unit(), phase = unit();
    for (double at = 0;; wait_until(at)) {
        double load = 1 + swing * sin(2 * M_PI * (at / period + phase));
        at += exponential(mean / load);
        wait_until(at);
        serve_one(at, share, life);
    }
}

/* From some moment on twice as fast. */
static void double_speed(void) {
    double mean = pick(50, 400), faster = 1e3 * pick(30, 90);
    for (double at = 0; next(&at, at < faster ? mean : mean / 2);) lost_record(sized(16, 2048));
}

/* A path that is first taken after a while. */
static void late(void) {
    double mean = pick(20, 200), at = 1e3 * pick(8, 30);
    while (next(&at, mean)) lost_record(sized(16, 2048));
}

/* A vector of numbers without an end: by steps, or by a share of what it has (CPython's lists: an eighth). */
NOINLINE static void *lost_vector(void *vector, size_t size) { return realloc(vector, size); }

static void endless_vector(void) {
    double growth = unit() < 0.5 ? 1 : pick(1.05, 1.25), mean = pick(2, 20);
    size_t step = (size_t)pick(50, 200), room = 0, count = 0;
    uint64_t *numbers = NULL;
    for (double at = 0; next(&at, mean);) {
        if (count == room) {
            room = (size_t)((double)room * growth) + step;
            numbers = lost_vector(numbers, room * sizeof *numbers);
        }
        numbers[count++] = draw();
    }
}

/* A list of several kinds of blocks at a time. */
NOINLINE static void *lost_list(void) { return malloc(48); }
NOINLINE static void *lost_node(size_t size) { return malloc(size); }

static void lists(void) {
    double mean = pick(100, 400);
    for (double at = 0; next(&at, mean);) {
        lost_list();
        lost();
        for (unsigned nodes = 1 + below(6); nodes; nodes--) {
            size_t size = sized(24, 300);
            lost_node(size);
            lost();
        }
    }
}

/* By other functions than malloc. */
NOINLINE static void *lost_table(size_t size) { return calloc(1, size); }
NOINLINE static void *lost_name(void) { return strdup("a name that is copied and never freed"); }
NOINLINE static void *lost_page(size_t size) {
    void *page = NULL;
    return posix_memalign(&page, 64, size) ? NULL : page;
}

static void other_functions(void) {
    double mean = pick(20, 120);
    for (double at = 0; next(&at, mean);) {
        size_t size = sized(16, 4096);
        switch (below(3)) {
        case 0: lost_table(size); break;
        case 1: lost_name(); break;
        default: lost_page(size);
        }
        lost();
    }
}

SHAPES({"steady_small", steady_small}, {"steady_large", steady_large}, {"rare", rare}, {"bursty", bursty},
       {"one_thread_of_many", one_thread_of_many}, {"behind_cache", behind_cache}, {"container", container},
       {"some_requests", some_requests}, {"swinging_load", swinging_load}, {"double_speed", double_speed}, {"late", late},
       {"endless_vector", endless_vector}, {"lists", lists}, {"other_functions", other_functions})
