/* The public functions of flare.h: checks on the caller's thread, then the private Go
 * export of the same name (exports.go). */
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "_cgo_export.h"
#include "shim.h"

/* ------------------------------------------------------------- last error -------- */

enum { TEXT_MAX = 4096 }; /* bytes of an error text; a longer one is cut */

static char no_memory[] = "out of memory, also for an error text";

/* Text of this thread's last failure: of malloc, no_memory or NULL. Only a pointer is
 * thread-local: a library with Go in it lives in the loader's small static TLS block. */
static _Thread_local char *last_text;

/* Holds last_text too, so that a thread that ends frees it. */
static pthread_key_t text_key;
static int           text_key_made;

static void free_text(void *text)
{
    last_text = NULL;
    free(text);
}

/* Makes *message (of malloc, taken over; NULL for want of memory) this thread's last error
 * if status is one. Returns status. message is a pointer to the text so that the call which
 * gives status and text can stand in the argument list. */
flare_status edge_keep(flare_status status, char **message)
{
    char *text = *message;
    if (status == FLARE_OK)
        return status;
    if (text != NULL && strlen(text) > TEXT_MAX) {
        size_t end = TEXT_MAX - 3;
        while (end > 0 && ((unsigned char)text[end] & 0xC0) == 0x80)
            end--; /* not within a UTF-8 character */
        strcpy(text + end, "...");
    }
    if (last_text != no_memory)
        free(last_text);
    last_text = text != NULL ? text : no_memory;
    if (text_key_made)
        pthread_setspecific(text_key, text);
    return status;
}

flare_status edge_fail(flare_status status, const char *format, ...)
{
    va_list args;
    char   *text = malloc(TEXT_MAX);
    if (text != NULL) {
        va_start(args, format);
        vsnprintf(text, TEXT_MAX, format, args);
        va_end(args);
    }
    return edge_keep(status, &text);
}

const char *flare_last_error(void)
{
    return last_text != NULL ? last_text : "";
}

const char *flare_status_name(flare_status status)
{
    static const char *const names[] = {
        "FLARE_OK",            "FLARE_ERR_INTERNAL", "FLARE_ERR_ARGUMENT",
        "FLARE_ERR_HANDLE",    "FLARE_ERR_NOT_FOUND", "FLARE_ERR_IO",
        "FLARE_ERR_FORMAT",    "FLARE_ERR_UNSUPPORTED", "FLARE_ERR_MODEL",
        "FLARE_ERR_MEMORY",    "FLARE_ERR_DEVICE",   "FLARE_ERR_RUNTIME",
        "FLARE_ERR_CANCELLED", "FLARE_ERR_PANIC",    "FLARE_ERR_FORKED",
        "FLARE_ERR_VERSION",
    };
    const int count = (int)(sizeof names / sizeof names[0]);
    return status <= 0 && status > -count ? names[-status] : "unknown status";
}

/* -------------------------------------------------- fork guard, start of the library */

/* Go's threads do not survive fork(); a call into Go would hang in the child for ever. */
volatile sig_atomic_t edge_forked;

static void mark_forked(void)
{
    edge_forked = 1;
}

__attribute__((constructor))
static void start(void)
{
    text_key_made = pthread_key_create(&text_key, free_text) == 0;
    pthread_atfork(NULL, NULL, mark_forked);
}

/* ------------------------------------------------------------------ structs ------ */

/* Sizes of the structs in the first published flare.h; they never change. */
enum {
    OPEN_OPTIONS_FIRST    = offsetof(flare_open_options, reserved) + sizeof(int32_t),
    SEGMENT_OPTIONS_FIRST = offsetof(flare_segment_options, postprocess) + sizeof(int32_t),
    EVALUATE_OPTIONS_FIRST = offsetof(flare_evaluate_options, progress_user) + sizeof(void *),
    EFFICIENCY_OPTIONS_FIRST = offsetof(flare_efficiency_options, reserved) + sizeof(int32_t),
    CONVERT_OPTIONS_FIRST = offsetof(flare_convert_options, checkpoint) + sizeof(char *),
    STRUCT_MAX            = 65536 /* a larger struct_size was never set */
};

/* Copies the caller's struct of any version to the zeroed dst of this version (size bytes,
 * of which first were in the first version). Refuses one that is not initialised, or in
 * which a field is set that this version does not know. src NULL: all defaults. */
flare_status edge_take(void *dst, size_t size, size_t first, const void *src,
                         const char *function, const char *type)
{
    size_t given;
    memset(dst, 0, size);
    if (src == NULL)
        return FLARE_OK;
    memcpy(&given, src, sizeof given); /* struct_size is the first field */
    if (given < first || given > STRUCT_MAX)
        return edge_fail(FLARE_ERR_ARGUMENT,
                    "%s: struct_size of the %s is %zu, must be at least %zu: start with its "
                    "_INIT macro or %s_init", function, type, given, first, type);
    for (size_t i = size; i < given; i++)
        if (((const char *)src)[i] != 0)
            return edge_fail(FLARE_ERR_VERSION,
                        "%s: the %s has a field set at byte %zu that libflare " LIBRARY_VERSION
                        " does not know: use a newer library", function, type, i);
    memcpy(dst, src, given < size ? given : size);
    return FLARE_OK;
}

void edge_init(void *options, size_t struct_size)
{
    if (options != NULL && struct_size >= sizeof struct_size) {
        memset(options, 0, struct_size);
        memcpy(options, &struct_size, sizeof struct_size);
    }
}

void flare_open_options_init(flare_open_options *options, size_t struct_size)
{
    edge_init(options, struct_size);
}

void flare_volume_init(flare_volume *volume, size_t struct_size)
{
    edge_init(volume, struct_size);
}

void flare_segment_options_init(flare_segment_options *options, size_t struct_size)
{
    edge_init(options, struct_size);
}

void flare_evaluate_options_init(flare_evaluate_options *options, size_t struct_size)
{
    edge_init(options, struct_size);
}

void flare_efficiency_options_init(flare_efficiency_options *options, size_t struct_size)
{
    edge_init(options, struct_size);
}

void flare_convert_options_init(flare_convert_options *options, size_t struct_size)
{
    edge_init(options, struct_size);
}

/* ------------------------------------------------------- version, log, memory ---- */

uint32_t flare_api_version(void)
{
    return FLARE_API_VERSION;
}

const char *flare_version(void)
{
    return LIBRARY_VERSION;
}

flare_status flare_set_log(flare_log_fn fn, void *user, int32_t level)
{
    char *text = NULL;
    REFUSE_FORKED();
    if (fn != NULL && (level < FLARE_LOG_ERROR || level > FLARE_LOG_DEBUG))
        return edge_fail(FLARE_ERR_ARGUMENT, "%s: level is %d, must be FLARE_LOG_ERROR (1) to "
                    "FLARE_LOG_DEBUG (4)", __func__, (int)level);
    return edge_keep(flareGoSetLog(&text, fn, (uintptr_t)user, level), &text);
}

void flare_free(void *memory)
{
    free(memory);
}

/* ------------------------------------------------ devices, models, segmenting ---- */

static uint64_t id(flare_model *model)
{
    return (uint64_t)(uintptr_t)model;
}

flare_status flare_devices(char **out, const char *runtime)
{
    char *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL(out);
    *out = NULL;
    return edge_keep(flareGoDevices(&text, out, (char *)runtime), &text);
}

flare_status flare_model_open(flare_model **out, const char *path,
                              const flare_open_options *options)
{
    flare_open_options copy;
    flare_status       status;
    uint64_t           model = 0;
    char              *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL(out);
    *out = NULL;
    REFUSE_NULL(path);
    TAKE(copy, OPEN_OPTIONS_FIRST, options, "flare_open_options");
    REFUSE_RESERVED(copy);
    status = edge_keep(flareGoOpen(&text, &model, (char *)path, &copy), &text);
    *out = (flare_model *)(uintptr_t)model;
    return status;
}

flare_status flare_model_describe(char **out, flare_model *model)
{
    char *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL(out);
    *out = NULL;
    REFUSE_NULL_HANDLE(model);
    return edge_keep(flareGoDescribe(&text, out, id(model)), &text);
}

/* Frees in silence: the thread's last error stays that of the call which led here. */
void flare_model_free(flare_model *model)
{
    char *text = NULL;
    if (edge_forked || model == NULL)
        return;
    flareGoFree(&text, id(model));
    free(text);
}

flare_status flare_segment(void *labels, int32_t labels_dtype, size_t labels_bytes,
                           flare_model *model, const flare_volume *image,
                           const flare_segment_options *options)
{
    flare_volume          volume;
    flare_segment_options copy;
    char                 *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL(labels);
    REFUSE_NULL_HANDLE(model);
    REFUSE_NULL(image);
    TAKE(volume, EDGE_VOLUME_FIRST, image, "flare_volume");
    TAKE(copy, SEGMENT_OPTIONS_FIRST, options, "flare_segment_options");
    REFUSE_NULL(volume.data);
    REFUSE_RESERVED(copy);
    return edge_keep(flareGoSegment(&text, labels, labels_dtype, labels_bytes, id(model), &volume,
                               &copy), &text);
}

flare_status flare_segment_file(flare_model *model, const char *in_path, const char *out_path,
                                const flare_segment_options *options)
{
    flare_segment_options copy;
    char                 *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL_HANDLE(model);
    REFUSE_NULL(in_path);
    REFUSE_NULL(out_path);
    TAKE(copy, SEGMENT_OPTIONS_FIRST, options, "flare_segment_options");
    REFUSE_RESERVED(copy);
    return edge_keep(flareGoSegmentFile(&text, id(model), (char *)in_path, (char *)out_path, &copy),
                &text);
}

flare_status flare_cancel(flare_model *model)
{
    char *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL_HANDLE(model);
    return edge_keep(flareGoCancel(&text, id(model)), &text);
}

flare_status flare_model_stats(char **out, flare_model *model)
{
    char *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL(out);
    *out = NULL;
    REFUSE_NULL_HANDLE(model);
    return edge_keep(flareGoStats(&text, out, id(model)), &text);
}

/* -------------------------------------------------------------- evaluating ------- */

flare_status flare_evaluate(char **out, const flare_volume *prediction,
                            const flare_volume *reference, const flare_evaluate_options *options)
{
    flare_volume           p, r;
    flare_evaluate_options copy;
    char                  *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL(out);
    *out = NULL;
    REFUSE_NULL(prediction);
    REFUSE_NULL(reference);
    TAKE(p, EDGE_VOLUME_FIRST, prediction, "flare_volume");
    TAKE(r, EDGE_VOLUME_FIRST, reference, "flare_volume");
    TAKE(copy, EVALUATE_OPTIONS_FIRST, options, "flare_evaluate_options");
    REFUSE_NULL(p.data);
    REFUSE_NULL(r.data);
    return edge_keep(flareGoEvaluate(&text, out, &p, &r, &copy), &text);
}

flare_status flare_evaluate_file(char **out, const char *prediction, const char *reference,
                                 const flare_evaluate_options *options)
{
    flare_evaluate_options copy;
    char                  *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL(out);
    *out = NULL;
    REFUSE_NULL(prediction);
    REFUSE_NULL(reference);
    TAKE(copy, EVALUATE_OPTIONS_FIRST, options, "flare_evaluate_options");
    return edge_keep(flareGoEvaluateFile(&text, out, (char *)prediction, (char *)reference, &copy),
                &text);
}

flare_status flare_efficiency(char **out, const char *const *command, size_t count,
                              const flare_efficiency_options *options)
{
    flare_efficiency_options copy;
    char                    *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL(out);
    *out = NULL;
    REFUSE_NULL(command);
    for (size_t i = 0; i < count; i++)
        REFUSE_NULL(command[i]);
    TAKE(copy, EFFICIENCY_OPTIONS_FIRST, options, "flare_efficiency_options");
    REFUSE_RESERVED(copy);
    return edge_keep(flareGoEfficiency(&text, out, (char **)command, count, &copy), &text);
}

/* -------------------------------------------------------------- converting ------- */

flare_status flare_convert(const char *out_path, const flare_convert_options *options)
{
    flare_convert_options copy;
    char                 *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL(out_path);
    REFUSE_NULL(options);
    TAKE(copy, CONVERT_OPTIONS_FIRST, options, "flare_convert_options");
    if ((copy.folder == NULL) == (copy.onnx == NULL))
        return edge_fail(FLARE_ERR_ARGUMENT, "%s: set either folder or onnx", __func__);
    return edge_keep(flareGoConvert(&text, (char *)out_path, &copy), &text);
}
