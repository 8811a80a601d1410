/* A libflare without networks, for tests of the binding alone. It implements flare.h and
 * tells in flare_model_stats what flare_segment received. The path given to
 * flare_model_open chooses how a model behaves:
 *   status:N   opening fails with status N
 *   labels:N   the highest label is N
 *   slow       a segment call takes 20 s, in steps of 5 ms
 *   otherwise  label = voxel & 255 of the first channel; two heads: label == 0, label != 0
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "flare.h"

static _Thread_local char last_error[256];
static int                forked;
static void mark_forked(void) { forked = 1; }
__attribute__((constructor)) static void start(void) { pthread_atfork(0, 0, mark_forked); }

static flare_status fail(flare_status status, const char *text)
{
    snprintf(last_error, sizeof last_error, "%s", text);
    return status;
}

const char *flare_last_error(void) { return last_error; }
const char *flare_status_name(flare_status status) { (void)status; return "FLARE_FAKE"; }
uint32_t    flare_api_version(void) { return FLARE_API_VERSION; }
const char *flare_version(void) { return "0.0.0+fake"; }
void        flare_free(void *memory) { free(memory); }

void flare_open_options_init(flare_open_options *o, size_t n) { memset(o, 0, n); o->struct_size = n; }
void flare_volume_init(flare_volume *o, size_t n) { memset(o, 0, n); o->struct_size = n; }
void flare_segment_options_init(flare_segment_options *o, size_t n) { memset(o, 0, n); o->struct_size = n; }
void flare_evaluate_options_init(flare_evaluate_options *o, size_t n) { memset(o, 0, n); o->struct_size = n; }
void flare_convert_options_init(flare_convert_options *o, size_t n) { memset(o, 0, n); o->struct_size = n; }

static flare_log_fn log_fn;
static void        *log_user;
static int32_t      log_level;

flare_status flare_set_log(flare_log_fn fn, void *user, int32_t level)
{
    log_fn = fn, log_user = user, log_level = level;
    return FLARE_OK;
}

flare_status flare_devices(char **out, const char *runtime)
{
    if (runtime && asprintf(out, "{\"runtime\": \"%s\", \"devices\": []}", runtime) > 0)
        return FLARE_OK;
    *out = strdup("{\"devices\": [{\"name\": \"openvino\", \"available\": true},"
                  "{\"name\": \"ort\", \"available\": true}, {\"name\": \"cuda\", \"available\": false}]}");
    return FLARE_OK;
}

/* ---- models: 16 slots; a handle is slot + 1 + 16 * generation ---- */

enum { SLOTS = 16 };
static struct model {
    int           open, generation, slow, labels;
    volatile int  cancel;
    char          received[1024];
} models[SLOTS];
static pthread_mutex_t one_call = PTHREAD_MUTEX_INITIALIZER;

static struct model *find(flare_model *handle)
{
    size_t        id = (size_t)handle;
    struct model *m = &models[(id + SLOTS - 1) % SLOTS];
    return id && m->open && id == (size_t)(m - models + 1 + SLOTS * m->generation) ? m : NULL;
}

flare_status flare_model_open(flare_model **out, const char *path, const flare_open_options *options)
{
    int number;
    *out = NULL;
    if (forked)
        return fail(FLARE_ERR_FORKED, "forked");
    if (sscanf(path, "status:%d", &number) == 1)
        return fail(number, path);
    for (struct model *m = models; m < models + SLOTS; m++)
        if (!m->open) {
            m->open = 1, m->generation++, m->slow = strcmp(path, "slow") == 0, m->cancel = 0;
            m->labels = sscanf(path, "labels:%d", &number) == 1 ? number : 1;
            snprintf(m->received, sizeof m->received,
                     "{\"device\": \"%s\", \"folds\": \"%s\", \"checkpoint\": \"%s\", \"runtime\": \"%s\", "
                     "\"threads\": %d, \"gpu_memory_limit\": %lld, \"struct_size\": %zu}",
                     options->device, options->folds, options->checkpoint ? options->checkpoint : "",
                     options->runtime ? options->runtime : "", options->threads, (long long)options->gpu_memory_limit,
                     options->struct_size);
            *out = (flare_model *)(size_t)(m - models + 1 + SLOTS * m->generation);
            return FLARE_OK;
        }
    return fail(FLARE_ERR_MEMORY, "too many models");
}

flare_status flare_model_describe(char **out, flare_model *handle)
{
    struct model *m = find(handle);
    if (forked)
        return fail(FLARE_ERR_FORKED, "forked");
    if (!m)
        return fail(FLARE_ERR_HANDLE, "stale");
    return asprintf(out, "{\"heads\": 2, \"task\": \"caf\xc3\xa9\", \"labels\": "
                    "[{\"name\": \"background\", \"value\": 0}, {\"name\": \"organ\", \"value\": %d}]}",
                    m->labels) > 0 ? FLARE_OK : FLARE_ERR_MEMORY;
}

void flare_model_free(flare_model *handle)
{
    struct model *m = find(handle);
    if (m && !forked)
        m->open = 0;
}

flare_status flare_cancel(flare_model *handle)
{
    struct model *m = find(handle);
    if (!m)
        return fail(FLARE_ERR_HANDLE, "stale");
    m->cancel = 1;
    return FLARE_OK;
}

flare_status flare_model_stats(char **out, flare_model *handle)
{
    struct model *m = find(handle);
    if (!m)
        return fail(FLARE_ERR_HANDLE, "stale");
    *out = strdup(m->received);
    return FLARE_OK;
}

struct work {
    struct model                *model;
    const flare_segment_options *options;
    flare_status                 status;
};

static void *work(void *argument) /* on a thread of the library, as in libflare */
{
    struct work *w = argument;
    int          steps = w->model->slow ? 4000 : 2;
    for (int i = 1; i <= steps; i++) {
        if (w->options->progress && w->options->progress((double)i / steps, "network", w->options->progress_user))
            w->status = FLARE_ERR_CANCELLED;
        if (log_fn && log_level >= FLARE_LOG_INFO)
            log_fn(FLARE_LOG_INFO, "a tile", log_user);
        if (w->model->cancel || w->status)
            return w->status = FLARE_ERR_CANCELLED, NULL;
        if (w->model->slow)
            usleep(5000);
    }
    return NULL;
}

static flare_status call(struct model *m, const flare_segment_options *options)
{
    struct work w = {m, options, FLARE_OK};
    pthread_t   thread;
    pthread_mutex_lock(&one_call);
    m->cancel = 0;
    pthread_create(&thread, NULL, work, &w);
    pthread_join(thread, NULL);
    pthread_mutex_unlock(&one_call);
    return w.status ? fail(w.status, "cancelled") : FLARE_OK;
}

static unsigned voxel(const flare_volume *v, size_t i)
{
    switch (v->dtype) {
    case FLARE_UINT8:   return ((const uint8_t *)v->data)[i];
    case FLARE_INT16:   return (unsigned)((const int16_t *)v->data)[i];
    case FLARE_UINT16:  return ((const uint16_t *)v->data)[i];
    case FLARE_INT32:   return (unsigned)((const int32_t *)v->data)[i];
    case FLARE_FLOAT32: return (unsigned)(long long)((const float *)v->data)[i];
    default:            return (unsigned)(long long)((const double *)v->data)[i];
    }
}

flare_status flare_segment(void *labels, int32_t labels_dtype, size_t labels_bytes, flare_model *handle,
                           const flare_volume *v, const flare_segment_options *options)
{
    struct model *m = find(handle);
    size_t        n = (size_t)(v->size[0] * v->size[1] * v->size[2]);
    unsigned      sum = 0; /* of previous, each voxel times its number, so that order counts */
    flare_status  status;
    if (forked)
        return fail(FLARE_ERR_FORKED, "forked");
    if (!m)
        return fail(FLARE_ERR_HANDLE, "stale");
    if (labels_bytes != n * (labels_dtype == FLARE_UINT16 ? 2 : 1) || v->struct_size != sizeof *v)
        return fail(FLARE_ERR_ARGUMENT, "sizes");
    if (options->probabilities && options->probabilities_count != 2 * n)
        return fail(FLARE_ERR_ARGUMENT, "probabilities_count");
    if (options->struct_size != sizeof *options || options->previous_path)
        return fail(FLARE_ERR_ARGUMENT, "options");
    status = call(m, options);
    if (status != FLARE_OK)
        return status;
    if (options->previous) {
        flare_volume stage = *v;
        stage.data = options->previous, stage.dtype = options->previous_dtype;
        for (size_t i = 0; i < n; i++)
            sum += (unsigned)(i + 1) * (voxel(&stage, i) & 255);
    }
    for (size_t i = 0; i < n; i++) {
        unsigned label = voxel(v, i) & 255;
        if (labels_dtype == FLARE_UINT16)
            ((uint16_t *)labels)[i] = (uint16_t)label;
        else
            ((uint8_t *)labels)[i] = (uint8_t)label;
        if (options->probabilities)
            options->probabilities[i] = label == 0, options->probabilities[n + i] = label != 0;
    }
    snprintf(m->received, sizeof m->received,
             "{\"data\": %zu, \"dtype\": %d, \"channels\": %d, \"size\": [%lld, %lld, %lld], "
             "\"spacing\": [%.17g, %.17g, %.17g], \"origin\": [%.17g, %.17g, %.17g], "
             "\"direction\": [%g, %g, %g, %g, %g, %g, %g, %g, %g], "
             "\"labels\": %zu, \"labels_dtype\": %d, \"mirror\": %d, \"postprocess\": %d, "
             "\"previous\": %zu, \"previous_bytes\": %zu, \"previous_dtype\": %d, \"previous_sum\": %u, "
             "\"seconds\": {\"total\": 0}}",
             (size_t)v->data, v->dtype, v->channels, (long long)v->size[0], (long long)v->size[1],
             (long long)v->size[2], v->spacing[0], v->spacing[1], v->spacing[2], v->origin[0], v->origin[1],
             v->origin[2], v->direction[0], v->direction[1], v->direction[2], v->direction[3], v->direction[4],
             v->direction[5], v->direction[6], v->direction[7], v->direction[8], (size_t)labels, labels_dtype,
             options->mirror, options->postprocess, (size_t)options->previous, options->previous_bytes,
             options->previous_dtype, sum);
    return FLARE_OK;
}

flare_status flare_segment_file(flare_model *handle, const char *in_path, const char *out_path,
                                const flare_segment_options *options)
{
    struct model *m = find(handle);
    flare_status  status;
    if (!m)
        return fail(FLARE_ERR_HANDLE, "stale");
    status = call(m, options);
    if (status == FLARE_OK)
        snprintf(m->received, sizeof m->received,
                 "{\"in\": \"%s\", \"out\": \"%s\", \"probabilities\": \"%s\", \"mirror\": %d, "
                 "\"postprocess\": %d, \"previous\": \"%s\"}", in_path, out_path,
                 options->probabilities_path ? options->probabilities_path : "", options->mirror,
                 options->postprocess, options->previous_path ? options->previous_path : "");
    return status;
}

/* ---- training: only there to be found ---- */

#define NONE { return fail(FLARE_ERR_UNSUPPORTED, "the fake does not train"); }
flare_status flare_trainer_open(flare_trainer **out, const flare_trainer_options *o) { (void)o; *out = NULL; NONE }
flare_status flare_trainer_describe(char **out, flare_trainer *t) { (void)out, (void)t; NONE }
flare_status flare_trainer_add_case(flare_trainer *t, const char *n, const flare_volume *v, const flare_volume *l) { (void)t, (void)n, (void)v, (void)l; NONE }
flare_status flare_trainer_step(flare_trainer_result *r, flare_trainer *t, const flare_batch *b) { (void)r, (void)t, (void)b; NONE }
flare_status flare_trainer_backward(flare_trainer_result *r, flare_trainer *t, const flare_batch *b, int32_t a) { (void)r, (void)t, (void)b, (void)a; NONE }
flare_status flare_trainer_evaluate(flare_trainer_result *r, flare_trainer *t, const flare_batch *b) { (void)r, (void)t, (void)b; NONE }
flare_status flare_trainer_apply(flare_trainer *t) { (void)t; NONE }
flare_status flare_trainer_parameters(float **out, size_t *n, flare_trainer *t) { (void)out, (void)n, (void)t; NONE }
flare_status flare_trainer_gradients(float **out, size_t *n, flare_trainer *t) { (void)out, (void)n, (void)t; NONE }
flare_status flare_trainer_set_learning_rate(flare_trainer *t, double r) { (void)t, (void)r; NONE }
flare_status flare_trainer_get_learning_rate(double *out, flare_trainer *t) { (void)out, (void)t; NONE }
flare_status flare_trainer_save(flare_trainer *t, const char *path) { (void)t, (void)path; NONE }
flare_status flare_trainer_load(flare_trainer *t, const char *path) { (void)t, (void)path; NONE }
flare_status flare_trainer_export(flare_trainer *t, const char *path) { (void)t, (void)path; NONE }
flare_status flare_trainer_run(flare_trainer *t, const flare_trainer_run_options *o) { (void)t, (void)o; NONE }
flare_status flare_trainer_cancel(flare_trainer *t) { (void)t; NONE }
void flare_trainer_free(flare_trainer *t) { (void)t; }
void flare_trainer_options_init(flare_trainer_options *o, size_t n) { memset(o, 0, n); o->struct_size = n; }
void flare_batch_init(flare_batch *o, size_t n) { memset(o, 0, n); o->struct_size = n; }
void flare_trainer_result_init(flare_trainer_result *o, size_t n) { memset(o, 0, n); o->struct_size = n; }
void flare_trainer_run_options_init(flare_trainer_run_options *o, size_t n) { memset(o, 0, n); o->struct_size = n; }
flare_status flare_evaluate(char **out, const flare_volume *p, const flare_volume *r,
                            const flare_evaluate_options *o)
{
    char text[500];
    snprintf(text, sizeof text, "{\"dsc\": 1, \"sizes\": [%d, %d], \"dtypes\": [%d, %d], \"rules\": \"%s\", "
             "\"tolerance\": %g, \"threads\": %d, \"resample\": %d, \"csv\": \"%s\", \"html\": \"%s\"}", (int)p->size[0],
             (int)r->size[2], (int)p->dtype, (int)r->dtype, o->rules, o->tolerance_mm, (int)o->threads, (int)o->resample,
             o->csv_path ? o->csv_path : "", o->html_path ? o->html_path : "");
    *out = strdup(text);
    return FLARE_OK;
}

/* Calls progress four times; a prediction called "broken" is one that fails beside others. */
flare_status flare_evaluate_file(char **out, const char *prediction, const char *reference,
                                 const flare_evaluate_options *o)
{
    char text[500];
    *out = NULL;
    for (int i = 0; i < 4; i++)
        if (o->progress && o->progress(i / 4.0, "evaluate", o->progress_user))
            return fail(FLARE_ERR_CANCELLED, "cancelled");
    snprintf(text, sizeof text, "{\"files\": [\"%s\", \"%s\"], \"labels\": \"%s\", \"resample\": %d, \"csv\": \"%s\", "
             "\"html\": \"%s\"}", prediction, reference, o->labels_path ? o->labels_path : "", (int)o->resample,
             o->csv_path ? o->csv_path : "", o->html_path ? o->html_path : "");
    *out = strdup(text);
    return strcmp(prediction, "broken") == 0 ? fail(FLARE_ERR_FORMAT, "1 of 2 cases") : FLARE_OK;
}

void flare_efficiency_options_init(flare_efficiency_options *o, size_t n) { memset(o, 0, n); o->struct_size = n; }
flare_status flare_efficiency(char **out, const char *const *command, size_t n, const flare_efficiency_options *o) { (void)command, (void)n, (void)o; *out = NULL; NONE }
void flare_pseudo_label_options_init(flare_pseudo_label_options *o, size_t n) { memset(o, 0, n); o->struct_size = n; }
void flare_student_options_init(flare_student_options *o, size_t n) { memset(o, 0, n); o->struct_size = n; }

/* A folder of images called "broken" is one with a case that fails beside others. */
flare_status flare_pseudo_label(char **out, const char *images, const char *folder, const flare_pseudo_label_options *o)
{
    char text[500];
    *out = NULL;
    if (o->progress && o->progress(0.5, "label", o->progress_user))
        return fail(FLARE_ERR_CANCELLED, "cancelled");
    snprintf(text, sizeof text, "{\"folders\": [\"%s\", \"%s\"], \"models\": [\"%s\", \"%s\"], \"previous\": \"%s\", \"below\": [%g, %g], "
             "\"mirror\": %d, \"weights\": %d, \"shard\": [%d, %d], \"threads\": %d, \"open\": [\"%s\", \"%s\", \"%s\", \"%s\"]}", images, folder, o->models[0],
             o->models[o->models_count - 1], o->previous_path ? o->previous_path : "", o->ignore_below, o->soft_below, !o->no_mirror,
             (int)o->weights, (int)o->shard, (int)o->shards, (int)o->threads, o->device, o->mode, o->cache_dir ? o->cache_dir : "",
             o->runtime ? o->runtime : "");
    *out = strdup(text);
    return strcmp(images, "broken") == 0 ? fail(FLARE_ERR_FORMAT, "1 of 2 cases") : FLARE_OK;
}

/* A labeller has the cases a, b and "broken", which cannot be read; b finds the disk full. */
flare_status flare_labeller_open(flare_labeller **out, const char *images, const char *folder, const flare_pseudo_label_options *o)
{
    *out = NULL;
    if (o->progress || strcmp(images, "none") == 0)
        return fail(FLARE_ERR_NOT_FOUND, folder);
    *out = (flare_labeller *)(uintptr_t)77;
    return FLARE_OK;
}
flare_status flare_labeller_cases(char **out, flare_labeller *l) { (void)l; *out = strdup("[\"a\", \"b\", \"broken\"]"); return FLARE_OK; }
flare_status flare_labeller_label(char **out, flare_labeller *l, const char *name)
{
    *out = NULL;
    if (l != (flare_labeller *)(uintptr_t)77)
        return fail(FLARE_ERR_HANDLE, "stale");
    if (strcmp(name, "b") == 0)
        return fail(FLARE_ERR_IO, "the disk is full");
    if (strcmp(name, "broken") == 0) {
        *out = strdup("{\"scores\": [], \"skipped\": [{\"case\": \"broken\", \"reason\": \"bad\", \"kind\": 6}]}");
        return fail(FLARE_ERR_FORMAT, "bad");
    }
    *out = strdup("{\"scores\": [{\"case\": \"a\"}], \"skipped\": []}");
    return FLARE_OK;
}
flare_status flare_labeller_cancel(flare_labeller *l) { (void)l; return FLARE_OK; }
void flare_labeller_free(flare_labeller *l) { (void)l; }

flare_status flare_student(char **out, const char *config, const flare_student_options *o)
{
    char text[100];
    *out = NULL;
    if (o->progress && o->progress(0.25, "teacher_fold_0", o->progress_user))
        return fail(FLARE_ERR_CANCELLED, "cancelled");
    snprintf(text, sizeof text, "{\"config\": \"%s\", \"runtime\": \"%s\"}", config, o->runtime ? o->runtime : "");
    *out = strdup(text);
    return FLARE_OK;
}

/* Reads nothing, writes nothing: tests of image files use the real library. */
void flare_write_options_init(flare_write_options *o, size_t n) { memset(o, 0, n); o->struct_size = n; }
flare_status flare_image_open(flare_image **out, const char *path) { (void)path; *out = NULL; NONE }
flare_status flare_image_volume(flare_volume *out, flare_image *i) { (void)out, (void)i; NONE }
void flare_image_free(flare_image *i) { (void)i; }
flare_status flare_image_write(const char *path, const flare_volume *v, const flare_write_options *o) { (void)path, (void)v, (void)o; return FLARE_OK; }

flare_status flare_convert(const char *out_path, const flare_convert_options *o)
{
    (void)out_path;
    snprintf(last_error, sizeof last_error, "%s|%s|%s|%s|%s|%s|%s|%s", o->folder, o->onnx, o->plans, o->dataset,
             o->configuration, o->orientation, o->folds, o->checkpoint);
    return FLARE_ERR_UNSUPPORTED; /* so that the test sees the text */
}
