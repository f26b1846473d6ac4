/* Functions shaped like allocators' ones. Built as a shared object under many options; the sink keeps work from going. */
#include <stddef.h>

volatile long sink;
extern void note(long value);
void note(long value) { sink += value; }

/* Fast path and slow path behind a comparison, as jemalloc. */
void *grab(size_t size) {
    if (size > 4096) {
        note((long)size);
        return (void *)(size | 1);
    }
    return (void *)(size + 16);
}

/* Needs a frame, as glibc. */
void *grab_many(size_t count, size_t size) {
    size_t product = count * size;
    note((long)product);
    note((long)count);
    return (void *)(product + size);
}

/* Moves its arguments before anything else, as mimalloc. */
extern void *grab_inner(void *heap, size_t size);
void *grab_inner(void *heap, size_t size) {
    note((long)size);
    return heap;
}
void *grab_moved(size_t size) { return grab_inner((void *)&sink, size); }

/* The NULL test of every free. */
void release(void *pointer) {
    if (!pointer)
        return;
    note((long)pointer);
    note(1);
}

/* A loop whose head is the NULL test. */
struct node { struct node *next; };
void release_chain(struct node *node) {
    while (node) {
        struct node *next = node->next;
        note((long)node);
        node = next;
    }
}

/* A loop that may begin at the first instruction. */
void *grab_aligned(size_t alignment, size_t size) {
    while (alignment & (alignment - 1))
        alignment++;
    return (void *)(alignment + size);
}

/* A switch, dense enough for a table, in a loop. */
void *regrab(void *pointer, size_t size) {
    size_t left = size & 7, sum = (size_t)pointer;
    for (;;) {
        switch (left) {
        case 0: return (void *)sum;
        case 1: sum += 3; note(5); break;
        case 2: sum ^= 7; note(4); break;
        case 3: sum *= 5; note(9); break;
        case 4: sum -= 1; note(2); break;
        case 5: sum += 8; note(1); break;
        case 6: sum ^= 1; note(8); break;
        case 7: sum *= 3; note(7); break;
        }
        left--;
    }
}
