/* What Go cannot do itself: call a function pointer, and allocate without dying when
 * memory runs out. Static, so that every cgo unit may include it. */
#ifndef CAPI_CALLBACK_H
#define CAPI_CALLBACK_H

#include <stdlib.h>

#include "flare.h"

/* The user pointer stays in C: it may be any number, and Go's collector would take it for
 * an address. */
static inline int32_t callProgress(const flare_segment_options *options, double fraction,
                                   const char *phase)
{
    return options->progress(fraction, phase, options->progress_user);
}

static inline int32_t callTrainerProgress(const flare_trainer_run_options *options,
                                          const flare_trainer_progress *progress)
{
    return options->progress(progress, options->progress_user);
}

static inline int32_t callEvaluateProgress(const flare_evaluate_options *options,
                                           double fraction, const char *phase)
{
    return options->progress(fraction, phase, options->progress_user);
}

static inline int32_t callEfficiencyProgress(const flare_efficiency_options *options,
                                             const char *phase)
{
    return options->progress(0, phase, options->progress_user);
}

static inline int32_t callLabelProgress(const flare_pseudo_label_options *options, double fraction,
                                        const char *phase)
{
    return options->progress(fraction, phase, options->progress_user);
}

static inline int32_t callStudentProgress(const flare_student_options *options, double fraction,
                                          const char *phase)
{
    return options->progress(fraction, phase, options->progress_user);
}

static inline void callLog(flare_log_fn fn, int32_t level, const char *message, uintptr_t user)
{
    fn(level, message, (void *)user);
}

/* C.malloc ends the process when it fails; this gives NULL. */
static inline void *tryMalloc(size_t size)
{
    return malloc(size);
}

#endif
