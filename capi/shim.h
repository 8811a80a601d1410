/* What the public functions of all files share. The version script keeps these names inside
 * the library. */
#ifndef CAPI_SHIM_H
#define CAPI_SHIM_H

#include <signal.h>
#include <stddef.h>

#include "flare.h"

#define LIBRARY_VERSION "0.1.0" /* version_test.go: equal to segment.Version */

/* Size of flare_volume in the first published flare.h. */
enum { EDGE_VOLUME_FIRST = offsetof(flare_volume, direction) + 9 * sizeof(double) };

extern volatile sig_atomic_t edge_forked;

flare_status edge_keep(flare_status status, char **message);
__attribute__((format(printf, 2, 3)))
flare_status edge_fail(flare_status status, const char *format, ...);
flare_status edge_take(void *dst, size_t size, size_t first, const void *src,
                       const char *function, const char *type);
void edge_init(void *options, size_t struct_size);

/* The checks that open every function that enters Go. */
#define REFUSE_FORKED()                                                                   \
    do {                                                                                  \
        if (edge_forked)                                                                  \
            return edge_fail(FLARE_ERR_FORKED,                                            \
                        "%s: libflare was loaded before fork() and cannot be used in "    \
                        "the child; load it after, or start processes with exec "         \
                        "(Python: spawn)", __func__);                                     \
    } while (0)
#define REFUSE_NULL(pointer)                                                              \
    do {                                                                                  \
        if ((pointer) == NULL)                                                            \
            return edge_fail(FLARE_ERR_ARGUMENT, "%s: %s is NULL", __func__, #pointer);   \
    } while (0)
#define REFUSE_NULL_HANDLE(handle)                                                        \
    do {                                                                                  \
        if ((handle) == NULL)                                                             \
            return edge_fail(FLARE_ERR_HANDLE, "%s: %s is NULL", __func__, #handle);      \
    } while (0)
#define REFUSE_RESERVED(copy)                                                             \
    do {                                                                                  \
        if ((copy).reserved != 0)                                                         \
            return edge_fail(FLARE_ERR_VERSION,                                           \
                        "%s: the reserved field of the options is %d, must be 0 for "     \
                        "libflare " LIBRARY_VERSION, __func__, (int)(copy).reserved);     \
    } while (0)

#define TAKE(copy, first, src, type)                                                      \
    do {                                                                                  \
        flare_status taken_ = edge_take(&(copy), sizeof(copy), first, src, __func__, type);\
        if (taken_ != FLARE_OK)                                                           \
            return taken_;                                                                \
    } while (0)

#endif
