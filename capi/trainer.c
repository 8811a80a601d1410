/* The public functions of training, as flare.c; their Go exports are in trainer.go. */
#include <stdlib.h>
#include <string.h>

#include "_cgo_export.h"
#include "shim.h"

/* Sizes of the structs in the first published flare.h; they never change. */
enum {
    TRAINER_OPTIONS_FIRST = offsetof(flare_trainer_options, stochastic_depth) + sizeof(double),
    BATCH_FIRST           = offsetof(flare_batch, size) + 3 * sizeof(int64_t),
    RESULT_FIRST          = offsetof(flare_trainer_result, counts_count) + sizeof(size_t),
    RUN_OPTIONS_FIRST     = offsetof(flare_trainer_run_options, folder) + sizeof(char *)
};

void flare_trainer_options_init(flare_trainer_options *options, size_t struct_size)
{
    edge_init(options, struct_size);
}

void flare_batch_init(flare_batch *batch, size_t struct_size)
{
    edge_init(batch, struct_size);
}

void flare_trainer_result_init(flare_trainer_result *result, size_t struct_size)
{
    edge_init(result, struct_size);
}

void flare_trainer_run_options_init(flare_trainer_run_options *options, size_t struct_size)
{
    edge_init(options, struct_size);
}

static uint64_t id(flare_trainer *trainer)
{
    return (uint64_t)(uintptr_t)trainer;
}

flare_status flare_trainer_open(flare_trainer **out, const flare_trainer_options *options)
{
    flare_trainer_options copy;
    flare_status          status;
    uint64_t              trainer = 0;
    char                 *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL(out);
    *out = NULL;
    REFUSE_NULL(options);
    TAKE(copy, TRAINER_OPTIONS_FIRST, options, "flare_trainer_options");
    REFUSE_RESERVED(copy);
    status = edge_keep(flareGoTrainerOpen(&text, &trainer, &copy), &text);
    *out = (flare_trainer *)(uintptr_t)trainer;
    return status;
}

flare_status flare_trainer_describe(char **out, flare_trainer *trainer)
{
    char *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL(out);
    *out = NULL;
    REFUSE_NULL_HANDLE(trainer);
    return edge_keep(flareGoTrainerDescribe(&text, out, id(trainer)), &text);
}

flare_status flare_trainer_add_case(flare_trainer *trainer, const char *name,
                                    const flare_volume *image, const flare_volume *labels)
{
    flare_volume voxels, classes;
    char        *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL_HANDLE(trainer);
    REFUSE_NULL(name);
    REFUSE_NULL(image);
    REFUSE_NULL(labels);
    TAKE(voxels, EDGE_VOLUME_FIRST, image, "flare_volume");
    TAKE(classes, EDGE_VOLUME_FIRST, labels, "flare_volume");
    REFUSE_NULL(voxels.data);
    REFUSE_NULL(classes.data);
    return edge_keep(flareGoTrainerAddCase(&text, id(trainer), (char *)name, &voxels, &classes),
                     &text);
}

enum { STEP, BACKWARD, ACCUMULATE, EVALUATE }; /* as in trainer.go */

/* What the functions that take a batch have in common. */
static flare_status on_batch(flare_trainer_result *result, flare_trainer *trainer,
                             const flare_batch *batch, int32_t what, const char *function)
{
    flare_trainer_result told;
    flare_batch          given;
    flare_status         status;
    char                *text = NULL;
    if (trainer == NULL)
        return edge_fail(FLARE_ERR_HANDLE, "%s: trainer is NULL", function);
    status = edge_take(&told, sizeof told, RESULT_FIRST, result, function, "flare_trainer_result");
    if (status == FLARE_OK)
        status = edge_take(&given, sizeof given, BATCH_FIRST, batch, function, "flare_batch");
    if (status != FLARE_OK)
        return status;
    if (batch != NULL && given.images == NULL)
        return edge_fail(FLARE_ERR_ARGUMENT, "%s: images is NULL", function);
    told.loss = told.cross_entropy = told.dice = 0;
    status = edge_keep(flareGoTrainerBatch(&text, id(trainer), &told,
                                           batch != NULL ? &given : NULL, what), &text);
    if (result != NULL) {
        result->loss = told.loss;
        result->cross_entropy = told.cross_entropy;
        result->dice = told.dice;
    }
    return status;
}

flare_status flare_trainer_step(flare_trainer_result *result, flare_trainer *trainer,
                                const flare_batch *batch)
{
    REFUSE_FORKED();
    return on_batch(result, trainer, batch, STEP, __func__);
}

flare_status flare_trainer_backward(flare_trainer_result *result, flare_trainer *trainer,
                                    const flare_batch *batch, int32_t accumulate)
{
    REFUSE_FORKED();
    return on_batch(result, trainer, batch, accumulate ? ACCUMULATE : BACKWARD, __func__);
}

flare_status flare_trainer_evaluate(flare_trainer_result *result, flare_trainer *trainer,
                                    const flare_batch *batch)
{
    REFUSE_FORKED();
    return on_batch(result, trainer, batch, EVALUATE, __func__);
}

flare_status flare_trainer_apply(flare_trainer *trainer)
{
    char *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL_HANDLE(trainer);
    return edge_keep(flareGoTrainerApply(&text, id(trainer)), &text);
}

static flare_status buffer(float **out, size_t *count, flare_trainer *trainer, int32_t gradients,
                           const char *function)
{
    char *text = NULL;
    if (out == NULL || count == NULL)
        return edge_fail(FLARE_ERR_ARGUMENT, "%s: %s is NULL", function,
                         out == NULL ? "out" : "count");
    *out   = NULL;
    *count = 0;
    if (trainer == NULL)
        return edge_fail(FLARE_ERR_HANDLE, "%s: trainer is NULL", function);
    return edge_keep(flareGoTrainerBuffer(&text, out, count, id(trainer), gradients), &text);
}

flare_status flare_trainer_parameters(float **out, size_t *count, flare_trainer *trainer)
{
    REFUSE_FORKED();
    return buffer(out, count, trainer, 0, __func__);
}

flare_status flare_trainer_gradients(float **out, size_t *count, flare_trainer *trainer)
{
    REFUSE_FORKED();
    return buffer(out, count, trainer, 1, __func__);
}

flare_status flare_trainer_set_learning_rate(flare_trainer *trainer, double rate)
{
    char *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL_HANDLE(trainer);
    return edge_keep(flareGoTrainerSetRate(&text, id(trainer), rate), &text);
}

flare_status flare_trainer_get_learning_rate(double *out, flare_trainer *trainer)
{
    char *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL(out);
    REFUSE_NULL_HANDLE(trainer);
    return edge_keep(flareGoTrainerRate(&text, out, id(trainer)), &text);
}

flare_status flare_trainer_save(flare_trainer *trainer, const char *path)
{
    char *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL_HANDLE(trainer);
    REFUSE_NULL(path);
    return edge_keep(flareGoTrainerSave(&text, id(trainer), (char *)path), &text);
}

flare_status flare_trainer_load(flare_trainer *trainer, const char *path)
{
    char *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL_HANDLE(trainer);
    REFUSE_NULL(path);
    return edge_keep(flareGoTrainerLoad(&text, id(trainer), (char *)path), &text);
}

flare_status flare_trainer_export(flare_trainer *trainer, const char *path)
{
    char *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL_HANDLE(trainer);
    REFUSE_NULL(path);
    return edge_keep(flareGoTrainerExport(&text, id(trainer), (char *)path), &text);
}

flare_status flare_trainer_run(flare_trainer *trainer, const flare_trainer_run_options *options)
{
    flare_trainer_run_options copy;
    char                     *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL_HANDLE(trainer);
    TAKE(copy, RUN_OPTIONS_FIRST, options, "flare_trainer_run_options");
    return edge_keep(flareGoTrainerRun(&text, id(trainer), &copy), &text);
}

flare_status flare_trainer_cancel(flare_trainer *trainer)
{
    char *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL_HANDLE(trainer);
    return edge_keep(flareGoTrainerCancel(&text, id(trainer)), &text);
}

/* Frees in silence, as flare_model_free. */
void flare_trainer_free(flare_trainer *trainer)
{
    char *text = NULL;
    if (edge_forked || trainer == NULL)
        return;
    flareGoTrainerFree(&text, id(trainer));
    free(text);
}
