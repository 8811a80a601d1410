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

/* The label of the largest of several logits, and the last that is above 0, for a block
 * of voxels that stays in the first-level cache. */
#define LABEL_BLOCK 2048

/* Lets the classes from c on, up to four, compete with the best so far, which are those of
 * class 0 at first. Meanwhile it fetches from next what comes then: classes lie far apart,
 * and the processor would not see it coming. */
static inline __attribute__((always_inline)) void SET(compete)(float *restrict best, int32_t *restrict label,
                                                              const float *restrict x, int64_t class_stride, int64_t classes,
                                                              int64_t c, int64_t n, const float *next, int64_t ahead, const int first) {
#define CLASS(k) (x + (c + k < classes ? c + k : classes - 1) * class_stride) /* the last may come again, without effect */
    const float *restrict v0 = CLASS(0), *restrict v1 = CLASS(1), *restrict v2 = CLASS(2), *restrict v3 = CLASS(3);
#undef CLASS
    int32_t k = (int32_t)c;
    for (int64_t from = 0; from < n; from += 64) {
        for (int64_t j = 0; j < ahead; j++)
            for (int64_t i = 0; i < 64; i += 16) __builtin_prefetch(next + j * class_stride + from + i);
        int64_t to = from + 64 < n ? from + 64 : n;
        for (int64_t i = from; i < to; i++) {
            float b = first ? x[i] : best[i];
            int32_t l = first ? 0 : label[i];
            l = v0[i] > b ? k : l, b = v0[i] > b ? v0[i] : b; /* the first of equals wins, as numpy's argmax */
            l = v1[i] > b ? k + 1 : l, b = v1[i] > b ? v1[i] : b;
            l = v2[i] > b ? k + 2 : l, b = v2[i] > b ? v2[i] : b;
            l = v3[i] > b ? k + 3 : l, b = v3[i] > b ? v3[i] : b;
            label[i] = l, best[i] = b;
        }
    }
}

static void SET(winner)(uint16_t *restrict labels, const float *restrict x, int64_t class_stride, int64_t classes, int64_t n) {
    float best[LABEL_BLOCK];
    int32_t label[LABEL_BLOCK];
    for (; n > 0; n -= LABEL_BLOCK, labels += LABEL_BLOCK, x += LABEL_BLOCK) {
        int64_t m = n < LABEL_BLOCK ? n : LABEL_BLOCK;
        for (int64_t c = 1; c == 1 || c < classes; c += 4) {
            int64_t left = classes - c - 4, ahead = left <= 0 || left > 4 ? 4 : left;
            const float *next = left > 0 ? x + (c + 4) * class_stride : x + LABEL_BLOCK;
            if (c == 1)
                SET(compete)(best, label, x, class_stride, classes, c, m, next, ahead, 1);
            else
                SET(compete)(best, label, x, class_stride, classes, c, m, next, ahead, 0);
        }
        for (int64_t i = 0; i < m; i++) labels[i] = (uint16_t)label[i];
    }
}

static void SET(last)(uint16_t *restrict labels, const float *restrict x, int64_t class_stride, int64_t classes, int64_t n) {
    int32_t label[LABEL_BLOCK];
    for (; n > 0; n -= LABEL_BLOCK, labels += LABEL_BLOCK, x += LABEL_BLOCK) {
        int64_t m = n < LABEL_BLOCK ? n : LABEL_BLOCK;
        memset(label, 0, m * sizeof(int32_t));
        for (int64_t c = 0; c < classes; c += 2) { /* likewise */
            const float *restrict v0 = x + c * class_stride, *restrict v1 = c + 1 < classes ? v0 + class_stride : v0;
            int32_t k0 = (int32_t)c + 1, k1 = c + 1 < classes ? k0 + 1 : k0;
            for (int64_t i = 0; i < m; i++) {
                int32_t l = v0[i] > 0 ? k0 : label[i];
                label[i] = v1[i] > 0 ? k1 : l;
            }
        }
        for (int64_t i = 0; i < m; i++) labels[i] = (uint16_t)label[i];
    }
}

#undef LABEL_BLOCK

/* The runs of a row between the four rows a, b, c, d of n labels: returns how many. */
static int64_t SET(settle_row)(kernel_run *restrict runs, uint16_t *restrict cell, const uint16_t *restrict a,
                               const uint16_t *restrict b, const uint16_t *restrict c, const uint16_t *restrict d, int64_t n,
                               int32_t between, const int32_t *restrict first, int32_t *unsure) {
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

static void SET(settle)(kernel_row *restrict rows, int64_t count, kernel_run *restrict runs, uint16_t *restrict cell,
                        const uint16_t *const labels[2], int64_t n, int32_t between, const int32_t *restrict first) {
    int64_t used = 0;
    for (kernel_row *r = rows; r < rows + count; r++) {
        if (r > rows && !memcmp(r->plane, r[-1].plane, sizeof r->plane) && !memcmp(r->offset, r[-1].offset, sizeof r->offset)) {
            r->runs = r[-1].runs, r->count = r[-1].count, r->unsure = r[-1].unsure;
            continue;
        }
        const uint16_t *low = labels[r->plane[0]], *high = labels[r->plane[1]];
        r->runs = (int32_t)used;
        r->count = (int32_t)SET(settle_row)(runs + used, cell, low + r->offset[0], low + r->offset[1], high + r->offset[0],
                                            high + r->offset[1], n, between, first, &r->unsure);
        used += r->count;
    }
}

#ifndef __clang__ /* which has no shuffle by variables */

/* Where labels differ they do for a few voxels: longer vectors would be slower. */
#define SAMPLE_BYTES (VECTOR < 32 ? VECTOR : 32)
typedef float SET(few) __attribute__((vector_size(SAMPLE_BYTES), aligned(4), may_alias));
typedef int32_t SET(indices) __attribute__((vector_size(SAMPLE_BYTES), aligned(4), may_alias));

/* Output voxels from x on, one less than a vector's at most, so that the low-resolution voxels
 * from at on that they lie between fill one; their place among the row's. */
typedef struct {
    int32_t x, at, place;
} SET(chunk);

/* The voxels of some chunks, of all classes, in rows of one cell. */
static void SET(sample_chunks)(float *restrict panel, int64_t panel_stride, const float *const corner[4], int64_t class_stride,
                               int64_t classes, const kernel_row *restrict rows, int64_t count,
                               const SET(chunk) *restrict chunks, int64_t n, const int32_t *restrict x0,
                               const float *restrict wx) {
#define AT(p, i) (*(const SET(few) *)((p) + (i)))
    enum { AHEAD = 12 }; /* classes lie far apart: the processor would not see them coming */
    for (int64_t class = -AHEAD; class < classes; class++) {
        if (class + AHEAD < classes)
            for (int64_t k = 0; k < n; k++)
                for (int64_t j = 0; j < 4; j++) __builtin_prefetch(corner[j] + (class + AHEAD) * class_stride + chunks[k].at);
        if (class < 0) continue;
        const float *restrict a = corner[0] + class * class_stride, *restrict b = corner[1] + class * class_stride,
                    *restrict c = corner[2] + class * class_stride, *restrict d = corner[3] + class * class_stride;
        for (const kernel_row *r = rows; r < rows + count; r++) { /* the second finds the voxels in the cache */
            float *restrict p = panel + class * panel_stride + r->place;
            float wa = r->weight[0], wb = r->weight[1], wc = r->weight[2], wd = r->weight[3];
            for (int64_t k = 0; k < n; k++) {
                int64_t x = chunks[k].x, i = chunks[k].at;
                SET(indices) pick = *(const SET(indices) *)(x0 + x) - (int32_t)i;
                SET(few) low = wa * AT(a, i) + wb * AT(b, i) + wc * AT(c, i) + wd * AT(d, i);
                SET(few) left = __builtin_shuffle(low, pick), right = __builtin_shuffle(low, pick + 1);
                *(SET(few) *)(p + chunks[k].place) = left + AT(wx, x) * (right - left);
            }
        }
    }
#undef AT
}
#endif

/* Rows of one cell, whose runs these are. */
static void SET(sample_cell)(float *restrict panel, int64_t panel_stride, const float *const corner[4], int64_t class_stride,
                             int64_t classes, const kernel_row *restrict rows, int64_t count,
                             const kernel_run *restrict runs, const int32_t *restrict x0, const float *restrict wx,
                             int32_t dense) {
    const kernel_run *end = runs + rows->count;
#ifndef __clang__
    if (dense) { /* neighbouring voxels lie in the same or in neighbouring cells */
        enum { LENGTH = SAMPLE_BYTES / 4 - 1, CHUNKS = 64 };
        SET(chunk) chunks[CHUNKS];
        int32_t n = 0, place = 0;
        for (const kernel_run *run = runs; run < end; run++) {
            if (run->label != KERNEL_UNSURE) continue;
            for (int32_t x = run->from; x < run->to; x += LENGTH) {
                if (n == CHUNKS) {
                    SET(sample_chunks)(panel, panel_stride, corner, class_stride, classes, rows, count, chunks, n, x0, wx);
                    n = 0;
                }
                chunks[n].x = x, chunks[n].at = x0[x], chunks[n].place = place, n++;
                place += run->to - x < LENGTH ? run->to - x : LENGTH;
            }
        }
        SET(sample_chunks)(panel, panel_stride, corner, class_stride, classes, rows, count, chunks, n, x0, wx);
        return;
    }
#endif
    for (const kernel_row *r = rows; r < rows + count; r++) {
        float wa = r->weight[0], wb = r->weight[1], wc = r->weight[2], wd = r->weight[3];
        for (int64_t class = 0, o = 0; class < classes; class++, o += class_stride) {
            const float *a = corner[0] + o, *b = corner[1] + o, *c = corner[2] + o, *d = corner[3] + o;
            float *restrict p = panel + class * panel_stride + r->place;
            for (const kernel_run *run = runs; run < end; run++) {
                if (run->label != KERNEL_UNSURE) continue;
                for (int64_t x = run->from; x < run->to; x++) {
                    int64_t i = x0[x], j = i + 1;
                    float left = wa * a[i] + wb * b[i] + wc * c[i] + wd * d[i];
                    float right = wa * a[j] + wb * b[j] + wc * c[j] + wd * d[j];
                    *p++ = left + wx[x] * (right - left);
                }
            }
        }
    }
}

static void SET(sample)(float *restrict panel, int64_t panel_stride, const float *const planes[2], int64_t class_stride,
                        int64_t classes, const kernel_row *restrict rows, int64_t count, const kernel_run *restrict runs,
                        const int32_t *restrict x0, const float *restrict wx, int32_t dense) {
    const kernel_row *end = rows + count;
    for (const kernel_row *r = rows, *next; r < end; r = next) {
        for (next = r + 1; next < end && next->runs == r->runs; next++) {
        }
        if (r->unsure == 0) continue;
        const float *low = planes[r->plane[0]], *high = planes[r->plane[1]];
        const float *corner[4] = {low + r->offset[0], low + r->offset[1], high + r->offset[0], high + r->offset[1]};
        SET(sample_cell)(panel, panel_stride, corner, class_stride, classes, r, next - r, runs + r->runs, x0, wx, dense);
    }
}

#undef SAMPLE_BYTES

#define PAINT_ROW(T, row)                                                                                       \
    do {                                                                                                        \
        T *d = (T *)dst + row->at;                                                                              \
        const uint16_t *s = settled + row->place;                                                               \
        for (const kernel_run *run = runs + row->runs; run < runs + row->runs + row->count; run++) {            \
            int64_t x = run->from, to = run->to;                                                                \
            if (run->label == KERNEL_UNSURE) {                                                                  \
                for (; x < to; x++, s++) d[x * step] = (T)(values ? values[*s] : *s);                           \
                continue;                                                                                       \
            }                                                                                                   \
            T v = (T)(values ? values[run->label] : run->label);                                                \
            if (step == 1)                                                                                      \
                for (; x < to; x++) d[x] = v;                                                                   \
            else if (step == -1)                                                                                \
                for (x = 1 - to; x <= -run->from; x++) d[x] = v;                                                \
            else                                                                                                \
                for (; x < to; x++) d[x * step] = v;                                                            \
        }                                                                                                       \
    } while (0)

static void SET(paint)(void *dst, int32_t size, int64_t step, const kernel_row *restrict rows, int64_t count,
                       const kernel_run *restrict runs, const uint16_t *restrict settled, const uint16_t *restrict values) {
    for (const kernel_row *r = rows; r < rows + count; r++)
        if (size == 1)
            PAINT_ROW(uint8_t, r);
        else
            PAINT_ROW(uint16_t, r);
}

#undef PAINT_ROW
