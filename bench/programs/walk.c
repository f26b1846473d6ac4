/* Reads a pinned hash map key by key (BPF_MAP_GET_NEXT_KEY, BPF_MAP_LOOKUP_ELEM), as tools without batch reads do, then
 * once more in batches (BPF_MAP_LOOKUP_BATCH), by one thread: the least that any reader of all elements takes.
 * Says `ELEMENTS WALL_NANOSECONDS MEMLOCK_BYTES BATCHED_ELEMENTS BATCHES_WALL_NANOSECONDS`; memlock as the kernel counts
 * the map's memory in fdinfo. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long bpf(int command, union bpf_attr *attr) { return syscall(SYS_bpf, command, attr, sizeof *attr); }

static unsigned long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (unsigned long)now.tv_sec * 1000000000 + (unsigned long)now.tv_nsec;
}

static unsigned long memlock(long fd) {
    char path[64], line[256];
    unsigned long bytes = 0;
    snprintf(path, sizeof path, "/proc/self/fdinfo/%ld", fd);
    FILE *info = fopen(path, "r");
    while (info && fgets(line, sizeof line, info)) sscanf(line, "memlock: %lu", &bytes);
    if (info) fclose(info);
    return bytes;
}

/* Elements in a batch: as many as memscope asks for. */
enum { BATCH = 4096 };

static unsigned long read_in_batches(long fd) {
    /* Larger than any key or value of LIVE. */
    static char keys[BATCH * 8], values[BATCH * 64];
    unsigned position = 0, next = 0;
    unsigned long elements = 0;
    for (;;) {
        union bpf_attr attr;
        memset(&attr, 0, sizeof attr);
        attr.batch.in_batch = (unsigned long)&position;
        attr.batch.out_batch = (unsigned long)&next;
        attr.batch.keys = (unsigned long)keys;
        attr.batch.values = (unsigned long)values;
        attr.batch.count = BATCH;
        attr.batch.map_fd = (unsigned)fd;
        int ended = bpf(BPF_MAP_LOOKUP_BATCH, &attr) != 0;
        if (ended && errno != ENOENT) return perror("batch"), 0;
        elements += attr.batch.count;
        if (ended) return elements;
        position = next;
    }
}

int main(int count, char **words) {
    if (count != 2) return 2;
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.pathname = (unsigned long)words[1];
    long fd = bpf(BPF_OBJ_GET, &attr);
    if (fd < 0) return perror(words[1]), 1;
    /* Larger than any key or value of ours. */
    static char key[2][64], value[4096];
    static volatile unsigned long sum;
    unsigned long elements = 0, began = now_ns();
    for (;;) {
        memset(&attr, 0, sizeof attr);
        attr.map_fd = (unsigned)fd;
        attr.key = elements ? (unsigned long)key[elements % 2] : 0;
        attr.next_key = (unsigned long)key[(elements + 1) % 2];
        if (bpf(BPF_MAP_GET_NEXT_KEY, &attr)) break;
        elements++;
        memset(&attr, 0, sizeof attr);
        attr.map_fd = (unsigned)fd;
        attr.key = (unsigned long)key[elements % 2];
        attr.value = (unsigned long)value;
        if (!bpf(BPF_MAP_LOOKUP_ELEM, &attr)) sum += (unsigned char)value[0];
    }
    unsigned long walked = now_ns() - began;
    began = now_ns();
    unsigned long batched = read_in_batches(fd);
    printf("%lu %lu %lu %lu %lu\n", elements, walked, memlock(fd), batched, now_ns() - began);
    return 0;
}
