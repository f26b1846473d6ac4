/* Loads, uses and unloads a library that allocates; `namespace` loads it with a libc of its own. */
#include "common.h"

#include <dlfcn.h>

static void *library;
static void *(*take)(size_t size);
static void (*give)(void *block);

static void resolve(void) {
    if (!library) fail(dlerror());
    take = (void *(*)(size_t))dlsym(library, "lib_take");
    give = (void (*)(void *))dlsym(library, "lib_give");
    if (!take || !give) fail("dlsym");
}

static void do_open(char *path) {
    library = dlopen(path, RTLD_NOW);
    resolve();
}

static void do_namespace(char *path) {
    library = dlmopen(LM_ID_NEWLM, path, RTLD_NOW);
    resolve();
}

static void do_take(char *rest) {
    size_t size = strtoul(rest, NULL, 10);
    for (unsigned n = 0; n < 5; n++) hold(take(size), size);
    give(leave(hold(take(size), size)));
}

static void do_close(char *rest) {
    (void)rest;
    if (dlclose(library)) fail("dlclose");
}

/* Of a name that a library may have, too. */
__attribute__((noinline)) void *pool_get(size_t size) { return malloc(size); }

static void do_pool(char *rest) {
    size_t size = strtoul(rest, NULL, 10);
    hold(pool_get(size), size);
}

ACTIONS({"pool", do_pool}, {"open", do_open}, {"namespace", do_namespace}, {"take", do_take}, {"close", do_close})
