/* A process with many executable mappings: copies of a library it is told of, one below another name each. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

int main(int count, char **names) {
    char line[16];
    free(malloc(1));
    for (int n = 1; n < count; n++) {
        if (!dlopen(names[n], RTLD_NOW | RTLD_LOCAL)) {
            fprintf(stderr, "%s\n", dlerror());
            return 1;
        }
    }
    puts("ready");
    fflush(stdout);
    return fgets(line, sizeof line, stdin) != NULL;
}
