/* Segments a NIfTI file with a model and shows progress on stderr.
 *
 *     cc segment.c -o segment $(pkg-config --cflags --libs libflare)
 *     ./segment abdomen.onnx ct.nii.gz labels.nii.gz
 *
 * with PKG_CONFIG_PATH naming libflare's lib/pkgconfig, and, where libflare is not in a system
 * folder, LD_LIBRARY_PATH its lib (or link with -Wl,-rpath,LIBDIR).
 *
 * Research software, not a medical device.
 */
#include <flare.h>
#include <stdio.h>
#include <string.h>

/* Returns 0 to go on; a program with a Cancel button returns 1 when it was pressed. */
static int32_t show_progress(double fraction, const char *phase, void *user)
{
    (void)user;
    fprintf(stderr, "\r%3.0f %% %-10s", 100 * fraction, phase);
    return 0;
}

/* Prints why a call failed; returns the exit status of the program. */
static int failed(const char *doing, flare_status status)
{
    fprintf(stderr, "\nsegment: %s: %s (%s)\n", doing, flare_last_error(),
            flare_status_name(status));
    return 1;
}

int main(int argc, char **argv)
{
    flare_model          *model   = NULL;
    flare_open_options    open    = FLARE_OPEN_OPTIONS_INIT;
    flare_segment_options options = FLARE_SEGMENT_OPTIONS_INIT;
    flare_status          status;
    char                 *stats = NULL;

    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("libflare %s\n", flare_version());
        return 0;
    }
    if (argc != 4) {
        fprintf(stderr, "usage: segment MODEL IN.nii.gz OUT.nii.gz\n");
        return 2;
    }
    if (flare_api_version() != FLARE_API_VERSION) {
        fprintf(stderr, "segment: libflare %s does not fit the flare.h this was compiled with\n",
                flare_version());
        return 1;
    }

    open.device = "cpu"; /* the other fields keep their defaults */
    status      = flare_model_open(&model, argv[1], &open);
    if (status != FLARE_OK)
        return failed("opening the model", status);

    options.progress = show_progress;
    status           = flare_segment_file(model, argv[2], argv[3], &options);
    if (status != FLARE_OK) {
        flare_model_free(model);
        return failed("segmenting", status);
    }
    fprintf(stderr, "\n");

    if (flare_model_stats(&stats, model) == FLARE_OK)
        printf("%s\n", stats);
    flare_free(stats);
    flare_model_free(model);
    return 0;
}
