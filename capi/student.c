/* The public functions of the noisy student, as flare.c; their Go exports are in student.go. */
#include <stdlib.h>
#include <string.h>

#include "_cgo_export.h"
#include "shim.h"

/* Sizes of the structs in the first published flare.h; they never change. */
enum {
    LABEL_OPTIONS_FIRST = offsetof(flare_pseudo_label_options, progress_user) + sizeof(void *),
    STUDENT_OPTIONS_FIRST = offsetof(flare_student_options, progress_user) + sizeof(void *)
};

void flare_pseudo_label_options_init(flare_pseudo_label_options *options, size_t struct_size)
{
    edge_init(options, struct_size);
}

void flare_student_options_init(flare_student_options *options, size_t struct_size)
{
    edge_init(options, struct_size);
}

flare_status flare_pseudo_label(char **out, const char *images, const char *out_path,
                                const flare_pseudo_label_options *options)
{
    flare_pseudo_label_options copy;
    char                      *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL(out);
    *out = NULL;
    REFUSE_NULL(images);
    REFUSE_NULL(out_path);
    TAKE(copy, LABEL_OPTIONS_FIRST, options, "flare_pseudo_label_options");
    REFUSE_RESERVED(copy);
    if (copy.models_count > 0)
        REFUSE_NULL(copy.models);
    return edge_keep(flareGoPseudoLabel(&text, out, (char *)images, (char *)out_path, &copy),
                     &text);
}

static uint64_t id(flare_labeller *labeller)
{
    return (uint64_t)(uintptr_t)labeller;
}

flare_status flare_labeller_open(flare_labeller **out, const char *images, const char *out_path,
                                 const flare_pseudo_label_options *options)
{
    flare_pseudo_label_options copy;
    flare_status               status;
    uint64_t                   labeller = 0;
    char                      *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL(out);
    *out = NULL;
    REFUSE_NULL(images);
    REFUSE_NULL(out_path);
    TAKE(copy, LABEL_OPTIONS_FIRST, options, "flare_pseudo_label_options");
    REFUSE_RESERVED(copy);
    if (copy.models_count > 0)
        REFUSE_NULL(copy.models);
    if (copy.progress != NULL)
        return edge_fail(FLARE_ERR_ARGUMENT, "%s: progress is not NULL; only flare_pseudo_label "
                         "tells of it", __func__);
    status = edge_keep(flareGoLabellerOpen(&text, &labeller, (char *)images, (char *)out_path,
                                           &copy), &text);
    *out = (flare_labeller *)(uintptr_t)labeller;
    return status;
}

flare_status flare_labeller_cases(char **out, flare_labeller *labeller)
{
    char *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL(out);
    *out = NULL;
    REFUSE_NULL_HANDLE(labeller);
    return edge_keep(flareGoLabellerCases(&text, out, id(labeller)), &text);
}

flare_status flare_labeller_label(char **out, flare_labeller *labeller, const char *name)
{
    char *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL(out);
    *out = NULL;
    REFUSE_NULL_HANDLE(labeller);
    REFUSE_NULL(name);
    return edge_keep(flareGoLabellerLabel(&text, out, id(labeller), (char *)name), &text);
}

flare_status flare_labeller_cancel(flare_labeller *labeller)
{
    char *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL_HANDLE(labeller);
    return edge_keep(flareGoLabellerCancel(&text, id(labeller)), &text);
}

/* Frees in silence, as flare_model_free. */
void flare_labeller_free(flare_labeller *labeller)
{
    char *text = NULL;
    if (edge_forked || labeller == NULL)
        return;
    flareGoLabellerFree(&text, id(labeller));
    free(text);
}

flare_status flare_student(char **out, const char *config_path,
                           const flare_student_options *options)
{
    flare_student_options copy;
    char                 *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL(out);
    *out = NULL;
    REFUSE_NULL(config_path);
    TAKE(copy, STUDENT_OPTIONS_FIRST, options, "flare_student_options");
    return edge_keep(flareGoStudent(&text, out, (char *)config_path, &copy), &text);
}
