/* Loading the library and asking its version takes under 0.1 s; so does the first call that
 * enters Go. usage: load_test LIBRARY */
#include <dlfcn.h>
#include <stdio.h>
#include <time.h>

#include "flare.h"

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
    double start = seconds(), loaded, called;
    void  *library = argc > 1 ? dlopen(argv[1], RTLD_NOW) : NULL;
    const char *(*version)(void);
    flare_status (*set_log)(flare_log_fn, void *, int32_t);
    if (library == NULL) {
        fprintf(stderr, "load_test: failed: %s\n", argc > 1 ? dlerror() : "no library given");
        return 1;
    }
    *(void **)&version = dlsym(library, "flare_version");
    *(void **)&set_log = dlsym(library, "flare_set_log");
    version();
    loaded = seconds() - start;
    set_log(NULL, NULL, 0);
    called = seconds() - start;
    printf("load_test: version after %.4f s, first call done after %.4f s\n", loaded, called);
    if (called > 0.1)
        fprintf(stderr, "load_test: failed: loading took %.3f s, 0.1 s is allowed\n", called);
    return called > 0.1;
}
