/* What the library promises with a model: FLARE_TEST_MODEL names a bundle or a results
 * folder, FLARE_TEST_CASCADE the cascade.onnx beside this file. Runs in an empty folder, which
 * run.sh makes. */
#include <dirent.h>
#include <math.h>
#include <pthread.h>

#include "check.h"

enum { NX = 40, NY = 36, NZ = 28, VOXELS = NX * NY * NZ };

static const char  *path;     /* of the model */
static flare_model *model;
static int          channels; /* that it takes */
static int          heads;    /* that it gives */
static flare_volume image;
static uint8_t      labels[VOXELS];

/* Returns the text after "key": in a flat look at JSON. */
static const char *find(const char *json, const char *key)
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    json = strstr(json, quoted);
    return json != NULL ? json + strlen(quoted) : "";
}

static double number(const char *json, const char *key)
{
    return strtod(find(json, key), NULL);
}

/* A soft-tissue ellipsoid in air, in every channel. */
static void make_image(void)
{
    int16_t *voxels = malloc(sizeof *voxels * VOXELS * (size_t)channels);
    int16_t *v      = voxels;
    for (int c = 0; c < channels; c++)
        for (int z = 0; z < NZ; z++)
            for (int y = 0; y < NY; y++)
                for (int x = 0; x < NX; x++) {
                    double a = 2.2 * x / NX - 1.1, b = 2.2 * y / NY - 1.1, d = 2.0 * z / NZ - 1;
                    *v++ = a * a + b * b + d * d < 1 ? 40 + (x * 7 + y * 5 + z * 3) % 120 : -1000;
                }
    flare_volume_init(&image, sizeof image);
    image.data     = voxels;
    image.dtype    = FLARE_INT16;
    image.channels = channels;
    image.size[0] = NX, image.size[1] = NY, image.size[2] = NZ;
    for (int i = 0; i < 3; i++)
        image.spacing[i] = 2.5;
}

/* ---------------------------------------------------------------- progress ------- */

/* What a progress callback sees and does. */
typedef struct watch {
    pthread_mutex_t lock;
    pthread_cond_t  changed;
    int             calls, inside, open; /* open: the callback may return */
    int32_t         answer;              /* what it returns */
    double          last;
} watch;

#define WATCH_INIT { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, 1, 0, 0 }

static int32_t on_progress(double fraction, const char *phase, void *user)
{
    watch  *w = user;
    int32_t answer;
    pthread_mutex_lock(&w->lock);
    CHECK(w->inside == 0); /* never two at once */
    CHECK(fraction >= w->last && fraction <= 1);
    CHECK(strstr("read preprocess network export write", phase) != NULL);
    w->inside = 1;
    w->calls++;
    w->last = fraction;
    pthread_cond_broadcast(&w->changed);
    while (!w->open)
        pthread_cond_wait(&w->changed, &w->lock);
    w->inside = 0;
    answer    = w->answer;
    pthread_mutex_unlock(&w->lock);
    return answer;
}

static void wait_for_call(watch *w)
{
    pthread_mutex_lock(&w->lock);
    while (w->calls == 0)
        pthread_cond_wait(&w->changed, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

static void let_go(watch *w)
{
    pthread_mutex_lock(&w->lock);
    w->open = 1;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

static flare_status segment(flare_model *m, watch *w)
{
    flare_segment_options options = FLARE_SEGMENT_OPTIONS_INIT;
    if (w != NULL) {
        options.progress      = on_progress;
        options.progress_user = w;
    }
    memset(labels, 255, sizeof labels);
    return flare_segment(labels, FLARE_UINT8, sizeof labels, m, &image, &options);
}

/* ------------------------------------------------------------------- tests ------- */

static void test_open_and_describe(void)
{
    char       *json = NULL;
    const char *list;
    flare_model *none;
    CHECK_STATUS(flare_model_open(&none, "no/such/model.onnx", NULL), FLARE_ERR_NOT_FOUND,
                 "no/such/model.onnx");
    CHECK(none == NULL);
    CHECK_STATUS(flare_model_open(&model, path, NULL), FLARE_OK, "");
    CHECK_STATUS(flare_model_describe(&json, model), FLARE_OK, "");
    if (json == NULL)
        return;
    heads = (int)number(json, "heads");
    list  = find(json, "channels"); /* ["CT", ...] */
    for (channels = 1; *list != ']' && *list != '\0'; list++)
        channels += *list == ',';
    CHECK(heads > 0 && strchr(find(json, "labels"), '[') != NULL);
    flare_free(json);
}

static void test_segment(void)
{
    static uint16_t       wide[VOXELS];
    flare_segment_options options = FLARE_SEGMENT_OPTIONS_INIT;
    watch                 w       = WATCH_INIT;
    char                 *json    = NULL;
    int                   unset = 0, differ = 0, bad = 0;
    float                *p;
    size_t                count = (size_t)heads * VOXELS;

    CHECK_STATUS(flare_model_stats(&json, model), FLARE_OK, ""); /* nothing ran yet */
    CHECK(json != NULL && number(json, "open") > 0 && number(json, "total") == 0);
    flare_free(json);

    CHECK_STATUS(segment(model, &w), FLARE_OK, "");
    CHECK(w.calls > 0);
    for (int i = 0; i < VOXELS; i++)
        unset += labels[i] == 255;
    CHECK(unset == 0);
    CHECK_STATUS(flare_model_stats(&json, model), FLARE_OK, "");
    CHECK(json != NULL && number(json, "tiles") >= 1 && number(json, "peak_memory_bytes") > 0);
    CHECK(strstr(json, "\"organs\":[{\"label\":") != NULL);
    flare_free(json);

    p = malloc(count * sizeof *p);
    for (size_t i = 0; i < count; i++)
        p[i] = -1;
    options.probabilities       = p;
    options.probabilities_count = count;
    CHECK_STATUS(flare_segment(wide, FLARE_UINT16, sizeof wide, model, &image, &options),
                 FLARE_OK, "");
    for (int i = 0; i < VOXELS; i++)
        differ += wide[i] != labels[i];
    CHECK(differ <= VOXELS / 1000); /* threads may sum in another order */
    for (size_t i = 0; i < count; i++)
        bad += !(p[i] >= 0 && p[i] <= 1.0001f);
    CHECK(bad == 0);

    options.probabilities_count = count - 1;
    CHECK_STATUS(flare_segment(wide, FLARE_UINT16, sizeof wide, model, &image, &options),
                 FLARE_ERR_ARGUMENT, "probabilities_count");
    options.probabilities = NULL;
    CHECK_STATUS(flare_segment(wide, FLARE_UINT16, sizeof wide, model, &image, &options),
                 FLARE_ERR_ARGUMENT, "probabilities is NULL");
    free(p);
}

/* A volume that differs from the good one in one field. */
#define CHECK_REFUSED(field, value, status, text)                                         \
    do {                                                                                  \
        flare_volume bad_ = image;                                                        \
        bad_.field        = (value);                                                      \
        CHECK_STATUS(flare_segment(labels, FLARE_UINT8, sizeof labels, model, &bad_, NULL), \
                     status, text);                                                       \
    } while (0)

static void test_bad_volumes(void)
{
    flare_segment_options options = FLARE_SEGMENT_OPTIONS_INIT;
    CHECK_REFUSED(dtype, 0, FLARE_ERR_ARGUMENT, "dtype");
    CHECK_REFUSED(dtype, 7, FLARE_ERR_ARGUMENT, "dtype");
    CHECK_REFUSED(size[0], 0, FLARE_ERR_ARGUMENT, "size");
    CHECK_REFUSED(size[2], -1, FLARE_ERR_ARGUMENT, "size");
    CHECK_REFUSED(size[1], INT64_MAX, FLARE_ERR_MEMORY, "refused");
    CHECK_REFUSED(size[0], NX + 1, FLARE_ERR_ARGUMENT, "labels_bytes");
    CHECK_REFUSED(channels, -1, FLARE_ERR_ARGUMENT, "channels");
    CHECK_REFUSED(channels, INT32_MAX, FLARE_ERR_ARGUMENT, "channels");
    CHECK_REFUSED(spacing[0], 0, FLARE_ERR_ARGUMENT, "spacing");
    CHECK_REFUSED(spacing[1], -1, FLARE_ERR_ARGUMENT, "spacing");
    CHECK_REFUSED(spacing[2], NAN, FLARE_ERR_ARGUMENT, "spacing");
    CHECK_REFUSED(origin[0], INFINITY, FLARE_ERR_ARGUMENT, "origin");
    CHECK_REFUSED(direction[0], 1, FLARE_ERR_ARGUMENT, "singular");
    CHECK_REFUSED(data, (const char *)image.data + 1, FLARE_ERR_ARGUMENT, "aligned");
    CHECK_STATUS(flare_segment(labels, FLARE_INT16, sizeof labels, model, &image, NULL),
                 FLARE_ERR_ARGUMENT, "labels_dtype");
    CHECK_STATUS(flare_segment(labels, FLARE_UINT16, sizeof labels, model, &image, NULL),
                 FLARE_ERR_ARGUMENT, "labels_bytes");
    CHECK_STATUS(flare_segment(labels, FLARE_UINT8, sizeof labels - 1, model, &image, NULL),
                 FLARE_ERR_ARGUMENT, "labels_bytes");
    options.probabilities_path = "p.nii";
    CHECK_STATUS(flare_segment(labels, FLARE_UINT8, sizeof labels, model, &image, &options),
                 FLARE_ERR_ARGUMENT, "probabilities_path");
    options.probabilities_path = NULL;
    options.report_path        = "report.html";
    CHECK_STATUS(flare_segment(labels, FLARE_UINT8, sizeof labels, model, &image, &options),
                 FLARE_ERR_ARGUMENT, "report_path");
    options.report_path = NULL;
    {
        flare_volume two = image; /* the second channel is not read before the refusal */
        int16_t     *v   = calloc((size_t)(channels + 1) * VOXELS, sizeof *v);
        two.data         = v;
        two.channels     = channels + 1;
        CHECK_STATUS(flare_segment(labels, FLARE_UINT8, sizeof labels, model, &two, NULL),
                     FLARE_ERR_MODEL, "channel");
        free(v);
    }
}

/* FLARE_TEST_MODEL is no cascade, and may or may not store a post-processing. */
static void test_previous_and_postprocess(void)
{
    static int16_t        stage[VOXELS];
    flare_segment_options options = FLARE_SEGMENT_OPTIONS_INIT;
    flare_status          status;
    flare_segment_options bad;

#define CHECK_OPTIONS(o, text)                                                            \
    CHECK_STATUS(flare_segment(labels, FLARE_UINT8, sizeof labels, model, &image, &(o)),  \
                 FLARE_ERR_ARGUMENT, text)
    options.previous       = stage;
    options.previous_bytes = sizeof stage;
    options.previous_dtype = FLARE_INT16;
    CHECK_OPTIONS(options, "no labels of a previous stage");
    bad = options, bad.previous_dtype = 0;
    CHECK_OPTIONS(bad, "previous_dtype");
    bad = options, bad.previous_dtype = 7;
    CHECK_OPTIONS(bad, "previous_dtype");
    bad = options, bad.previous_bytes--;
    CHECK_OPTIONS(bad, "previous_bytes");
    bad = options, bad.previous_dtype = FLARE_FLOAT64;
    CHECK_OPTIONS(bad, "float64 labels need");
    bad = options, bad.previous = (const char *)stage + 1;
    CHECK_OPTIONS(bad, "aligned");
    bad = options, bad.previous = NULL;
    CHECK_OPTIONS(bad, "previous is NULL");
    bad = options, bad.previous_path = "stage.nii";
    CHECK_OPTIONS(bad, "previous_path");
    CHECK_STATUS(flare_segment_file(model, "in.nii", "out.nii", &options), FLARE_ERR_ARGUMENT,
                 "previous_path");
#undef CHECK_OPTIONS

    flare_segment_options_init(&options, sizeof options);
    options.postprocess = 1;
    status = flare_segment(labels, FLARE_UINT8, sizeof labels, model, &image, &options);
    if (status != FLARE_OK)
        CHECK_STATUS(status, FLARE_ERR_ARGUMENT, "stores no post-processing");
    CHECK_STATUS(segment(model, NULL), FLARE_OK, "");
}

static void test_cancel_from_callback(void)
{
    watch w  = WATCH_INIT;
    w.answer = -815078680; /* any number but 0 */
    CHECK_STATUS(segment(model, &w), FLARE_ERR_CANCELLED, "cancel");
    CHECK(w.calls == 1);
    CHECK_STATUS(segment(model, NULL), FLARE_OK, "");
}

typedef struct running {
    flare_model *model;
    watch       *watch;
    flare_status expected;
} running;

static void *run(void *user)
{
    running              *r       = user;
    uint8_t              *own     = malloc(VOXELS);
    flare_segment_options options = FLARE_SEGMENT_OPTIONS_INIT;
    if (r->watch != NULL) {
        options.progress      = on_progress;
        options.progress_user = r->watch;
    }
    CHECK_STATUS(flare_segment(own, FLARE_UINT8, VOXELS, r->model, &image, &options),
                 r->expected, "cancel");
    free(own);
    return NULL;
}

/* One call runs, held in its callback, and one waits; flare_cancel ends both. */
static void test_cancel_from_thread(void)
{
    watch     w       = WATCH_INIT;
    running   first   = {model, &w, FLARE_ERR_CANCELLED};
    running   waiting = {model, NULL, FLARE_ERR_CANCELLED};
    pthread_t a, b;
    w.open = 0;
    CHECK(pthread_create(&a, NULL, run, &first) == 0);
    wait_for_call(&w);
    CHECK(pthread_create(&b, NULL, run, &waiting) == 0);
    usleep(300000); /* until it waits for the first */
    CHECK_STATUS(flare_cancel(model), FLARE_OK, "");
    let_go(&w);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    CHECK_STATUS(segment(model, NULL), FLARE_OK, "");
}

/* Calls from several threads on one model all succeed. */
static void test_many_callers(void)
{
    pthread_t threads[3];
    running   r = {model, NULL, FLARE_OK};
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, run, &r) == 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}

static void *release(void *user)
{
    usleep(100000);
    let_go(user);
    return NULL;
}

/* Freeing cancels and waits; afterwards the handle is stale, and a new one is another. */
static void test_free_during_call(void)
{
    watch        w = WATCH_INIT;
    running      r = {model, &w, FLARE_ERR_CANCELLED};
    flare_model *old = model;
    char        *json = NULL;
    pthread_t    a, b;
    w.open = 0;
    CHECK(pthread_create(&a, NULL, run, &r) == 0);
    wait_for_call(&w);
    CHECK(pthread_create(&b, NULL, release, &w) == 0);
    flare_model_free(model);
    CHECK(w.open && !w.inside); /* it waited for the call */
    pthread_join(a, NULL);
    pthread_join(b, NULL);

    flare_model_free(old); /* twice does nothing */
    CHECK_STATUS(flare_cancel(old), FLARE_ERR_HANDLE, "already freed");
    CHECK_STATUS(flare_model_describe(&json, old), FLARE_ERR_HANDLE, "already freed");
    CHECK_STATUS(segment(old, NULL), FLARE_ERR_HANDLE, "already freed");
    CHECK_STATUS(flare_model_open(&model, path, NULL), FLARE_OK, "");
    CHECK(model != old);
    CHECK_STATUS(flare_cancel(old), FLARE_ERR_HANDLE, "already freed");
}

static void test_nothing_was_written(void)
{
    DIR           *here = opendir(".");
    struct dirent *entry;
    while ((entry = readdir(here)) != NULL)
        if (entry->d_name[0] != '.')
            FAIL("a call in memory wrote the file %s", entry->d_name);
    closedir(here);
}

/* A NIfTI-1 file of voxels on the image's grid. */
static void write_nifti(const char *name, const int16_t *voxels)
{
    unsigned char h[352] = {0};
    int32_t       size = 348;
    int16_t       dim[8] = {3, NX, NY, NZ, 1, 1, 1, 1}, type[2] = {4, 16}, code = 1;
    float         pixdim[4] = {1, 2.5f, 2.5f, 2.5f}, offset = 352, slope = 1;
    float         sform[12] = {2.5f, 0, 0, 0, 0, 2.5f, 0, 0, 0, 0, 2.5f, 0};
    FILE         *f = fopen(name, "wb");
    memcpy(h, &size, 4);
    memcpy(h + 40, dim, 16);
    memcpy(h + 70, type, 4);
    memcpy(h + 76, pixdim, 16);
    memcpy(h + 108, &offset, 4);
    memcpy(h + 112, &slope, 4);
    memcpy(h + 254, &code, 2);
    memcpy(h + 280, sform, sizeof sform);
    memcpy(h + 344, "n+1", 4);
    fwrite(h, 1, sizeof h, f);
    fwrite(voxels, 2, VOXELS, f);
    fclose(f);
}

static void test_files(void)
{
    flare_segment_options options = FLARE_SEGMENT_OPTIONS_INIT;
    float                 p[1];
    CHECK_STATUS(flare_segment_file(model, "missing.nii.gz", "out.nii", NULL),
                 FLARE_ERR_NOT_FOUND, "missing.nii.gz");
    options.probabilities = p;
    CHECK_STATUS(flare_segment_file(model, "missing.nii.gz", "out.nii", &options),
                 FLARE_ERR_ARGUMENT, "probabilities_path");
    CHECK(access("out.nii", F_OK) != 0);
    if (channels != 1)
        return;
    write_nifti("in.nii", image.data);
    CHECK_STATUS(flare_segment_file(model, "in.nii", "out.nii", NULL), FLARE_OK, "");
    CHECK(access("out.nii", R_OK) == 0);
    flare_segment_options_init(&options, sizeof options);
    options.report_path = "out.nii";
    CHECK_STATUS(flare_segment_file(model, "in.nii", "out2.nii", &options), FLARE_ERR_ARGUMENT,
                 "ends in .html");
    options.report_path = "report.html";
    CHECK_STATUS(flare_segment_file(model, "in.nii", "out2.nii", &options), FLARE_OK, "");
    CHECK(access("report.html", R_OK) == 0 && remove("out2.nii") == 0);
    flare_segment_options_init(&options, offsetof(flare_segment_options, report_path));
    CHECK_STATUS(flare_segment_file(model, "in.nii", "out2.nii", &options), FLARE_OK, "");
    CHECK(remove("out2.nii") == 0); /* a program of before there were reports */
    flare_segment_options_init(&options, sizeof options);
    options.previous_path = "missing.nii";
    CHECK(flare_segment_file(model, "in.nii", "out2.nii", &options) < 0);
    options.previous_path = "out.nii";
    CHECK_STATUS(flare_segment_file(model, "in.nii", "out2.nii", &options), FLARE_ERR_ARGUMENT,
                 "no labels of a previous stage");
    CHECK(access("out2.nii", F_OK) != 0);
    CHECK(flare_segment_file(model, "in.nii", "no/such/folder/out.nii", NULL) < 0);
    CHECK(strstr(flare_last_error(), "no/such/folder") != NULL);
}

/* How many labels of a file differ from the expected ones. */
static int wrong_labels(const char *name, const int16_t *expected)
{
    float offset = 0;
    int   wrong  = 0;
    FILE *f      = fopen(name, "rb");
    memset(labels, 255, sizeof labels);
    if (f != NULL) {
        fseek(f, 108, SEEK_SET);
        CHECK(fread(&offset, 4, 1, f) == 1);
        fseek(f, (long)offset, SEEK_SET);
        CHECK(fread(labels, 1, sizeof labels, f) == sizeof labels);
        fclose(f);
    }
    for (int i = 0; i < VOXELS; i++)
        wrong += labels[i] != expected[i];
    return wrong;
}

/* The second stage of a cascade that gives the labels of the first, and whose post-processing
 * removes all of label 1 but the largest component. */
static void test_cascade(void)
{
    static int16_t        stage[VOXELS], kept[VOXELS];
    static double         wide[VOXELS];
    flare_model          *cascade = NULL;
    flare_volume          one     = image;
    flare_segment_options options = FLARE_SEGMENT_OPTIONS_INIT;
    int                   wrong   = 0;

    one.channels = 1;
    for (int i = 0; i < VOXELS; i++) {
        int x = i % NX, y = i / NX % NY, z = i / NX / NY;
        stage[i] = kept[i] = x > 5 && x < 15 && y > 3 && z > 7 ? 1 : x == 30 && y < 20 ? 2 : 0;
        if (x == 35 && y == 30 && z == 2)
            stage[i] = 1;
        wide[i] = stage[i];
    }
    CHECK_STATUS(flare_model_open(&cascade, getenv("FLARE_TEST_CASCADE"), NULL), FLARE_OK, "");
    CHECK_STATUS(flare_segment(labels, FLARE_UINT8, sizeof labels, cascade, &one, NULL),
                 FLARE_ERR_ARGUMENT, "second stage");
    options.previous       = stage;
    options.previous_bytes = sizeof stage;
    options.previous_dtype = FLARE_INT16;
    CHECK_STATUS(flare_segment(labels, FLARE_UINT8, sizeof labels, cascade, &one, &options),
                 FLARE_OK, "");
    for (int i = 0; i < VOXELS; i++)
        wrong += labels[i] != stage[i];
    CHECK(wrong == 0);
    options.previous       = wide;
    options.previous_bytes = sizeof wide + 8; /* more than needed */
    options.previous_dtype = FLARE_FLOAT64;
    options.postprocess    = 1;
    CHECK_STATUS(flare_segment(labels, FLARE_UINT8, sizeof labels, cascade, &one, &options),
                 FLARE_OK, "");
    for (int i = 0; i < VOXELS; i++)
        wrong += labels[i] != kept[i];
    CHECK(wrong == 0);

    flare_segment_options_init(&options, sizeof options);
    write_nifti("image.nii", image.data);
    write_nifti("stage.nii", stage);
    CHECK_STATUS(flare_segment_file(cascade, "image.nii", "none.nii", &options),
                 FLARE_ERR_ARGUMENT, "second stage");
    CHECK(access("none.nii", F_OK) != 0);
    options.previous_path = "stage.nii";
    CHECK_STATUS(flare_segment_file(cascade, "image.nii", "all.nii", &options), FLARE_OK, "");
    CHECK(wrong_labels("all.nii", stage) == 0);
    options.postprocess = 1;
    CHECK_STATUS(flare_segment_file(cascade, "image.nii", "kept.nii", &options), FLARE_OK, "");
    CHECK(wrong_labels("kept.nii", kept) == 0);
    flare_model_free(cascade);
}

int main(void)
{
    path = getenv("FLARE_TEST_MODEL");
    begin_checks();
    test_open_and_describe();
    if (failures == 0) {
        make_image();
        test_segment();
        test_bad_volumes();
        test_previous_and_postprocess();
        test_cancel_from_callback();
        test_cancel_from_thread();
        test_many_callers();
        test_free_during_call();
        test_nothing_was_written();
        test_files();
        test_cascade();
        flare_model_free(model);
        free((void *)image.data);
    }
    return end_checks("model_test");
}
