/* A cache of blocks by key that lets go of what was used longest ago; its own table takes no memory from the allocator. */
#ifndef LRU_H
#define LRU_H
#include <stddef.h>

#define LRU_KEYS 65536

/* Place 0 is the ring's end: its `older` is the newest key, its `newer` the oldest. Keys begin at 1. */
struct lru {
    unsigned room, held;
    struct {
        void *block;
        unsigned older, newer;
    } places[LRU_KEYS + 1];
};

static void lru_unlink(struct lru *lru, unsigned key) {
    unsigned older = lru->places[key].older, newer = lru->places[key].newer;
    lru->places[older].newer = newer;
    lru->places[newer].older = older;
}

static void lru_link_newest(struct lru *lru, unsigned key) {
    unsigned newest = lru->places[0].older;
    lru->places[key].older = newest;
    lru->places[key].newer = 0;
    lru->places[newest].newer = key;
    lru->places[0].older = key;
}

/* Asks for a key: makes its block if there is none. Gives the block that had to go, if one had. */
static void *lru_ask(struct lru *lru, unsigned key, void *(*make)(void)) {
    key++;
    if (lru->places[key].block) {
        lru_unlink(lru, key);
        lru_link_newest(lru, key);
        return NULL;
    }
    lru->places[key].block = make();
    lru_link_newest(lru, key);
    if (++lru->held <= lru->room) return NULL;
    unsigned oldest = lru->places[0].newer;
    void *gone = lru->places[oldest].block;
    lru_unlink(lru, oldest);
    lru->places[oldest].block = NULL;
    lru->held--;
    return gone;
}
#endif
