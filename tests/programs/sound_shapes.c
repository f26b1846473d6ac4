/* Shapes that do not leak, or have stopped to. See shape.h. */
#include "shape.h"

#include "lru.h"

/* Caches. A cache that has released nothing yet and still fills at a constant rate is no different from a leak, for anybody who
 * looks from outside; those here slow down or release within the two minutes that they are watched for (`store` apart). */
static struct lru cache;

NOINLINE static void *kept_entry(void) { return malloc(sized(100, 2000)); }

static void cached_from(double at, double mean, unsigned room, unsigned keys, double skew) {
    cache.room = room;
    while (next(&at, mean)) free(lru_ask(&cache, (unsigned)(pow(unit(), skew) * keys), kept_entry));
}

static void cached(double mean, unsigned room, unsigned keys, double skew) { cached_from(0, mean, room, keys, skew); }

static void lru_full(void) {
    unsigned room = (unsigned)pick(50, 500);
    cached(pick(5, 25), room, room * (3 + below(8)), 1);
}

static void lru_hot(void) {
    unsigned room = (unsigned)pick(50, 300);
    cached(pick(5, 25), room, room * (5 + below(20)), 1 + 3 * unit());
}

/* So many keys that each is asked for a few times in two minutes; room for most of them. */
static void lru_filling(void) {
    double mean = pick(10, 40), requests = 120e3 / mean;
    unsigned keys = (unsigned)(requests / pick(3, 8));
    cached(mean, (unsigned)(keys * (0.5 + 0.4 * unit())), keys, 1 + unit());
}

static void bounded_map(void) {
    double mean = pick(10, 40), requests = 120e3 / mean;
    unsigned keys = (unsigned)(requests / pick(2.5, 8));
    cached(mean, keys, keys, 1);
}

/* The same, from some moment on. */
static void late_map(void) {
    double mean = pick(10, 40), from = 1e3 * pick(8, 35), requests = (120e3 - from) / mean;
    unsigned keys = (unsigned)(requests / pick(2.5, 8));
    cached_from(from, mean, keys, keys, 1);
}

/* Fills at a constant rate until it is full, and then replaces the oldest: until then no different from a leak. */
NOINLINE static void *kept_line(void) { return malloc(sized(40, 400)); }
NOINLINE static void *unknowable_line(void) { return malloc(sized(40, 400)); }

static void ring(double mean, double full_after, void *(*line)(void)) {
    static void *lines[65536];
    unsigned place = 0, room = (unsigned)(full_after / mean);
    for (double at = 0; next(&at, mean); place = (place + 1) % room) {
        free(lines[place]);
        lines[place] = line();
    }
}

static void ring_of_lines(void) { ring(pick(5, 50), 1e3 * pick(2, 25), kept_line); }
static void store(void) { ring(pick(20, 100), 1e3 * pick(80, 200), unknowable_line); }

/* Entries that expire a fixed time after they were made. */
static void expiring(void) {
    double mean = pick(10, 80), life = 1e3 * pick(5, 40);
    for (double at = 0; next(&at, mean);) free_at(at + life, kept_entry());
}

/* Start-up and what comes to an end. */
NOINLINE static void *kept_row(void) { return malloc(sized(16, 1000)); }

static void load_tables(double at) {
    double lasts = 1e3 * pick(0.2, 4), until = at + lasts, mean = lasts / pick(500, 5000);
    while (at < until && next(&at, mean)) kept_row();
}

static void startup_tables(void) { load_tables(0); }

/* More of them later. */
static void tables_loaded_later(void) {
    load_tables(0);
    load_tables(1e3 * pick(10, 80));
}

static void idle(void) {
    for (unsigned many = 3 + below(20); many; many--) kept_row();
}

static void leak_that_stops(void) {
    double mean = pick(20, 150), until = 1e3 * pick(20, 45);
    for (double at = 0; at < until && next(&at, mean);) kept_row();
}

/* Memory taken by a high-water mark and never given back: the mark rises ever more slowly. */
NOINLINE static void *kept_chunk(size_t size) { return malloc(size); }

static void arena_in_steps(void) {
    double mean = pick(10, 50), used = 0, step = pick(0.02, 0.2);
    size_t chunk = sized(16 << 10, 1 << 20);
    unsigned chunks = 0;
    for (double at = 0; next(&at, mean);) {
        used = fabs(used + step * (unit() < 0.5 ? 1 : -1));
        for (; used > chunks; chunks++) kept_chunk(chunk);
    }
}

/* Connections are opened when none is idle and kept for the next one. */
NOINLINE static void *kept_connection(void) { return malloc(sized(4096, 65536)); }

static void connection_pool(void) {
    double mean = pick(10, 60), life = mean * pick(10, 80);
    static double busy_until[65536];
    unsigned opened = 0;
    for (double at = 0; next(&at, mean);) {
        unsigned n = 0;
        while (n < opened && busy_until[n] > at) n++;
        if (n == opened) kept_connection(), opened++;
        busy_until[n] = at + exponential(life);
    }
}

/* What is freed sooner or later. */
NOINLINE static void *kept_request(void) { return malloc(sized(32, 8192)); }

static void lives(double mean, double life) {
    for (double at = 0; next(&at, mean);) free_at(at + exponential(life), kept_request());
}

static void churn(void) { lives(pick(3, 20), pick(2, 100)); }
static void sessions(void) { lives(pick(30, 150), 1e3 * pick(2, 12)); }
static void long_sessions(void) { lives(pick(30, 150), 1e3 * pick(15, 40)); }

/* Most are freed at once, some live on. */
static void mixed_lives(void) {
    double mean = pick(10, 60), share = pick(0.02, 0.3), life = 1e3 * pick(5, 40);
    for (double at = 0; next(&at, mean);) free_at(at + exponential(unit() < share ? life : 20), kept_request());
}

static void swinging_sessions(void) {
    double mean = pick(15, 60), life = 1e3 * pick(0.1, 6);
    double period = pick(10e3, 40e3), swing = 0.3 + 0.6 * unit(), phase = unit(), at = 0;
    for (;;) {
        at += exponential(mean / (1 + swing * sin(2 * M_PI * (at / period + phase))));
        wait_until(at);
        free_at(at + exponential(life), kept_request());
    }
}

/* One server, and a queue before it. */
static void queue(void) {
    double mean = pick(10, 60), load = 0.7 + 0.25 * unit(), ready = 0;
    for (double at = 0; next(&at, mean);) {
        ready = fmax(ready, at) + exponential(mean * load);
        free_at(ready, kept_request());
    }
}

static void periodic_flush(void) {
    double mean = pick(10, 50), every = 1e3 * pick(4, 20);
    for (double at = 0; next(&at, mean);) free_at((floor(at / every) + 1) * every, kept_request());
}

/* A collector: garbage goes at the next sweep, what is in use at one of the sweeps after. */
static void sweeps(void) {
    double mean = pick(5, 30), every = 1e3 * pick(3, 12), in_use = 0.2 * unit();
    for (double at = 0; next(&at, mean);) {
        double sweep = floor(at / every) + 1;
        while (unit() < in_use) sweep++;
        free_at(sweep * every, kept_request());
    }
}

/* A pool of places of which a random one is replaced each time by a block of another size. */
static void *pool[4096];
static unsigned places;

NOINLINE static void *kept_object(void) { return malloc(sized(20, 4000)); }

static void fill_pool(void) {
    places = (unsigned)pick(200, 1000);
    for (unsigned n = 0; n < places; n++) pool[n] = kept_object();
}

static void replace(void) {
    double mean = pick(5, 40);
    for (double at = 0; next(&at, mean);) {
        void **place = &pool[below(places)];
        free(*place);
        *place = kept_object();
    }
}

static void fragmentation(void) {
    fill_pool();
    replace();
}

/* Buffers that grow by realloc. */
NOINLINE static void *kept_buffer(void *buffer, size_t size) { return realloc(buffer, size); }

static void vector_that_ends(void) {
    double mean = pick(200, 2000), until = 1e3 * pick(15, 45);
    size_t size = 64, step = sized(64, 8192);
    void *buffer = NULL;
    for (double at = 0; at < until && next(&at, mean);) buffer = kept_buffer(buffer, size += step);
}

static void vector_reused(void) {
    double mean = pick(20, 200);
    for (double at = 0; next(&at, mean);) {
        void *buffer = NULL;
        size_t size = 64;
        for (unsigned doublings = 1 + below(9); doublings; doublings--) buffer = kept_buffer(buffer, size *= 2);
        free_at(at + exponential(mean / 2), buffer);
    }
}

SHAPES({"lru_full", lru_full}, {"lru_hot", lru_hot}, {"lru_filling", lru_filling}, {"bounded_map", bounded_map},
       {"late_map", late_map}, {"ring_of_lines", ring_of_lines}, {"store", store}, {"expiring", expiring},
       {"startup_tables", startup_tables}, {"tables_loaded_later", tables_loaded_later}, {"idle", idle},
       {"leak_that_stops", leak_that_stops}, {"arena_in_steps", arena_in_steps}, {"connection_pool", connection_pool},
       {"churn", churn}, {"sessions", sessions}, {"long_sessions", long_sessions}, {"mixed_lives", mixed_lives},
       {"swinging_sessions", swinging_sessions}, {"queue", queue}, {"periodic_flush", periodic_flush},
       {"sweeps", sweeps}, {"fragmentation", fragmentation}, {"pool_from_before", replace, fill_pool},
       {"vector_that_ends", vector_that_ends}, {"vector_reused", vector_reused})
