/* flare.h alone, in strict C99 and C++17: it compiles, every macro and constant can be
 * used, every function exists with its documented type. */
#include "flare.h"

int main(void)
{
    flare_open_options    open    = FLARE_OPEN_OPTIONS_INIT;
    flare_volume          volume  = FLARE_VOLUME_INIT;
    flare_segment_options segment = FLARE_SEGMENT_OPTIONS_INIT;
    flare_convert_options convert = FLARE_CONVERT_OPTIONS_INIT;
    flare_write_options   write   = FLARE_WRITE_OPTIONS_INIT;

    flare_trainer_options     trainer = FLARE_TRAINER_OPTIONS_INIT;
    flare_batch               batch   = FLARE_BATCH_INIT;
    flare_trainer_result      result  = FLARE_TRAINER_RESULT_INIT;
    flare_trainer_run_options run     = FLARE_TRAINER_RUN_OPTIONS_INIT;

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
    void (*write_init)(flare_write_options *, size_t)            = flare_write_options_init;
    flare_status (*image_open)(flare_image **, const char *)     = flare_image_open;
    flare_status (*image_volume)(flare_volume *, flare_image *)  = flare_image_volume;
    void (*image_free)(flare_image *)                            = flare_image_free;
    flare_status (*image_write)(const char *, const flare_volume *, const flare_write_options *) =
        flare_image_write;

    void (*trainer_init)(flare_trainer_options *, size_t)         = flare_trainer_options_init;
    void (*batch_init)(flare_batch *, size_t)                     = flare_batch_init;
    void (*result_init)(flare_trainer_result *, size_t)           = flare_trainer_result_init;
    void (*run_init)(flare_trainer_run_options *, size_t)         = flare_trainer_run_options_init;
    flare_status (*trainer_open)(flare_trainer **, const flare_trainer_options *) =
        flare_trainer_open;
    flare_status (*trainer_describe)(char **, flare_trainer *)    = flare_trainer_describe;
    flare_status (*add_case)(flare_trainer *, const char *, const flare_volume *,
                             const flare_volume *)                = flare_trainer_add_case;
    flare_status (*step)(flare_trainer_result *, flare_trainer *, const flare_batch *) =
        flare_trainer_step;
    flare_status (*backward)(flare_trainer_result *, flare_trainer *, const flare_batch *,
                             int32_t)                             = flare_trainer_backward;
    flare_status (*apply)(flare_trainer *)                        = flare_trainer_apply;
    flare_status (*evaluate)(flare_trainer_result *, flare_trainer *, const flare_batch *) =
        flare_trainer_evaluate;
    flare_status (*parameters)(float **, size_t *, flare_trainer *) = flare_trainer_parameters;
    flare_status (*gradients)(float **, size_t *, flare_trainer *)  = flare_trainer_gradients;
    flare_status (*set_rate)(flare_trainer *, double) = flare_trainer_set_learning_rate;
    flare_status (*get_rate)(double *, flare_trainer *) = flare_trainer_get_learning_rate;
    flare_status (*save)(flare_trainer *, const char *)           = flare_trainer_save;
    flare_status (*load)(flare_trainer *, const char *)           = flare_trainer_load;
    flare_status (*export_to)(flare_trainer *, const char *)      = flare_trainer_export;
    flare_status (*train)(flare_trainer *, const flare_trainer_run_options *) = flare_trainer_run;
    flare_status (*trainer_cancel)(flare_trainer *)               = flare_trainer_cancel;
    void (*trainer_free)(flare_trainer *)                         = flare_trainer_free;

    if (!last_error || !status_name || !set_log || !free_memory || !devices || !open_init ||
        !volume_init || !segment_init || !convert_init || !model_open || !describe || !stats ||
        !model_free || !cancel || !segment_memory || !segment_file || !convert_model)
        return 1;
    if (!write_init || !image_open || !image_volume || !image_free || !image_write ||
        write.struct_size != sizeof write || write.labels)
        return 7;
    if (!trainer_init || !batch_init || !result_init || !run_init || !trainer_open ||
        !trainer_describe || !add_case || !step || !backward || !apply || !evaluate ||
        !parameters || !gradients || !set_rate || !get_rate || !save || !load || !export_to ||
        !train || !trainer_cancel || !trainer_free)
        return 5;
    if (trainer.struct_size != sizeof trainer || batch.struct_size != sizeof batch ||
        result.struct_size != sizeof result || run.struct_size != sizeof run ||
        trainer.stochastic_depth != 0 || batch.size[2] != 0 || result.counts || run.folder)
        return 6;
    if (open.struct_size != sizeof open || volume.struct_size != sizeof volume ||
        segment.struct_size != sizeof segment || convert.struct_size != sizeof convert)
        return 2;
    if (open.device || volume.data || segment.progress || convert.checkpoint)
        return 3;
    if (api_version() != FLARE_API_VERSION || version()[0] == '\0')
        return 4;
    return 0;
}
