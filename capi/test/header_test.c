/* flare.h alone, in strict C99 and C++17: it compiles, every macro and constant can be
 * used, every function exists with its documented type. */
#include "flare.h"

int main(void)
{
    flare_open_options    open    = FLARE_OPEN_OPTIONS_INIT;
    flare_volume          volume  = FLARE_VOLUME_INIT;
    flare_segment_options segment = FLARE_SEGMENT_OPTIONS_INIT;
    flare_convert_options convert = FLARE_CONVERT_OPTIONS_INIT;

    const char *(*last_error)(void)                              = flare_last_error;
    const char *(*status_name)(flare_status)                     = flare_status_name;
    uint32_t (*api_version)(void)                                = flare_api_version;
    const char *(*version)(void)                                 = flare_version;
    flare_status (*set_log)(flare_log_fn, void *, int32_t)       = flare_set_log;
    void (*free_memory)(void *)                                  = flare_free;
    flare_status (*devices)(char **, const char *)               = flare_devices;
    void (*open_init)(flare_open_options *, size_t)              = flare_open_options_init;
    void (*volume_init)(flare_volume *, size_t)                  = flare_volume_init;
    void (*segment_init)(flare_segment_options *, size_t)        = flare_segment_options_init;
    void (*convert_init)(flare_convert_options *, size_t)        = flare_convert_options_init;
    flare_status (*model_open)(flare_model **, const char *, const flare_open_options *) =
        flare_model_open;
    flare_status (*describe)(char **, flare_model *)             = flare_model_describe;
    flare_status (*stats)(char **, flare_model *)                = flare_model_stats;
    void (*model_free)(flare_model *)                            = flare_model_free;
    flare_status (*cancel)(flare_model *)                        = flare_cancel;
    flare_status (*segment_memory)(void *, int32_t, size_t, flare_model *, const flare_volume *,
                                   const flare_segment_options *) = flare_segment;
    flare_status (*segment_file)(flare_model *, const char *, const char *,
                                 const flare_segment_options *)  = flare_segment_file;
    flare_status (*convert_model)(const char *, const flare_convert_options *) = flare_convert;

    if (!last_error || !status_name || !set_log || !free_memory || !devices || !open_init ||
        !volume_init || !segment_init || !convert_init || !model_open || !describe || !stats ||
        !model_free || !cancel || !segment_memory || !segment_file || !convert_model)
        return 1;
    if (open.struct_size != sizeof open || volume.struct_size != sizeof volume ||
        segment.struct_size != sizeof segment || convert.struct_size != sizeof convert)
        return 2;
    if (open.device || volume.data || segment.progress || convert.checkpoint)
        return 3;
    if (api_version() != FLARE_API_VERSION || version()[0] == '\0')
        return 4;
    return 0;
}
