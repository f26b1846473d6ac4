// thread_local objects that allocate when a thread first touches them and free when it ends.
#include "common.h"

#include <pthread.h>

struct holder {
    void *block;
    holder() : block(hold(::operator new(opaque(10007)), 10007)) {}
    ~holder() { ::operator delete(leave(block)); }
};

static thread_local holder mine;

static void *touch(void *) {
    if (!mine.block) fail("no block");
    hold(::operator new(opaque(20011)), 20011);
    return nullptr;
}

static void do_touch(char *) {
    for (int n = 0; n < 50; n++) {
        pthread_t thread;
        if (pthread_create(&thread, nullptr, touch, nullptr)) fail("pthread_create");
        pthread_join(thread, nullptr);
    }
}

ACTIONS({"touch", do_touch})
