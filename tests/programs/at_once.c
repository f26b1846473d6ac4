/* Allocates at once: in a constructor, then in main; writes its ledger to the file named and ends with the code named. */
#define OWN_MAIN
#include "common.h"

#include <fcntl.h>

__attribute__((constructor)) static void before_main(void) { hold(malloc(opaque(5003)), 5003); }

int main(int argc, char **argv) {
    for (unsigned n = 0; n < 7; n++) hold(malloc(opaque(10007)), 10007);
    free(leave(hold(malloc(opaque(20011)), 20011)));
    if (argc < 3) fail("at_once LEDGER CODE");
    if (write(1, "hello\n", 6) != 6) fail("write");
    int file = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0600), output = dup(1);
    if (file < 0 || output < 0) fail(argv[1]);
    dup2(file, 1);
    dump_ledger();
    dup2(output, 1);
    _exit(atoi(argv[2]));
}
