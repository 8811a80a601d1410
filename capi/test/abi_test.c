/* Prints every number of flare.h that compiled programs depend on, in the format of
 * abi.txt, and with that file as argument compares. Compiles as C and C++; the Python
 * tests compare their ctypes structs with the same file. */
#include <stdio.h>
#include <string.h>

#include "flare.h"

static FILE *expected; /* abi.txt, or NULL: print */
static int   failures;

static void number(const char *name, long value)
{
    char line[200], want[200];
    snprintf(line, sizeof line, "%s %ld\n", name, value);
    if (expected == NULL) {
        fputs(line, stdout);
        return;
    }
    do
        if (fgets(want, sizeof want, expected) == NULL)
            strcpy(want, "nothing\n");
    while (want[0] == '#');
    if (strcmp(line, want) != 0) {
        failures++;
        fprintf(stderr, "abi_test: failed: this build has %s   abi.txt has %s", line, want);
    }
}

#define VALUE(name)         number(#name, (long)(name))
#define SIZE(type)          number(#type, (long)sizeof(type))
#define FIELD(type, member) number(#type "." #member, (long)offsetof(type, member))

int main(int argc, char **argv)
{
    char rest[200];
    if (argc > 1 && (expected = fopen(argv[1], "r")) == NULL) {
        perror(argv[1]);
        return 1;
    }
    VALUE(FLARE_API_VERSION);

    VALUE(FLARE_OK);
    VALUE(FLARE_ERR_INTERNAL);
    VALUE(FLARE_ERR_ARGUMENT);
    VALUE(FLARE_ERR_HANDLE);
    VALUE(FLARE_ERR_NOT_FOUND);
    VALUE(FLARE_ERR_IO);
    VALUE(FLARE_ERR_FORMAT);
    VALUE(FLARE_ERR_UNSUPPORTED);
    VALUE(FLARE_ERR_MODEL);
    VALUE(FLARE_ERR_MEMORY);
    VALUE(FLARE_ERR_DEVICE);
    VALUE(FLARE_ERR_RUNTIME);
    VALUE(FLARE_ERR_CANCELLED);
    VALUE(FLARE_ERR_PANIC);
    VALUE(FLARE_ERR_FORKED);
    VALUE(FLARE_ERR_VERSION);

    VALUE(FLARE_LOG_ERROR);
    VALUE(FLARE_LOG_WARNING);
    VALUE(FLARE_LOG_INFO);
    VALUE(FLARE_LOG_DEBUG);

    VALUE(FLARE_UINT8);
    VALUE(FLARE_INT16);
    VALUE(FLARE_UINT16);
    VALUE(FLARE_INT32);
    VALUE(FLARE_FLOAT32);
    VALUE(FLARE_FLOAT64);

    SIZE(flare_open_options);
    FIELD(flare_open_options, struct_size);
    FIELD(flare_open_options, device);
    FIELD(flare_open_options, folds);
    FIELD(flare_open_options, checkpoint);
    FIELD(flare_open_options, runtime);
    FIELD(flare_open_options, threads);
    FIELD(flare_open_options, reserved);
    FIELD(flare_open_options, mode);
    FIELD(flare_open_options, cache_dir);
    FIELD(flare_open_options, read_ahead);
    FIELD(flare_open_options, gpu_memory_limit);

    SIZE(flare_volume);
    FIELD(flare_volume, struct_size);
    FIELD(flare_volume, data);
    FIELD(flare_volume, dtype);
    FIELD(flare_volume, channels);
    FIELD(flare_volume, size);
    FIELD(flare_volume, spacing);
    FIELD(flare_volume, origin);
    FIELD(flare_volume, direction);

    SIZE(flare_segment_options);
    FIELD(flare_segment_options, struct_size);
    FIELD(flare_segment_options, progress);
    FIELD(flare_segment_options, progress_user);
    FIELD(flare_segment_options, probabilities);
    FIELD(flare_segment_options, probabilities_count);
    FIELD(flare_segment_options, probabilities_path);
    FIELD(flare_segment_options, mirror);
    FIELD(flare_segment_options, postprocess);
    FIELD(flare_segment_options, previous);
    FIELD(flare_segment_options, previous_bytes);
    FIELD(flare_segment_options, previous_path);
    FIELD(flare_segment_options, previous_dtype);
    FIELD(flare_segment_options, reserved);
    FIELD(flare_segment_options, box);
    FIELD(flare_segment_options, roi);
    FIELD(flare_segment_options, roi_count);
    FIELD(flare_segment_options, max_memory_bytes);
    FIELD(flare_segment_options, report_path);

    SIZE(flare_write_options);
    FIELD(flare_write_options, struct_size);
    FIELD(flare_write_options, labels);

    SIZE(flare_evaluate_options);
    FIELD(flare_evaluate_options, struct_size);
    FIELD(flare_evaluate_options, rules);
    FIELD(flare_evaluate_options, labels_path);
    FIELD(flare_evaluate_options, tolerance_mm);
    FIELD(flare_evaluate_options, resample);
    FIELD(flare_evaluate_options, threads);
    FIELD(flare_evaluate_options, csv_path);
    FIELD(flare_evaluate_options, html_path);
    FIELD(flare_evaluate_options, progress);
    FIELD(flare_evaluate_options, progress_user);

    SIZE(flare_efficiency_options);
    FIELD(flare_efficiency_options, struct_size);
    FIELD(flare_efficiency_options, progress);
    FIELD(flare_efficiency_options, progress_user);
    FIELD(flare_efficiency_options, gpu);
    FIELD(flare_efficiency_options, reserved);

    SIZE(flare_convert_options);
    FIELD(flare_convert_options, struct_size);
    FIELD(flare_convert_options, folder);
    FIELD(flare_convert_options, onnx);
    FIELD(flare_convert_options, plans);
    FIELD(flare_convert_options, dataset);
    FIELD(flare_convert_options, configuration);
    FIELD(flare_convert_options, orientation);
    FIELD(flare_convert_options, folds);
    FIELD(flare_convert_options, checkpoint);

    SIZE(flare_pseudo_label_options);
    FIELD(flare_pseudo_label_options, struct_size);
    FIELD(flare_pseudo_label_options, models);
    FIELD(flare_pseudo_label_options, models_count);
    FIELD(flare_pseudo_label_options, previous_path);
    FIELD(flare_pseudo_label_options, ignore_below);
    FIELD(flare_pseudo_label_options, soft_below);
    FIELD(flare_pseudo_label_options, no_mirror);
    FIELD(flare_pseudo_label_options, shard);
    FIELD(flare_pseudo_label_options, shards);
    FIELD(flare_pseudo_label_options, threads);
    FIELD(flare_pseudo_label_options, device);
    FIELD(flare_pseudo_label_options, mode);
    FIELD(flare_pseudo_label_options, cache_dir);
    FIELD(flare_pseudo_label_options, runtime);
    FIELD(flare_pseudo_label_options, progress);
    FIELD(flare_pseudo_label_options, progress_user);
    FIELD(flare_pseudo_label_options, weights);
    FIELD(flare_pseudo_label_options, reserved);
    SIZE(flare_student_options);
    FIELD(flare_student_options, struct_size);
    FIELD(flare_student_options, runtime);
    FIELD(flare_student_options, progress);
    FIELD(flare_student_options, progress_user);
    SIZE(flare_trainer_options);
    FIELD(flare_trainer_options, struct_size);
    FIELD(flare_trainer_options, model);
    FIELD(flare_trainer_options, plans);
    FIELD(flare_trainer_options, dataset);
    FIELD(flare_trainer_options, configuration);
    FIELD(flare_trainer_options, cache);
    FIELD(flare_trainer_options, fold);
    FIELD(flare_trainer_options, device);
    FIELD(flare_trainer_options, runtime);
    FIELD(flare_trainer_options, mode);
    FIELD(flare_trainer_options, optimizer);
    FIELD(flare_trainer_options, threads);
    FIELD(flare_trainer_options, workers);
    FIELD(flare_trainer_options, batch);
    FIELD(flare_trainer_options, patch);
    FIELD(flare_trainer_options, epochs);
    FIELD(flare_trainer_options, iterations);
    FIELD(flare_trainer_options, validation_iterations);
    FIELD(flare_trainer_options, strong);
    FIELD(flare_trainer_options, no_mirroring);
    FIELD(flare_trainer_options, soft);
    FIELD(flare_trainer_options, weighted);
    FIELD(flare_trainer_options, reserved);
    FIELD(flare_trainer_options, seed);
    FIELD(flare_trainer_options, learning_rate);
    FIELD(flare_trainer_options, momentum);
    FIELD(flare_trainer_options, weight_decay);
    FIELD(flare_trainer_options, clip);
    FIELD(flare_trainer_options, foreground);
    FIELD(flare_trainer_options, dropout);
    FIELD(flare_trainer_options, stochastic_depth);

    SIZE(flare_batch);
    FIELD(flare_batch, struct_size);
    FIELD(flare_batch, images);
    FIELD(flare_batch, labels);
    FIELD(flare_batch, soft);
    FIELD(flare_batch, weights);
    FIELD(flare_batch, images_dtype);
    FIELD(flare_batch, labels_dtype);
    FIELD(flare_batch, batch);
    FIELD(flare_batch, channels);
    FIELD(flare_batch, size);

    SIZE(flare_trainer_result);
    FIELD(flare_trainer_result, struct_size);
    FIELD(flare_trainer_result, loss);
    FIELD(flare_trainer_result, cross_entropy);
    FIELD(flare_trainer_result, dice);
    FIELD(flare_trainer_result, counts);
    FIELD(flare_trainer_result, counts_count);

    SIZE(flare_trainer_progress);
    FIELD(flare_trainer_progress, struct_size);
    FIELD(flare_trainer_progress, phase);
    FIELD(flare_trainer_progress, epoch);
    FIELD(flare_trainer_progress, epochs);
    FIELD(flare_trainer_progress, done);
    FIELD(flare_trainer_progress, total);
    FIELD(flare_trainer_progress, loss);
    FIELD(flare_trainer_progress, learning_rate);
    FIELD(flare_trainer_progress, dice);
    FIELD(flare_trainer_progress, ema);
    FIELD(flare_trainer_progress, step_seconds);
    FIELD(flare_trainer_progress, seconds_left);
    FIELD(flare_trainer_progress, waited);

    SIZE(flare_trainer_run_options);
    FIELD(flare_trainer_run_options, struct_size);
    FIELD(flare_trainer_run_options, progress);
    FIELD(flare_trainer_run_options, progress_user);
    FIELD(flare_trainer_run_options, folder);

    if (expected != NULL && fgets(rest, sizeof rest, expected) != NULL) {
        failures++;
        fprintf(stderr, "abi_test: failed: abi.txt has more: %s", rest);
    }
    return failures > 0;
}
