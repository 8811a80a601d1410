/* Deflate (RFC 1951) decoded in a stream. The decoder keeps its place between calls, so
 * that a file of any size passes through two small buffers and can be given up between
 * any two of them. */
#ifndef IMAGEIO_INFLATE_H
#define IMAGEIO_INFLATE_H

#include <stddef.h>
#include <stdint.h>

enum {
    INFLATE_HISTORY = 32768, /* how far back a match may reach */
    INFLATE_MARGIN = 320,    /* bytes behind out_end that may be written: the longest match, and copies in words */
    INFLATE_AHEAD = 640,     /* input wanted before a block's header is begun; none is longer */

    INFLATE_LITLEN_BITS = 11, INFLATE_LITLEN_SIZE = 2342, /* entries of a table and its subtables at most: zlib's */
    INFLATE_DIST_BITS = 8, INFLATE_DIST_SIZE = 402,       /* examples/enough.c for 288 and 30 codes of 15 bits    */
};

/* What inflate returns. */
enum {
    INFLATE_INPUT = 0,     /* give more input behind what is left, or say that there is none */
    INFLATE_OUTPUT = 1,    /* out has reached out_end */
    INFLATE_END = 2,       /* the last block has ended; in is at the first byte behind it */
    INFLATE_TRUNCATED = 3, /* the input ends too early */
    INFLATE_DAMAGED = 4,   /* no deflate data */
};

typedef struct {
    const uint8_t *in, *in_end; /* the input left */
    const uint8_t *history;     /* first byte that a match may reach; from there to out all is output */
    uint8_t *out, *out_end;     /* INFLATE_MARGIN writable bytes lie behind out_end */

    /* The decoder's own; all zero at the start. */
    uint64_t bits;   /* input bits not yet used, lowest first */
    uint32_t count;  /* how many; below 8 between calls */
    uint32_t absent; /* bytes of zeros taken for input behind its end */
    uint32_t state, last;
    uint32_t stored; /* bytes left of a stored block */
    uint32_t litlen[INFLATE_LITLEN_SIZE], dist[INFLATE_DIST_SIZE];
} inflater;

/* Decodes until one of the above happens. whole says that nothing follows in_end. */
int inflate_run(inflater *s, int whole);

#endif
