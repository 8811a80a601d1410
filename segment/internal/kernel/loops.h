/* Compiled once per instruction set: SET(name) adds the set's suffix, VECTOR is the size
 * of its vectors in bytes. Loops are written so that the compiler vectorises them; where
 * it does not, they use its vector types. Nothing here is specific to one processor. */

/* A vector anywhere in an array of floats, and how many it holds. */
#define FLOATS (VECTOR / 4)
typedef float SET(floats) __attribute__((vector_size(VECTOR), aligned(4), may_alias));

#include "image.h"
#include "cubic.h"
#include "tile.h"
#include "label.h"
#include "head.h"

const kernels SET(kernels) = {
    SET(load),       SET(scan),            SET(extremes), SET(clip),   SET(linear), SET(cubic), SET(across), SET(transpose),
    SET(accumulate), SET(accumulate_half), SET(logits),   SET(winner), SET(top),    SET(last),  SET(settle), SET(sample),
    SET(decide),     SET(paint),           SET(product),
};

#undef SET
#undef FLOATS
#undef VECTOR
