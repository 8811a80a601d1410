/* What the library promises of training. FLARE_TEST_NETWORK names a folder with plans.json and
 * dataset.json of a small network. Runs in an empty folder, which run.sh makes. */
#include <math.h>
#include <pthread.h>

#include "check.h"

enum { X = 16, Y = 12, Z = 8, PATCH = X * Y * Z, BATCH = 4, HEADS = 3 };

static char    plans[4096], dataset[4096];
static float   images[BATCH * PATCH];
static int16_t labels[BATCH * PATCH];

/* Opens a trainer of so many samples. */
static flare_trainer *open_trainer(int batch)
{
    flare_trainer        *trainer = NULL;
    flare_trainer_options options = FLARE_TRAINER_OPTIONS_INIT;
    options.plans      = plans;
    options.dataset    = dataset;
    options.batch      = batch;
    options.threads    = 2;
    options.momentum   = 0.9;
    options.epochs     = 2;
    options.iterations = 4;
    options.validation_iterations = 1;
    CHECK_STATUS(flare_trainer_open(&trainer, &options), FLARE_OK, "");
    if (trainer == NULL)
        exit(end_checks("trainer_test")); /* nothing else can be tested */
    return trainer;
}

/* The batch that begins with a sample of images and labels. */
static flare_batch batch_of(int first, int count)
{
    flare_batch b = FLARE_BATCH_INIT;
    b.images       = images + first * PATCH;
    b.labels       = labels + first * PATCH;
    b.images_dtype = FLARE_FLOAT32;
    b.labels_dtype = FLARE_INT16;
    b.batch        = count;
    b.channels     = 1;
    b.size[0] = X, b.size[1] = Y, b.size[2] = Z;
    return b;
}

/* Bright and dark blocks in noise. */
static void make_batch(void)
{
    uint32_t noise = 1;
    for (int i = 0; i < BATCH * PATCH; i++) {
        int x = i % X, y = i / X % Y, z = i / X / Y % Z;
        labels[i] = x > 2 && x < 8 && y > 3 && z > 1 ? 1 : x > 9 && y < 8 && z < 6 ? 2 : 0;
        noise     = noise * 1664525 + 1013904223;
        images[i] = (labels[i] == 1 ? 1.5f : labels[i] == 2 ? -1.5f : 0) +
                    (float)(noise >> 24) / 256 + (float)(i / PATCH) / 10;
    }
}

static void test_description(void)
{
    flare_trainer *trainer = open_trainer(0);
    char          *json    = NULL;
    float         *p = NULL, *g = NULL;
    size_t         count = 0, same = 0;
    double         rate = 0;
    CHECK_STATUS(flare_trainer_describe(&json, trainer), FLARE_OK, "");
    CHECK(strstr(json, "\"batch\":2,\"channels\":1,\"patch_size\":[8,12,16],\"heads\":3") != NULL);
    CHECK(strstr(json, "\"name\":\"encoder.stages.0.0.convs.0.conv.weight\",\"shape\":[8,1,3,3,3],\"offset\":0") != NULL);
    flare_free(json);
    CHECK_STATUS(flare_trainer_parameters(&p, &count, trainer), FLARE_OK, "");
    CHECK_STATUS(flare_trainer_gradients(&g, &same, trainer), FLARE_OK, "");
    CHECK(p != NULL && g != NULL && p != g && count == same && count > 10000);
    CHECK((uintptr_t)p % 64 == 0 && p[0] != 0);
    CHECK_STATUS(flare_trainer_get_learning_rate(&rate, trainer), FLARE_OK, "");
    CHECK(rate == 0.01);
    CHECK_STATUS(flare_trainer_set_learning_rate(trainer, 0.25), FLARE_OK, "");
    CHECK_STATUS(flare_trainer_get_learning_rate(&rate, trainer), FLARE_OK, "");
    CHECK(rate == 0.25);
    CHECK_STATUS(flare_trainer_set_learning_rate(trainer, -1), FLARE_ERR_ARGUMENT, "-1");
    CHECK_STATUS(flare_trainer_set_learning_rate(trainer, NAN), FLARE_ERR_ARGUMENT, "NaN");
    flare_trainer_free(trainer);
    CHECK_STATUS(flare_trainer_apply(trainer), FLARE_ERR_HANDLE, "stale");
    CHECK_STATUS(flare_cancel((flare_model *)trainer), FLARE_ERR_HANDLE, "no model handle");
    flare_trainer_free(trainer);
}

/* Two processes with half a batch each, which average their gradients, make the step of one
 * with the whole batch; so does one that accumulates. */
static void test_gradients_of_halves(void)
{
    flare_trainer       *whole = open_trainer(4), *halves[2] = {open_trainer(2), open_trainer(2)};
    flare_trainer       *sum   = halves[0];
    flare_batch          b;
    flare_trainer_result all = FLARE_TRAINER_RESULT_INIT, one = FLARE_TRAINER_RESULT_INIT;
    float               *g, *p, *part[2], *half;
    size_t               n;
    double               loss = 0, largest = 0, differ = 0, counts[3 * HEADS], voxels = 0;

    b                = batch_of(0, 4);
    all.counts       = counts;
    all.counts_count = 3 * HEADS;
    CHECK_STATUS(flare_trainer_backward(&all, whole, &b, 0), FLARE_OK, "");
    CHECK(fabs(all.loss - all.cross_entropy - all.dice) < 1e-5 && all.cross_entropy > 0);
    for (int h = 0; h < HEADS; h++)
        voxels += counts[h] + counts[2 * HEADS + h]; /* true positives and false negatives */
    CHECK(voxels == BATCH * PATCH);
    flare_trainer_gradients(&g, &n, whole);
    for (int i = 0; i < 2; i++) {
        b = batch_of(2 * i, 2);
        CHECK_STATUS(flare_trainer_backward(&one, halves[i], &b, 0), FLARE_OK, "");
        flare_trainer_gradients(&part[i], &n, halves[i]);
        loss += one.loss / 2;
    }
    CHECK(fabs(loss - all.loss) < 1e-5);
    for (size_t i = 0; i < n; i++) {
        part[0][i] = part[1][i] = (part[0][i] + part[1][i]) / 2;
        largest = fmax(largest, fabs(g[i]));
        differ  = fmax(differ, fabs(g[i] - part[0][i]));
    }
    CHECK(largest > 0 && differ < 1e-4 * largest);
    CHECK_STATUS(flare_trainer_apply(whole), FLARE_OK, "");
    for (int i = 0; i < 2; i++)
        CHECK_STATUS(flare_trainer_apply(halves[i]), FLARE_OK, "");
    flare_trainer_parameters(&p, &n, whole);
    flare_trainer_parameters(&half, &n, halves[1]);
    differ = 0;
    for (size_t i = 0; i < n; i++)
        differ = fmax(differ, fabs(p[i] - half[i]));
    CHECK(differ < 1e-5);

    b = batch_of(0, 4);
    CHECK_STATUS(flare_trainer_backward(NULL, whole, &b, 0), FLARE_OK, "");
    for (int i = 0; i < 2; i++) {
        b = batch_of(2 * i, 2);
        CHECK_STATUS(flare_trainer_backward(NULL, sum, &b, i), FLARE_OK, "");
    }
    differ = 0;
    for (size_t i = 0; i < n; i++)
        differ = fmax(differ, fabs(2 * g[i] - part[0][i]));
    CHECK(differ < 1e-3 * largest);
    for (int i = 0; i < 2; i++)
        flare_trainer_free(halves[i]);
    flare_trainer_free(whole);
}

/* The bundle segments a sample of the batch that was learnt. (Background is 66 % of it.) */
static void check_segments(const char *bundle)
{
    flare_model   *model = NULL;
    flare_volume   image = FLARE_VOLUME_INIT;
    static uint8_t found[PATCH];
    int            right = 0;
    image.data    = images;
    image.dtype   = FLARE_FLOAT32;
    image.size[0] = X, image.size[1] = Y, image.size[2] = Z;
    for (int i = 0; i < 3; i++)
        image.spacing[i] = 1;
    CHECK_STATUS(flare_model_open(&model, bundle, NULL), FLARE_OK, "");
    CHECK_STATUS(flare_segment(found, FLARE_UINT8, sizeof found, model, &image, NULL), FLARE_OK, "");
    for (int i = 0; i < PATCH; i++)
        right += found[i] == labels[i];
    CHECK(right > 0.9 * PATCH);
    flare_model_free(model);
}

/* Steps lower the loss; a checkpoint goes on with the same bits; a bundle segments. */
static void test_steps(void)
{
    flare_trainer        *trainer = open_trainer(4), *more = NULL;
    flare_trainer_options options = FLARE_TRAINER_OPTIONS_INIT;
    flare_batch           b       = batch_of(0, 4);
    flare_trainer_result  r       = FLARE_TRAINER_RESULT_INIT;
    double                first, last;
    float                *p, *fine;
    static float          kept[65536];
    size_t                n, m;
    static uint8_t        small[BATCH * PATCH];

    CHECK_STATUS(flare_trainer_step(&r, trainer, &b), FLARE_OK, "");
    first = r.loss;
    for (int i = 0; i < BATCH * PATCH; i++)
        small[i] = (uint8_t)labels[i];
    b.labels       = small;
    b.labels_dtype = FLARE_UINT8;
    for (int i = 0; i < 20; i++)
        CHECK_STATUS(flare_trainer_step(NULL, trainer, &b), FLARE_OK, "");
    CHECK_STATUS(flare_trainer_evaluate(&r, trainer, NULL), FLARE_OK, "");
    CHECK(r.loss < first - 0.3);
    last = r.loss;
    CHECK_STATUS(flare_trainer_evaluate(&r, trainer, &b), FLARE_OK, "");
    CHECK(r.loss == last); /* the same batch, and nothing has changed */

    CHECK_STATUS(flare_trainer_save(trainer, "a.flare"), FLARE_OK, "");
    CHECK_STATUS(flare_trainer_step(NULL, trainer, &b), FLARE_OK, "");
    flare_trainer_parameters(&p, &n, trainer);
    CHECK(n <= sizeof kept / sizeof *kept);
    memcpy(kept, p, n * sizeof *p);
    CHECK_STATUS(flare_trainer_step(NULL, trainer, &b), FLARE_OK, "");
    CHECK(memcmp(kept, p, n * sizeof *p) != 0);
    CHECK_STATUS(flare_trainer_load(trainer, "a.flare"), FLARE_OK, "");
    CHECK_STATUS(flare_trainer_step(NULL, trainer, &b), FLARE_OK, "");
    CHECK(memcmp(kept, p, n * sizeof *p) == 0);

    CHECK_STATUS(flare_trainer_export(trainer, "model.onnx"), FLARE_OK, "");
    check_segments("model.onnx");
    CHECK_STATUS(flare_trainer_export(trainer, "results"), FLARE_OK, "");
    options.model = "results";
    options.patch[0] = options.patch[1] = options.patch[2] = 8;
    CHECK_STATUS(flare_trainer_open(&more, &options), FLARE_OK, "");
    CHECK_STATUS(flare_trainer_parameters(&fine, &m, more), FLARE_OK, "");
    CHECK(m == n && memcmp(fine, p, n * sizeof *p) == 0);
    CHECK_STATUS(flare_trainer_load(more, "a.flare"), FLARE_ERR_MODEL, "a.flare");
    flare_trainer_free(more);
    flare_trainer_free(trainer);
}

static void test_bad_batches(void)
{
    flare_trainer       *trainer = open_trainer(2);
    flare_batch          good    = batch_of(0, 2), b;
    flare_trainer_result r       = FLARE_TRAINER_RESULT_INIT;
    double               counts[3 * HEADS];
    float               *p, keep;
    float                before[64];
    size_t               n;
    const char *const    shape = "expected 2 of 1 channels of 8 x 12 x 16";
    const float          soft[1] = {0};

    flare_trainer_parameters(&p, &n, trainer);
    memcpy(before, p, sizeof before);
    CHECK_STATUS(flare_trainer_step(NULL, trainer, NULL), FLARE_ERR_ARGUMENT, "no cases");
    CHECK_STATUS(flare_trainer_run(trainer, NULL), FLARE_ERR_ARGUMENT, "no cases");
    CHECK_STATUS(flare_trainer_evaluate(NULL, trainer, NULL), FLARE_ERR_ARGUMENT, "no batch before");
    b = good, b.batch = 1;
    CHECK_STATUS(flare_trainer_step(&r, trainer, &b), FLARE_ERR_ARGUMENT, shape);
    b = good, b.channels = 2;
    CHECK_STATUS(flare_trainer_backward(&r, trainer, &b, 0), FLARE_ERR_ARGUMENT, shape);
    b = good, b.size[0] = Z, b.size[2] = X;
    CHECK_STATUS(flare_trainer_evaluate(&r, trainer, &b), FLARE_ERR_ARGUMENT, shape);
    b = good, b.size[1] = INT64_MAX;
    CHECK_STATUS(flare_trainer_step(&r, trainer, &b), FLARE_ERR_ARGUMENT, shape);
    b = good, b.images_dtype = FLARE_FLOAT64;
    CHECK_STATUS(flare_trainer_step(&r, trainer, &b), FLARE_ERR_ARGUMENT, "must be FLARE_FLOAT32");
    b = good, b.labels_dtype = FLARE_FLOAT64;
    CHECK_STATUS(flare_trainer_step(&r, trainer, &b), FLARE_ERR_ARGUMENT, "labels_dtype is 6");
    b = good, b.labels_dtype = 77;
    CHECK_STATUS(flare_trainer_step(&r, trainer, &b), FLARE_ERR_ARGUMENT, "labels_dtype is 77");
    b = good, b.labels = NULL;
    CHECK_STATUS(flare_trainer_step(&r, trainer, &b), FLARE_ERR_ARGUMENT, "expected labels");
    b = good, b.soft = soft;
    CHECK_STATUS(flare_trainer_step(&r, trainer, &b), FLARE_ERR_ARGUMENT, "expected labels");
    b = good, b.weights = soft;
    CHECK_STATUS(flare_trainer_step(&r, trainer, &b), FLARE_ERR_ARGUMENT, "weights only");
    b = good, b.images = (const char *)b.images + 1;
    CHECK_STATUS(flare_trainer_step(&r, trainer, &b), FLARE_ERR_ARGUMENT, "aligned");
    r.counts = counts, r.counts_count = 3 * HEADS - 1;
    CHECK_STATUS(flare_trainer_step(&r, trainer, &good), FLARE_ERR_ARGUMENT, "counts_count is 8");
    r.counts = NULL, r.counts_count = 0;
    labels[5] += 40;
    CHECK_STATUS(flare_trainer_step(&r, trainer, &good), FLARE_ERR_ARGUMENT, "element 5 is 4");
    labels[5] -= 40;
    keep = images[7], images[7] = NAN;
    CHECK_STATUS(flare_trainer_step(&r, trainer, &good), FLARE_ERR_MODEL, "the loss is NaN");
    CHECK(isnan(r.loss));
    images[7] = keep;
    CHECK(memcmp(before, p, sizeof before) == 0); /* none of them changed the parameters */
    CHECK_STATUS(flare_trainer_step(&r, trainer, &good), FLARE_OK, "");
    CHECK(memcmp(before, p, sizeof before) != 0);

    CHECK_STATUS(flare_trainer_load(trainer, "none.flare"), FLARE_ERR_NOT_FOUND, "none.flare");
    CHECK_STATUS(flare_trainer_load(trainer, plans), FLARE_ERR_FORMAT, "not a checkpoint");
    CHECK_STATUS(flare_trainer_save(trainer, "no/folder/a.flare"), FLARE_ERR_NOT_FOUND, "no/folder");
    flare_trainer_free(trainer);
}

static void test_bad_options(void)
{
    flare_trainer        *trainer;
    flare_trainer_options good = FLARE_TRAINER_OPTIONS_INIT, o;
    good.plans   = plans;
    good.dataset = dataset;
    o = good, o.mode = "quick";
    CHECK_STATUS(flare_trainer_open(&trainer, &o), FLARE_ERR_ARGUMENT, "exact, fast");
    o = good, o.optimizer = "lion";
    CHECK_STATUS(flare_trainer_open(&trainer, &o), FLARE_ERR_ARGUMENT, "sgd, adamw");
    o = good, o.dropout = 1;
    CHECK_STATUS(flare_trainer_open(&trainer, &o), FLARE_ERR_ARGUMENT, "dropout");
    o = good, o.learning_rate = -1;
    CHECK_STATUS(flare_trainer_open(&trainer, &o), FLARE_ERR_ARGUMENT, "learning_rate");
    o = good, o.patch[0] = 16;
    CHECK_STATUS(flare_trainer_open(&trainer, &o), FLARE_ERR_ARGUMENT, "needs 3 numbers");
    o = good, o.patch[0] = -1;
    CHECK_STATUS(flare_trainer_open(&trainer, &o), FLARE_ERR_ARGUMENT, "patch[0]");
    o = good, o.model = "x.onnx";
    CHECK_STATUS(flare_trainer_open(&trainer, &o), FLARE_ERR_ARGUMENT, "x.onnx");
    o = good, o.configuration = "4d";
    CHECK_STATUS(flare_trainer_open(&trainer, &o), FLARE_ERR_MODEL, "4d");
    o = good, o.plans = "none.json";
    CHECK_STATUS(flare_trainer_open(&trainer, &o), FLARE_ERR_NOT_FOUND, "none.json");
    o = good, o.cache = "none";
    CHECK_STATUS(flare_trainer_open(&trainer, &o), FLARE_ERR_NOT_FOUND, "none");
    flare_trainer_options_init(&o, sizeof o);
    o.model = "none.onnx";
    CHECK_STATUS(flare_trainer_open(&trainer, &o), FLARE_ERR_NOT_FOUND, "none.onnx");
    CHECK(trainer == NULL);
}

/* ------------------------------------------------------- cases, the loop, threads ------- */

enum { NX = 20, NY = 18, NZ = 16, VOXELS = NX * NY * NZ };

static void add_case(flare_trainer *trainer)
{
    static int16_t voxels[VOXELS];
    static uint8_t classes[VOXELS];
    flare_volume   image = FLARE_VOLUME_INIT, truth;
    for (int i = 0; i < VOXELS; i++) {
        int x = i % NX, y = i / NX % NY, z = i / NX / NY;
        classes[i] = x > 3 && x < 9 && y > 3 && z > 4 ? 1 : x > 11 && y < 9 ? 2 : 0;
        voxels[i]  = (int16_t)(100 + 40 * (classes[i] == 1) - 40 * (classes[i] == 2) + i * 7 % 13);
    }
    image.data    = voxels;
    image.dtype   = FLARE_INT16;
    image.size[0] = NX, image.size[1] = NY, image.size[2] = NZ;
    for (int i = 0; i < 3; i++)
        image.spacing[i] = 1;
    truth       = image;
    truth.data  = classes;
    truth.dtype = FLARE_UINT8;
    CHECK_STATUS(flare_trainer_add_case(trainer, "mine", &image, &truth), FLARE_OK, "");
    truth.size[0]--;
    CHECK_STATUS(flare_trainer_add_case(trainer, "other", &image, &truth), FLARE_ERR_MODEL,
                 "other (labels): [19 18 16] voxels");
    truth.size[0]++;
    classes[9] = 7;
    CHECK_STATUS(flare_trainer_add_case(trainer, "other", &image, &truth), FLARE_ERR_MODEL,
                 "other (labels): a voxel is 7");
    image.channels = -1;
    CHECK_STATUS(flare_trainer_add_case(trainer, "other", &image, &truth), FLARE_ERR_ARGUMENT, "channels");
}

typedef struct watch {
    flare_trainer *trainer; /* to cancel, or NULL */
    int            calls, validated;
    int32_t        answer;
    double         rate;
} watch;

static int32_t on_progress(const flare_trainer_progress *p, void *user)
{
    watch *w = user;
    w->calls++;
    w->validated += strcmp(p->phase, "validate") == 0;
    w->rate = p->learning_rate;
    CHECK(p->struct_size == sizeof *p && p->epochs == 2 && p->epoch >= 0 && p->epoch < 2);
    CHECK(p->done >= 1 && p->done <= p->total && !isnan(p->loss));
    if (w->trainer != NULL)
        CHECK_STATUS(flare_trainer_cancel(w->trainer), FLARE_OK, "");
    return w->answer;
}

static void test_run(void)
{
    flare_trainer            *trainer = open_trainer(2);
    flare_trainer_run_options o       = FLARE_TRAINER_RUN_OPTIONS_INIT;
    watch                     w       = {trainer, 0, 0, 0, 0};
    o.progress      = on_progress;
    o.progress_user = &w;
    add_case(trainer);
    CHECK_STATUS(flare_trainer_step(NULL, trainer, NULL), FLARE_OK, "");
    CHECK_STATUS(flare_trainer_run(trainer, &o), FLARE_ERR_CANCELLED, "");
    w.trainer = NULL, w.answer = 1;
    CHECK_STATUS(flare_trainer_run(trainer, &o), FLARE_ERR_CANCELLED, "");
    CHECK(w.calls == 2);
    w.answer = 0;
    o.folder = "run";
    CHECK_STATUS(flare_trainer_run(trainer, &o), FLARE_OK, "");
    CHECK(w.calls > 2 && w.validated == 2 && w.rate > 0 && w.rate < 0.01);
    CHECK(access("run/model.onnx", R_OK) == 0 && access("run/checkpoint.flare", R_OK) == 0);
    CHECK_STATUS(flare_trainer_load(trainer, "run/checkpoint.flare"), FLARE_OK, "");
    flare_trainer_free(trainer);
}

typedef struct worker {
    flare_trainer *trainer;
    int            steps, done;
    flare_status   status;
} worker;

static void *many_steps(void *user)
{
    worker     *w = user;
    flare_batch b = batch_of(0, 2);
    for (w->status = FLARE_OK; w->done < w->steps && w->status == FLARE_OK; w->done++)
        w->status = flare_trainer_step(NULL, w->trainer, &b);
    return NULL;
}

/* Calls take turns; freeing ends them. */
static void test_threads(void)
{
    enum { COUNT = 4 };
    pthread_t      threads[COUNT];
    worker         workers[COUNT];
    flare_trainer *trainer = open_trainer(2);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < COUNT; i++) {
            workers[i] = (worker){trainer, round ? 1000000 : 5, 0, FLARE_OK};
            CHECK(pthread_create(&threads[i], NULL, many_steps, &workers[i]) == 0);
        }
        if (round)
            flare_trainer_free(trainer);
        for (int i = 0; i < COUNT; i++) {
            pthread_join(threads[i], NULL);
            if (round)
                CHECK(workers[i].status == FLARE_ERR_CANCELLED || workers[i].status == FLARE_ERR_HANDLE);
            else
                CHECK(workers[i].status == FLARE_OK && workers[i].done == 5);
        }
    }
}

int main(void)
{
    const char *folder = getenv("FLARE_TEST_NETWORK");
    begin_checks();
    snprintf(plans, sizeof plans, "%s/plans.json", folder);
    snprintf(dataset, sizeof dataset, "%s/dataset.json", folder);
    make_batch();
    test_description();
    test_gradients_of_halves();
    test_steps();
    test_bad_batches();
    test_bad_options();
    test_run();
    test_threads();
    return end_checks("trainer_test");
}
