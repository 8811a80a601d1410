/* Loops from logits to labels. */

static inline __attribute__((always_inline)) void SET(combine)(float *restrict low, const float *const rows[4],
                                                              const float w[4], int64_t shift, int64_t n) {
    const float *restrict a = rows[0] + shift, *restrict b = rows[1] + shift, *restrict c = rows[2] + shift,
                *restrict d = rows[3] + shift;
    float wa = w[0], wb = w[1], wc = w[2], wd = w[3];
    for (int64_t x = 0; x < n; x++) low[x] = wa * a[x] + wb * b[x] + wc * c[x] + wd * d[x];
    low[n] = low[n - 1]; /* the right neighbour of the last voxel, with weight 0 */
}

static void SET(logits)(float *restrict out, float *restrict low, const float *const rows[4], const float w[4],
                        int64_t n_low, int64_t n_out, const int32_t *restrict x0, const float *restrict wx) {
    SET(combine)(low, rows, w, 0, n_low);
    for (int64_t x = 0; x < n_out; x++) out[x] = low[x0[x]] + wx[x] * (low[x0[x] + 1] - low[x0[x]]);
}

static void SET(argmax)(uint16_t *restrict labels, float *restrict best, float *restrict low, const float *const rows[4],
                        const float w[4], int64_t class_stride, int64_t classes, int64_t n_low, int64_t n_out,
                        const int32_t *restrict x0, const float *restrict wx) {
    SET(logits)(best, low, rows, w, n_low, n_out, x0, wx);
    for (int64_t x = 0; x < n_out; x++) labels[x] = 0;
    for (int64_t c = 1; c < classes; c++) {
        SET(combine)(low, rows, w, c * class_stride, n_low);
        for (int64_t x = 0; x < n_out; x++) {
            float v = low[x0[x]] + wx[x] * (low[x0[x] + 1] - low[x0[x]]);
            labels[x] = v > best[x] ? (uint16_t)c : labels[x]; /* the first of equals wins, as numpy's argmax */
            best[x] = v > best[x] ? v : best[x];
        }
    }
}

static void SET(regions)(uint16_t *restrict labels, float *restrict low, const float *const rows[4], const float w[4],
                         int64_t class_stride, int64_t classes, int64_t n_low, int64_t n_out, const int32_t *restrict x0,
                         const float *restrict wx, const uint16_t *restrict values) {
    for (int64_t x = 0; x < n_out; x++) labels[x] = 0;
    for (int64_t c = 0; c < classes; c++) {
        SET(combine)(low, rows, w, c * class_stride, n_low);
        for (int64_t x = 0; x < n_out; x++)
            labels[x] = low[x0[x]] + wx[x] * (low[x0[x] + 1] - low[x0[x]]) > 0 ? values[c] : labels[x];
    }
}

/* The label of the largest of several logits, and the last that is above 0, for a block
 * of voxels that stays in the first-level cache. */
#define LABEL_BLOCK 256

static inline __attribute__((always_inline)) void SET(winner_block)(uint16_t *restrict labels, const float *restrict x,
                                                                   int64_t class_stride, int64_t classes, const int64_t n) {
    float best[LABEL_BLOCK];
    int32_t label[LABEL_BLOCK];
    for (int64_t i = 0; i < n; i++) best[i] = x[i], label[i] = 0;
    for (int64_t c = 1; c < classes; c++) {
        const float *restrict v = x + c * class_stride;
        for (int64_t i = 0; i < n; i++) {
            label[i] = v[i] > best[i] ? (int32_t)c : label[i]; /* the first of equals wins, as numpy's argmax */
            best[i] = v[i] > best[i] ? v[i] : best[i];
        }
    }
    for (int64_t i = 0; i < n; i++) labels[i] = (uint16_t)label[i];
}

static void SET(winner)(uint16_t *labels, const float *x, int64_t class_stride, int64_t classes, int64_t n) {
    for (; n >= LABEL_BLOCK; n -= LABEL_BLOCK, labels += LABEL_BLOCK, x += LABEL_BLOCK)
        SET(winner_block)(labels, x, class_stride, classes, LABEL_BLOCK);
    SET(winner_block)(labels, x, class_stride, classes, n);
}

static inline __attribute__((always_inline)) void SET(last_block)(uint16_t *restrict labels, const float *restrict x,
                                                                 int64_t class_stride, int64_t classes, const int64_t n) {
    int32_t label[LABEL_BLOCK];
    for (int64_t i = 0; i < n; i++) label[i] = 0;
    for (int64_t c = 0; c < classes; c++) {
        const float *restrict v = x + c * class_stride;
        for (int64_t i = 0; i < n; i++) label[i] = v[i] > 0 ? (int32_t)c + 1 : label[i];
    }
    for (int64_t i = 0; i < n; i++) labels[i] = (uint16_t)label[i];
}

static void SET(last)(uint16_t *labels, const float *x, int64_t class_stride, int64_t classes, int64_t n) {
    for (; n >= LABEL_BLOCK; n -= LABEL_BLOCK, labels += LABEL_BLOCK, x += LABEL_BLOCK)
        SET(last_block)(labels, x, class_stride, classes, LABEL_BLOCK);
    SET(last_block)(labels, x, class_stride, classes, n);
}

#undef LABEL_BLOCK

static int64_t SET(settle)(kernel_run *restrict runs, uint16_t *restrict cell, const uint16_t *restrict a,
                           const uint16_t *restrict b, const uint16_t *restrict c, const uint16_t *restrict d, int64_t n,
                           int32_t between, const int32_t *restrict first, int64_t *unsure) {
    for (int64_t x = 0; x < n; x++)
        cell[x] = ((a[x] == b[x]) & (a[x] == c[x]) & (a[x] == d[x])) ? a[x] : KERNEL_UNSURE;
    if (between) /* the last cell has no right neighbour */
        for (int64_t x = 0; x < n - 1; x++) cell[x] = cell[x] == cell[x + 1] ? cell[x] : KERNEL_UNSURE;
    int64_t count = 0, x = 0;
    *unsure = 0;
    while (x < n) {
        int64_t from = x++;
        for (; x + 32 <= n; x += 32) { /* long runs are the rule */
            uint16_t differ = 0;
            for (int64_t k = 0; k < 32; k++) differ |= cell[x + k] ^ cell[from];
            if (differ) break;
        }
        while (x < n && cell[x] == cell[from]) x++;
        if (first[x] == first[from]) continue;
        runs[count].from = first[from], runs[count].to = first[x], runs[count].label = cell[from];
        if (cell[from] == KERNEL_UNSURE) *unsure += first[x] - first[from];
        count++;
    }
    return count;
}

#ifndef __clang__ /* which has no shuffle by variables */

/* Where labels differ they do for a few voxels: longer vectors would be slower. */
#define SAMPLE_BYTES (VECTOR < 32 ? VECTOR : 32)
typedef float SET(few) __attribute__((vector_size(SAMPLE_BYTES), aligned(4), may_alias));
typedef int32_t SET(indices) __attribute__((vector_size(SAMPLE_BYTES), aligned(4), may_alias));

/* Output voxels from x on, one less than a vector's at most, so that the low-resolution voxels
 * from at on that they lie between fill one; their place in the panel. */
typedef struct {
    int32_t x, at, place;
} SET(chunk);

/* The chunks of one class. */
static inline __attribute__((always_inline)) void SET(sample_chunks)(
    float *restrict panel, const float *restrict a, const float *restrict b, const float *restrict c,
    const float *restrict d, const float w[4], const SET(chunk) *restrict chunks, int64_t n, const int32_t *restrict x0,
    const float *restrict wx) {
    float wa = w[0], wb = w[1], wc = w[2], wd = w[3];
#define AT(p, i) (*(const SET(few) *)((p) + (i)))
    for (int64_t k = 0; k < n; k++) {
        int64_t x = chunks[k].x, i = chunks[k].at;
        SET(indices) pick = *(const SET(indices) *)(x0 + x) - (int32_t)i;
        SET(few) low = wa * AT(a, i) + wb * AT(b, i) + wc * AT(c, i) + wd * AT(d, i);
        SET(few) left = __builtin_shuffle(low, pick), right = __builtin_shuffle(low, pick + 1);
        *(SET(few) *)(panel + chunks[k].place) = left + AT(wx, x) * (right - left);
    }
#undef AT
}
#endif

static void SET(sample)(float *restrict panel, int64_t panel_stride, const float *const rows[4], const float w[4],
                        int64_t class_stride, int64_t classes, const kernel_run *restrict runs, int64_t count,
                        const int32_t *restrict x0, const float *restrict wx, int32_t dense) {
#ifndef __clang__
    if (dense) { /* neighbouring voxels lie in the same or in neighbouring cells */
        enum { LENGTH = SAMPLE_BYTES / 4 - 1, CHUNKS = 64 };
        SET(chunk) chunks[CHUNKS];
        int64_t n = 0, place = 0;
        for (int64_t r = 0; r < count; r++) {
            if (runs[r].label != KERNEL_UNSURE) continue;
            for (int64_t x = runs[r].from, to = runs[r].to; x < to; x += LENGTH) {
                if (n == CHUNKS) {
                    for (int64_t k = 0, o = 0; k < classes; k++, o += class_stride)
                        SET(sample_chunks)(panel + k * panel_stride, rows[0] + o, rows[1] + o, rows[2] + o, rows[3] + o, w, chunks, n, x0, wx);
                    n = 0;
                }
                chunks[n].x = x, chunks[n].at = x0[x], chunks[n].place = place, n++;
                place += to - x < LENGTH ? to - x : LENGTH;
            }
        }
        for (int64_t k = 0, o = 0; k < classes; k++, o += class_stride)
            SET(sample_chunks)(panel + k * panel_stride, rows[0] + o, rows[1] + o, rows[2] + o, rows[3] + o, w, chunks, n, x0, wx);
        return;
    }
#endif
    float wa = w[0], wb = w[1], wc = w[2], wd = w[3];
    for (int64_t k = 0; k < classes; k++) {
        const float *a = rows[0] + k * class_stride, *b = rows[1] + k * class_stride, *c = rows[2] + k * class_stride,
                    *d = rows[3] + k * class_stride;
        float *restrict p = panel + k * panel_stride;
        for (int64_t r = 0; r < count; r++) {
            if (runs[r].label != KERNEL_UNSURE) continue;
            for (int64_t x = runs[r].from; x < runs[r].to; x++) {
                int64_t i = x0[x], j = i + 1;
                float left = wa * a[i] + wb * b[i] + wc * c[i] + wd * d[i];
                float right = wa * a[j] + wb * b[j] + wc * c[j] + wd * d[j];
                *p++ = left + wx[x] * (right - left);
            }
        }
    }
}

#undef SAMPLE_BYTES

#define PAINT_AS(T)                                                                     \
    do {                                                                                \
        T *d = (T *)dst + offset;                                                       \
        for (int64_t r = 0; r < count; r++) {                                           \
            int64_t x = runs[r].from, to = runs[r].to;                                  \
            if (runs[r].label == KERNEL_UNSURE) {                                       \
                for (; x < to; x++, settled++) d[x * step] = (T)(values ? values[*settled] : *settled); \
                continue;                                                               \
            }                                                                           \
            T v = (T)(values ? values[runs[r].label] : runs[r].label);                  \
            if (step == 1)                                                              \
                for (; x < to; x++) d[x] = v;                                           \
            else if (step == -1)                                                        \
                for (x = 1 - to; x <= -runs[r].from; x++) d[x] = v;                     \
            else                                                                        \
                for (; x < to; x++) d[x * step] = v;                                    \
        }                                                                               \
    } while (0)

static void SET(paint)(void *dst, int32_t size, int64_t offset, int64_t step, const kernel_run *restrict runs, int64_t count,
                       const uint16_t *restrict settled, const uint16_t *restrict values) {
    if (size == 1)
        PAINT_AS(uint8_t);
    else
        PAINT_AS(uint16_t);
}

#undef PAINT_AS
