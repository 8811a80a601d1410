/* Evaluating and measuring: reports, what is refused, and what comes of a failure. */
#include <sys/stat.h>

#include "check.h"

static int32_t never(double fraction, const char *phase, void *user)
{
    (void)fraction, (void)phase, (void)user;
    return 1;
}

/* Of a folder with one case, which fails, there is a report all the same; of two files none. */
static void test_evaluate_bad_folder(void)
{
    char                  *text    = NULL;
    flare_evaluate_options options = FLARE_EVALUATE_OPTIONS_INIT;
    CHECK(mkdir("labels", 0777) == 0);
    FILE *file = fopen("labels/a.nii", "w");
    CHECK(file != NULL && fputs("no image", file) >= 0 && fclose(file) == 0);
    options.csv_path = options.html_path = "page";
    CHECK_STATUS(flare_evaluate_file(&text, "labels", "labels", &options), FLARE_ERR_ARGUMENT,
                 "page would be overwritten by the output page");
    options.csv_path = NULL;
    CHECK_STATUS(flare_evaluate_file(&text, "labels", "labels", &options), FLARE_ERR_FORMAT, "a.nii");
    CHECK(text != NULL && strstr(text, "\"cases\":[],") != NULL);
    CHECK(text != NULL && strstr(text, "\"failed\":{\"a\":\"") != NULL);
    CHECK(access("page", R_OK) == 0);
    flare_free(text);
    text = "left over";
    CHECK_STATUS(flare_evaluate_file(&text, "labels/a.nii", "labels/a.nii", NULL), FLARE_ERR_FORMAT,
                 "a.nii");
    CHECK(text == NULL);
    CHECK(remove("labels/a.nii") == 0 && rmdir("labels") == 0 && remove("page") == 0);
}

static void test_efficiency(void)
{
    char                    *text    = NULL;
    const char              *sleep[] = {"sleep", "0.15"}, *fail[] = {"false"}, *none[] = {"no-such-command"},
               *rest[] = {"sleep", "60"}, *null[] = {NULL};
    flare_efficiency_options options = FLARE_EFFICIENCY_OPTIONS_INIT;
    CHECK_STATUS(flare_efficiency(NULL, sleep, 2, NULL), FLARE_ERR_ARGUMENT, "out is NULL");
    CHECK_STATUS(flare_efficiency(&text, NULL, 2, NULL), FLARE_ERR_ARGUMENT, "command is NULL");
    CHECK_STATUS(flare_efficiency(&text, null, 1, NULL), FLARE_ERR_ARGUMENT, "command[i] is NULL");
    CHECK_STATUS(flare_efficiency(&text, sleep, 0, NULL), FLARE_ERR_ARGUMENT, "no command");
    CHECK_STATUS(flare_efficiency(&text, sleep, 2, NULL), FLARE_OK, "");
    CHECK(text != NULL && strstr(text, "{\"seconds\":0.") == text && strstr(text, "\"ram_mb\":[") != NULL);
    flare_free(text);
    CHECK_STATUS(flare_efficiency(&text, fail, 1, NULL), FLARE_ERR_INTERNAL, "exit status 1");
    CHECK(text != NULL && strstr(text, "\"max_ram_mb\":") != NULL);
    flare_free(text);
    CHECK_STATUS(flare_efficiency(&text, none, 1, NULL), FLARE_ERR_NOT_FOUND, "no-such-command");
    CHECK(text == NULL);
    options.progress = never;
    CHECK_STATUS(flare_efficiency(&text, rest, 2, &options), FLARE_ERR_CANCELLED, "cancelled");
    CHECK(text == NULL);
    options.gpu = -1;
    CHECK_STATUS(flare_efficiency(&text, sleep, 2, &options), FLARE_ERR_ARGUMENT, "index is -1");
    options.reserved = 1;
    CHECK_STATUS(flare_efficiency(&text, sleep, 2, &options), FLARE_ERR_VERSION, "reserved");
}

/* Two maps of 4 x 3 x 2 voxels: label 1 is in 12 and 6 of them. */
static void test_evaluate(void)
{
    uint8_t                predicted[24] = {0}, expected[24] = {0};
    flare_volume           p = FLARE_VOLUME_INIT, r;
    flare_evaluate_options options = FLARE_EVALUATE_OPTIONS_INIT;
    char                  *text = NULL;
    memset(predicted, 1, 12);
    memset(expected, 1, 6);
    p.data = predicted;
    p.dtype = FLARE_UINT8;
    for (int i = 0; i < 3; i++) {
        p.size[i] = 4 - i;
        p.spacing[i] = 10;
    }
    r = p;
    r.data = expected;
    CHECK_STATUS(flare_evaluate(&text, &p, &r, NULL), FLARE_OK, "");
    CHECK(text != NULL && strstr(text, "\"dsc\":0.6666666666666666,") != NULL);
    CHECK(text != NULL && strstr(text, "\"volume_ml\":12,") != NULL);
    flare_free(text);
    options.rules = "flare22";
    CHECK_STATUS(flare_evaluate(&text, &p, &r, &options), FLARE_OK, "");
    CHECK(text != NULL && strstr(text, "\"dsc\":0.6667,") != NULL);
    flare_free(text);
    options.rules = "flare20";
    CHECK_STATUS(flare_evaluate(&text, &p, &r, &options), FLARE_ERR_ARGUMENT, "flare20");
    CHECK(text == NULL);
    options.rules = NULL;
    r.spacing[2] = 0.0 / 0.0 * r.spacing[2];
    CHECK_STATUS(flare_evaluate(&text, &p, &r, NULL), FLARE_ERR_ARGUMENT, "spacing along z");
    r.spacing[2] = 11;
    CHECK_STATUS(flare_evaluate(&text, &p, &r, NULL), FLARE_ERR_ARGUMENT, "differ in spacing");
    options.resample = 1;
    CHECK_STATUS(flare_evaluate(&text, &p, &r, &options), FLARE_OK, "");
    flare_free(text);
    CHECK_STATUS(flare_evaluate_file(&text, "none.nii", "none.nii", NULL), FLARE_ERR_NOT_FOUND,
                 "none.nii");
    CHECK(text == NULL);
    test_evaluate_bad_folder();
}

int main(void)
{
    begin_checks();
    test_evaluate();
    test_efficiency();
    return end_checks("evaluate_test");
}
