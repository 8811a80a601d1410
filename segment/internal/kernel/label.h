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
    for (int64_t x = 0; x < n_out; x++) out[x] = (1 - wx[x]) * low[x0[x]] + wx[x] * low[x0[x] + 1];
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

/* Lets classes c to c + count (exclusive) compete with the largest two logits so far. */
static inline __attribute__((always_inline)) void SET(rank)(float *restrict best, float *restrict second, int32_t *restrict label,
                                                           const float *restrict x, int64_t class_stride, int32_t c,
                                                           const int32_t count, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        float a = best[i], b = second[i];
        int32_t l = label[i];
#define CLASS(k)                                                                      \
    if (k < count) {                                                                  \
        float v = x[(c + k) * class_stride + i], lower = v < a ? v : a;               \
        b = lower > b ? lower : b;                                                    \
        l = v > a ? c + k : l; /* the first of equals wins, as numpy's argmax */      \
        a = v > a ? v : a;                                                            \
    }
        CLASS(0) CLASS(1) CLASS(2) CLASS(3)
#undef CLASS
        best[i] = a, second[i] = b, label[i] = l;
    }
}

static void SET(top)(uint16_t *restrict labels, float *restrict second, const float *restrict x, int64_t class_stride,
                     int64_t classes, int64_t n) {
    enum { BLOCK = 8192 }; /* of the second-level cache a part: classes lie far apart, and memory likes to be read in order */
    float best[BLOCK];
    int32_t label[BLOCK];
    for (int64_t m; n > 0; n -= m, labels += m, second += m, x += m) {
        m = n < BLOCK ? n : BLOCK;
        for (int64_t i = 0; i < m; i++) best[i] = second[i] = KERNEL_LOWEST, label[i] = 0;
        int32_t c = 0;
        for (; c + 4 <= classes; c += 4) SET(rank)(best, second, label, x, class_stride, c, 4, m);
        for (; c + 2 <= classes; c += 2) SET(rank)(best, second, label, x, class_stride, c, 2, m);
        for (; c < classes; c++) SET(rank)(best, second, label, x, class_stride, c, 1, m);
        for (int64_t i = 0; i < m; i++) labels[i] = (uint16_t)label[i];
    }
}

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
                *(SET(few) *)(p + chunks[k].place) = (1 - AT(wx, x)) * left + AT(wx, x) * right;
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
                    *p++ = (1 - wx[x]) * left + wx[x] * right;
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

/* Voxels from x on, count of them, in a row: interpolates the logits of n classes, of a list in
 * ascending order or (NULL) of all, and labels the voxels by the largest. corner and second
 * are the four rows around them, of class 0 and of the second largest logit, which classes
 * that are not in the list do not exceed. Returns whether no such class can be larger. */
#ifndef __clang__
static inline __attribute__((always_inline)) int32_t SET(compare_few)(
    uint16_t *restrict out, const float *const corner[4], const float *const second[4], int64_t class_stride,
    const uint16_t *restrict list, int64_t n, const float w[4], const int32_t *restrict x0, const float *restrict wx,
    int64_t count) {
#define AT(p, i) (*(const SET(few) *)((p) + (i)))
    float wa = w[0], wb = w[1], wc = w[2], wd = w[3];
    int64_t at = x0[0];
    SET(indices) pick = *(const SET(indices) *)x0 - (int32_t)at, label = {0};
    SET(few) right = AT(wx, 0), left = 1 - right, best = right - INFINITY, others = best;
    for (int64_t k = list ? -1 : 0; k < n; k++) {
        const float *const *p = k < 0 ? second : corner;
        int32_t class = k < 0 ? 0 : list ? list[k] : (int32_t)k;
        int64_t i = at + class * class_stride;
        SET(few) low = wa * AT(p[0], i) + wb * AT(p[1], i) + wc * AT(p[2], i) + wd * AT(p[3], i);
        SET(few) v = left * __builtin_shuffle(low, pick) + right * __builtin_shuffle(low, pick + 1);
        if (k < 0) {
            others = v;
            continue;
        }
        SET(indices) larger = v > best; /* the first of equals wins, as numpy's argmax */
        label = (larger & class) | (~larger & label);
        best = (SET(few))((larger & (SET(indices))v) | (~larger & (SET(indices))best));
    }
    SET(indices) doubt = others >= best;
    int32_t any = 0;
    for (int64_t i = 0; i < SAMPLE_BYTES / 4; i++) out[i] = (uint16_t)label[i], any |= i < count ? doubt[i] : 0;
    return !list || !any;
#undef AT
}
#endif

static inline __attribute__((always_inline)) int32_t SET(compare_one)(
    uint16_t *restrict out, const float *const corner[4], const float *const second[4], int64_t class_stride,
    const uint16_t *restrict list, int64_t n, const float w[4], const int32_t *restrict x0, const float *restrict wx) {
    float wa = w[0], wb = w[1], wc = w[2], wd = w[3], best = -INFINITY, others = best;
    for (int64_t k = list ? -1 : 0; k < n; k++) {
        const float *const *p = k < 0 ? second : corner;
        int32_t class = k < 0 ? 0 : list ? list[k] : (int32_t)k;
        int64_t i = x0[0] + class * class_stride, j = i + 1;
        float left = wa * p[0][i] + wb * p[1][i] + wc * p[2][i] + wd * p[3][i];
        float right = wa * p[0][j] + wb * p[1][j] + wc * p[2][j] + wd * p[3][j];
        float v = (1 - wx[0]) * left + wx[0] * right;
        if (k < 0)
            others = v;
        else if (v > best)
            best = v, *out = (uint16_t)class;
    }
    return !list || best > others;
}

/* The labels in columns from to to (inclusive) of four rows, in ascending order; returns how
 * many, 0 where they are more than room. */
static int64_t SET(candidates)(uint16_t *restrict list, int64_t room, const uint16_t *const labels[4], int64_t from, int64_t to) {
    int64_t n = 0;
    uint16_t last = KERNEL_UNSURE;
    for (int64_t k = 0; k < 4; k++)
        for (int64_t i = from; i <= to; i++) {
            if (labels[k][i] == last) continue;
            last = labels[k][i];
            int64_t at = 0;
            while (at < n && list[at] < last) at++;
            if (at < n && list[at] == last) continue;
            if (n == room) return 0;
            for (int64_t j = n++; j > at; j--) list[j] = list[j - 1];
            list[at] = last;
        }
    return n;
}

static void SET(decide)(uint16_t *restrict settled, const kernel_planes *restrict planes, int64_t class_stride, int64_t classes,
                        const kernel_row *restrict rows, int64_t count, const kernel_run *restrict runs, int64_t n_low,
                        const int32_t *restrict x0, const float *restrict wx, int32_t dense) {
    enum { ROOM = 4 };
#ifdef __clang__
    dense = 0;
#endif
    int64_t length = dense ? SAMPLE_BYTES / 4 - 1 : 1; /* the low-resolution voxels of so many fill a vector at most */
    const kernel_row *end = rows + count;
    for (const kernel_row *r = rows, *next; r < end; r = next) {
        for (next = r + 1; next < end && next->runs == r->runs; next++) {
        }
        if (r->unsure == 0) continue;
        const float *corner[4], *second[4];
        const uint16_t *labels[4];
        for (int64_t k = 0; k < 4; k++) {
            int64_t plane = r->plane[k / 2], offset = r->offset[k % 2];
            corner[k] = planes->logits[plane] + offset, second[k] = planes->second[plane] + offset;
            labels[k] = planes->labels[plane] + offset;
        }
        int64_t place = 0;
        for (const kernel_run *run = runs + r->runs; run < runs + r->runs + r->count; run++) {
            if (run->label != KERNEL_UNSURE) continue;
            for (int64_t x = run->from, m; x < run->to; x += m, place += m) {
                m = run->to - x < length ? run->to - x : length;
                int64_t to = x0[x + m - 1] + 1;
                uint16_t list[ROOM];
                int64_t n = SET(candidates)(list, ROOM, labels, x0[x], to < n_low ? to : n_low - 1);
                for (const kernel_row *q = r; q < next; q++) {
                    uint16_t *out = settled + q->place + place;
#ifndef __clang__
                    if (dense) {
                        if (!n || !SET(compare_few)(out, corner, second, class_stride, list, n, q->weight, x0 + x, wx + x, m))
                            SET(compare_few)(out, corner, second, class_stride, NULL, classes, q->weight, x0 + x, wx + x, m);
                        continue;
                    }
#endif
                    if (!n || !SET(compare_one)(out, corner, second, class_stride, list, n, q->weight, x0 + x, wx + x))
                        SET(compare_one)(out, corner, second, class_stride, NULL, classes, q->weight, x0 + x, wx + x);
                }
            }
        }
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
