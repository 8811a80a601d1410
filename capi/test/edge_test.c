/* What the library promises its callers without a model: bad arguments, foreign handles,
 * structs of other versions, fork, threads. model_test.c goes on with a model. */
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>
#include <time.h>

#include "check.h"

/* No handle of the library, but not NULL. */
static flare_model *const foreign = (flare_model *)(uintptr_t)0x1234;

static flare_trainer *const foreign_trainer = (flare_trainer *)(uintptr_t)0x1234;

static flare_labeller *const foreign_labeller = (flare_labeller *)(uintptr_t)0x1234;

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void test_versions_and_names(void)
{
    CHECK(flare_api_version() == FLARE_API_VERSION);
    CHECK(strchr(flare_version(), '.') != NULL);
    CHECK(strcmp(flare_status_name(FLARE_OK), "FLARE_OK") == 0);
    CHECK(strcmp(flare_status_name(FLARE_ERR_INTERNAL), "FLARE_ERR_INTERNAL") == 0);
    CHECK(strcmp(flare_status_name(FLARE_ERR_MEMORY), "FLARE_ERR_MEMORY") == 0);
    CHECK(strcmp(flare_status_name(FLARE_ERR_VERSION), "FLARE_ERR_VERSION") == 0);
    CHECK(flare_status_name(1) != NULL && flare_status_name(-16) != NULL);
    CHECK(flare_status_name(INT32_MIN) != NULL && flare_status_name(INT32_MAX) != NULL);
    CHECK(strcmp(flare_last_error(), "") == 0);
}

static void test_null_arguments(void)
{
    char        *text  = (char *)"left over";
    flare_model *model = foreign;
    flare_volume image = FLARE_VOLUME_INIT;
    uint8_t      labels[8];

    CHECK_STATUS(flare_devices(NULL, NULL), FLARE_ERR_ARGUMENT, "out is NULL");
    CHECK_STATUS(flare_model_open(NULL, "x", NULL), FLARE_ERR_ARGUMENT, "out is NULL");
    CHECK_STATUS(flare_model_open(&model, NULL, NULL), FLARE_ERR_ARGUMENT, "path is NULL");
    CHECK(model == NULL);
    CHECK_STATUS(flare_model_describe(NULL, foreign), FLARE_ERR_ARGUMENT, "out is NULL");
    CHECK_STATUS(flare_model_describe(&text, NULL), FLARE_ERR_HANDLE, "model is NULL");
    CHECK(text == NULL);
    CHECK_STATUS(flare_model_stats(NULL, foreign), FLARE_ERR_ARGUMENT, "out is NULL");
    CHECK_STATUS(flare_model_stats(&text, NULL), FLARE_ERR_HANDLE, "model is NULL");
    CHECK_STATUS(flare_segment(NULL, FLARE_UINT8, 8, foreign, &image, NULL),
                 FLARE_ERR_ARGUMENT, "labels is NULL");
    CHECK_STATUS(flare_segment(labels, FLARE_UINT8, 8, NULL, &image, NULL),
                 FLARE_ERR_HANDLE, "model is NULL");
    CHECK_STATUS(flare_segment(labels, FLARE_UINT8, 8, foreign, NULL, NULL),
                 FLARE_ERR_ARGUMENT, "image is NULL");
    CHECK_STATUS(flare_segment(labels, FLARE_UINT8, 8, foreign, &image, NULL),
                 FLARE_ERR_ARGUMENT, "data is NULL");
    CHECK_STATUS(flare_segment_file(NULL, "a", "b", NULL), FLARE_ERR_HANDLE, "model is NULL");
    CHECK_STATUS(flare_segment_file(foreign, NULL, "b", NULL), FLARE_ERR_ARGUMENT, "in_path");
    CHECK_STATUS(flare_segment_file(foreign, "a", NULL, NULL), FLARE_ERR_ARGUMENT, "out_path");
    CHECK_STATUS(flare_cancel(NULL), FLARE_ERR_HANDLE, "model is NULL");
    CHECK_STATUS(flare_evaluate(NULL, NULL, NULL, NULL), FLARE_ERR_ARGUMENT, "out is NULL");
    CHECK_STATUS(flare_evaluate(&text, NULL, NULL, NULL), FLARE_ERR_ARGUMENT, "prediction is NULL");
    CHECK_STATUS(flare_evaluate_file(&text, "a", NULL, NULL), FLARE_ERR_ARGUMENT, "reference is NULL");
    CHECK_STATUS(flare_pseudo_label(NULL, "a", "b", NULL), FLARE_ERR_ARGUMENT, "out is NULL");
    CHECK_STATUS(flare_pseudo_label(&text, NULL, "b", NULL), FLARE_ERR_ARGUMENT, "images is NULL");
    CHECK_STATUS(flare_pseudo_label(&text, "a", NULL, NULL), FLARE_ERR_ARGUMENT, "out_path is NULL");
    CHECK_STATUS(flare_pseudo_label(&text, "a", "b", NULL), FLARE_ERR_ARGUMENT, "no teacher");
    CHECK_STATUS(flare_student(NULL, "a", NULL), FLARE_ERR_ARGUMENT, "out is NULL");
    CHECK_STATUS(flare_student(&text, NULL, NULL), FLARE_ERR_ARGUMENT, "config_path is NULL");
    CHECK_STATUS(flare_student(&text, "none.json", NULL), FLARE_ERR_NOT_FOUND, "none.json");
    CHECK_STATUS(flare_convert(NULL, NULL), FLARE_ERR_ARGUMENT, "out_path is NULL");
    CHECK_STATUS(flare_convert("x", NULL), FLARE_ERR_ARGUMENT, "options is NULL");

    flare_model_free(NULL);
    flare_free(NULL);
    flare_open_options_init(NULL, sizeof(flare_open_options));
    flare_volume_init(NULL, sizeof(flare_volume));
    flare_segment_options_init(NULL, sizeof(flare_segment_options));
    flare_convert_options_init(NULL, sizeof(flare_convert_options));
}

/* What every function of a trainer says to a handle. */
static void check_trainer_handle(flare_trainer *trainer, flare_status status, const char *says)
{
    char        *text = (char *)"left over";
    float       *values = NULL;
    size_t       count;
    double       rate;
    uint8_t      voxel[1] = {0};
    flare_volume image    = FLARE_VOLUME_INIT;
    image.data = voxel;
    CHECK_STATUS(flare_trainer_describe(&text, trainer), status, says);
    CHECK(text == NULL || status == FLARE_ERR_FORKED);
    CHECK_STATUS(flare_trainer_add_case(trainer, "a", &image, &image), status, says);
    CHECK_STATUS(flare_trainer_step(NULL, trainer, NULL), status, says);
    CHECK_STATUS(flare_trainer_backward(NULL, trainer, NULL, 0), status, says);
    CHECK_STATUS(flare_trainer_evaluate(NULL, trainer, NULL), status, says);
    CHECK_STATUS(flare_trainer_apply(trainer), status, says);
    CHECK_STATUS(flare_trainer_parameters(&values, &count, trainer), status, says);
    CHECK_STATUS(flare_trainer_gradients(&values, &count, trainer), status, says);
    CHECK_STATUS(flare_trainer_set_learning_rate(trainer, 0.1), status, says);
    CHECK_STATUS(flare_trainer_get_learning_rate(&rate, trainer), status, says);
    CHECK_STATUS(flare_trainer_save(trainer, "a"), status, says);
    CHECK_STATUS(flare_trainer_load(trainer, "a"), status, says);
    CHECK_STATUS(flare_trainer_export(trainer, "a"), status, says);
    CHECK_STATUS(flare_trainer_run(trainer, NULL), status, says);
    CHECK_STATUS(flare_trainer_cancel(trainer), status, says);
    CHECK(values == NULL && access("a", F_OK) != 0);
    flare_trainer_free(trainer);
}

/* What every function of a labeller says to a handle. */
static void check_labeller_handle(flare_labeller *labeller, flare_status status, const char *says)
{
    char *text = (char *)"left over";
    CHECK_STATUS(flare_labeller_cases(&text, labeller), status, says);
    CHECK(text == NULL || status == FLARE_ERR_FORKED);
    CHECK_STATUS(flare_labeller_label(&text, labeller, "a"), status, says);
    CHECK_STATUS(flare_labeller_cancel(labeller), status, says);
    flare_labeller_free(labeller);
}

static int32_t never(double fraction, const char *phase, void *user)
{
    (void)fraction, (void)phase, (void)user;
    return 1;
}

static void test_labellers(void)
{
    flare_labeller *labeller = foreign_labeller;
    char           *text     = (char *)"left over";
    const char     *models[] = {"none.onnx"};
    flare_pseudo_label_options options = FLARE_PSEUDO_LABEL_OPTIONS_INIT;

    check_labeller_handle(NULL, FLARE_ERR_HANDLE, "labeller is NULL");
    check_labeller_handle(foreign_labeller, FLARE_ERR_HANDLE, "no labeller handle");
    CHECK_STATUS(flare_labeller_open(NULL, "a", "b", NULL), FLARE_ERR_ARGUMENT, "out is NULL");
    CHECK_STATUS(flare_labeller_open(&labeller, NULL, "b", NULL), FLARE_ERR_ARGUMENT, "images is NULL");
    CHECK(labeller == NULL);
    CHECK_STATUS(flare_labeller_open(&labeller, "a", NULL, NULL), FLARE_ERR_ARGUMENT, "out_path is NULL");
    CHECK_STATUS(flare_labeller_open(&labeller, "a", "b", NULL), FLARE_ERR_ARGUMENT, "no teacher");
    options.models_count = 1;
    CHECK_STATUS(flare_labeller_open(&labeller, "a", "b", &options), FLARE_ERR_ARGUMENT, "models is NULL");
    options.models = models;
    CHECK_STATUS(flare_labeller_open(&labeller, "a", "b", &options), FLARE_ERR_NOT_FOUND, "a");
    options.progress = never;
    CHECK_STATUS(flare_labeller_open(&labeller, "a", "b", &options), FLARE_ERR_ARGUMENT, "progress");
    CHECK(labeller == NULL);
    CHECK_STATUS(flare_labeller_cases(NULL, foreign_labeller), FLARE_ERR_ARGUMENT, "out is NULL");
    CHECK_STATUS(flare_labeller_label(NULL, foreign_labeller, "a"), FLARE_ERR_ARGUMENT, "out is NULL");
    CHECK_STATUS(flare_labeller_label(&text, foreign_labeller, NULL), FLARE_ERR_ARGUMENT, "name is NULL");
    CHECK(text == NULL);
}

static void test_trainers(void)
{
    flare_trainer *trainer = foreign_trainer;
    float         *values;
    size_t         count;
    flare_volume   image = FLARE_VOLUME_INIT;
    flare_batch    batch = FLARE_BATCH_INIT;
    flare_trainer_options options = FLARE_TRAINER_OPTIONS_INIT;

    check_trainer_handle(NULL, FLARE_ERR_HANDLE, "trainer is NULL");
    check_trainer_handle(foreign_trainer, FLARE_ERR_HANDLE, "no trainer handle");
    CHECK_STATUS(flare_trainer_open(NULL, &options), FLARE_ERR_ARGUMENT, "out is NULL");
    CHECK_STATUS(flare_trainer_open(&trainer, NULL), FLARE_ERR_ARGUMENT, "options is NULL");
    CHECK(trainer == NULL);
    CHECK_STATUS(flare_trainer_open(&trainer, &options), FLARE_ERR_ARGUMENT, "expected a model");
    CHECK_STATUS(flare_trainer_parameters(NULL, &count, foreign_trainer), FLARE_ERR_ARGUMENT, "out");
    CHECK_STATUS(flare_trainer_gradients(&values, NULL, foreign_trainer), FLARE_ERR_ARGUMENT, "count");
    CHECK_STATUS(flare_trainer_get_learning_rate(NULL, foreign_trainer), FLARE_ERR_ARGUMENT, "out");
    CHECK_STATUS(flare_trainer_add_case(foreign_trainer, NULL, &image, &image), FLARE_ERR_ARGUMENT, "name");
    CHECK_STATUS(flare_trainer_add_case(foreign_trainer, "a", NULL, &image), FLARE_ERR_ARGUMENT, "image");
    CHECK_STATUS(flare_trainer_add_case(foreign_trainer, "a", &image, NULL), FLARE_ERR_ARGUMENT, "labels");
    CHECK_STATUS(flare_trainer_add_case(foreign_trainer, "a", &image, &image), FLARE_ERR_ARGUMENT, "data");
    CHECK_STATUS(flare_trainer_save(foreign_trainer, NULL), FLARE_ERR_ARGUMENT, "path");
    CHECK_STATUS(flare_trainer_load(foreign_trainer, NULL), FLARE_ERR_ARGUMENT, "path");
    CHECK_STATUS(flare_trainer_export(foreign_trainer, NULL), FLARE_ERR_ARGUMENT, "path");
    CHECK_STATUS(flare_trainer_step(NULL, foreign_trainer, &batch), FLARE_ERR_ARGUMENT, "images is NULL");
    flare_trainer_options_init(NULL, sizeof options);
    flare_batch_init(NULL, sizeof batch);
    flare_trainer_result_init(NULL, sizeof(flare_trainer_result));
    flare_trainer_run_options_init(NULL, sizeof(flare_trainer_run_options));
    /* a model's handle is none of a trainer's, and the other way round */
    CHECK_STATUS(flare_cancel((flare_model *)foreign_trainer), FLARE_ERR_HANDLE, "no model handle");
}

static void test_foreign_handles(void)
{
    int          local;
    flare_model *handles[] = {foreign, (flare_model *)&local, (flare_model *)UINTPTR_MAX};
    for (size_t i = 0; i < sizeof handles / sizeof *handles; i++) {
        char        *text = NULL;
        uint8_t      labels[1], voxels[1] = {0};
        flare_volume image = FLARE_VOLUME_INIT;
        image.data = voxels;
        CHECK_STATUS(flare_model_describe(&text, handles[i]), FLARE_ERR_HANDLE, "no model handle");
        CHECK_STATUS(flare_model_stats(&text, handles[i]), FLARE_ERR_HANDLE, "no model handle");
        CHECK_STATUS(flare_cancel(handles[i]), FLARE_ERR_HANDLE, "no model handle");
        CHECK_STATUS(flare_segment(labels, FLARE_UINT8, 1, handles[i], &image, NULL),
                     FLARE_ERR_HANDLE, "no model handle");
        CHECK_STATUS(flare_segment_file(handles[i], "a", "b", NULL), FLARE_ERR_HANDLE,
                     "no model handle");
        flare_model_free(handles[i]);
        CHECK(text == NULL);
    }
}

/* Calls a function with a struct of any size at the start of bytes. */
static flare_status open_with(void *bytes)
{
    flare_model *model;
    return flare_model_open(&model, "x", (flare_open_options *)bytes);
}
static flare_status volume_with(void *bytes)
{
    uint8_t labels[1];
    return flare_segment(labels, FLARE_UINT8, 1, foreign, (flare_volume *)bytes, NULL);
}
static flare_status segment_with(void *bytes)
{
    return flare_segment_file(foreign, "a", "b", (flare_segment_options *)bytes);
}
static flare_status evaluate_with(void *bytes)
{
    char *text;
    return flare_evaluate_file(&text, "a", "b", (flare_evaluate_options *)bytes);
}
static flare_status convert_with(void *bytes)
{
    return flare_convert("x", (flare_convert_options *)bytes);
}

static flare_status trainer_with(void *bytes)
{
    flare_trainer *trainer;
    return flare_trainer_open(&trainer, (flare_trainer_options *)bytes);
}
static flare_status batch_with(void *bytes)
{
    return flare_trainer_step(NULL, foreign_trainer, (flare_batch *)bytes);
}
static flare_status label_with(void *bytes)
{
    char *text;
    return flare_pseudo_label(&text, "a", "b", (flare_pseudo_label_options *)bytes);
}
static flare_status student_with(void *bytes)
{
    char *text;
    return flare_student(&text, "none.json", (flare_student_options *)bytes);
}
static flare_status result_with(void *bytes)
{
    return flare_trainer_step((flare_trainer_result *)bytes, foreign_trainer, NULL);
}
static flare_status run_with(void *bytes)
{
    return flare_trainer_run(foreign_trainer, (flare_trainer_run_options *)bytes);
}

static void test_struct_sizes(void)
{
    /* first: size of the struct in the first flare.h. probe: a field whose wrong value gives
     * `status` and `text` only after the struct was accepted. */
    static const struct {
        size_t first, size;
        flare_status (*call)(void *);
        size_t       probe;
        flare_status status;
        const char  *text;
    } structs[] = {
        {48, sizeof(flare_open_options), open_with, offsetof(flare_open_options, threads),
         FLARE_ERR_ARGUMENT, "threads"},
        {168, sizeof(flare_volume), volume_with, offsetof(flare_volume, data), FLARE_ERR_HANDLE,
         "no model handle"},
        {56, sizeof(flare_segment_options), segment_with,
         offsetof(flare_segment_options, mirror), FLARE_ERR_HANDLE, "no model handle"},
        {72, sizeof(flare_evaluate_options), evaluate_with,
         offsetof(flare_evaluate_options, threads), FLARE_ERR_ARGUMENT, "threads"},
        {72, sizeof(flare_convert_options), convert_with, 0, FLARE_ERR_ARGUMENT,
         "either folder"},
        {208, sizeof(flare_trainer_options), trainer_with,
         offsetof(flare_trainer_options, threads), FLARE_ERR_ARGUMENT, "threads"},
        {80, sizeof(flare_batch), batch_with, offsetof(flare_batch, images), FLARE_ERR_HANDLE,
         "no trainer handle"},
        {48, sizeof(flare_trainer_result), result_with, 0, FLARE_ERR_HANDLE, "no trainer handle"},
        {112, sizeof(flare_pseudo_label_options), label_with,
         offsetof(flare_pseudo_label_options, threads), FLARE_ERR_ARGUMENT, "threads"},
        {32, sizeof(flare_student_options), student_with, 0, FLARE_ERR_NOT_FOUND, "none.json"},
        {32, sizeof(flare_trainer_run_options), run_with, 0, FLARE_ERR_HANDLE, "no trainer handle"},
    };
    for (size_t i = 0; i < sizeof structs / sizeof *structs; i++) {
        size_t bytes[64]; /* room for the struct and a tail */
        size_t first = structs[i].first, size = structs[i].size;
        memset(bytes, 0, sizeof bytes);
        if (structs[i].probe != 0)
            memset((char *)bytes + structs[i].probe, 0xFF, 4);

        bytes[0] = 0; /* not initialised */
        CHECK_STATUS(structs[i].call(bytes), FLARE_ERR_ARGUMENT, "struct_size");
        bytes[0] = first - 1;
        CHECK_STATUS(structs[i].call(bytes), FLARE_ERR_ARGUMENT, "struct_size");
        memset((char *)bytes + first, 0xFF, 8); /* an older program: what follows is not its */
        bytes[0] = first;
        CHECK_STATUS(structs[i].call(bytes), structs[i].status, structs[i].text);
        memset((char *)bytes + first, 0, 8);
        bytes[0] = SIZE_MAX;
        CHECK_STATUS(structs[i].call(bytes), FLARE_ERR_ARGUMENT, "struct_size");
        bytes[0] = size;
        CHECK_STATUS(structs[i].call(bytes), structs[i].status, structs[i].text);
        bytes[0] = size + 16; /* a newer program that uses nothing new */
        CHECK_STATUS(structs[i].call(bytes), structs[i].status, structs[i].text);
        ((char *)bytes)[size + 15] = 1; /* and one that does */
        CHECK_STATUS(structs[i].call(bytes), FLARE_ERR_VERSION, "newer library");
    }
}

static void test_reserved_fields(void)
{
    flare_model          *model;
    flare_open_options    open    = FLARE_OPEN_OPTIONS_INIT;
    flare_segment_options segment = FLARE_SEGMENT_OPTIONS_INIT;
    flare_trainer        *trainer;
    flare_trainer_options training = FLARE_TRAINER_OPTIONS_INIT;
    flare_labeller       *labeller;
    char                 *text;
    flare_pseudo_label_options labels = FLARE_PSEUDO_LABEL_OPTIONS_INIT;
    open.reserved = segment.reserved = training.reserved = labels.reserved = 1;
    CHECK_STATUS(flare_labeller_open(&labeller, "a", "b", &labels), FLARE_ERR_VERSION, "reserved");
    CHECK_STATUS(flare_pseudo_label(&text, "a", "b", &labels), FLARE_ERR_VERSION, "reserved");
    CHECK_STATUS(flare_trainer_open(&trainer, &training), FLARE_ERR_VERSION, "reserved");
    CHECK_STATUS(flare_model_open(&model, "x", &open), FLARE_ERR_VERSION, "reserved");
    CHECK_STATUS(flare_segment_file(foreign, "a", "b", &segment), FLARE_ERR_VERSION, "reserved");
}

static void test_init_functions(void)
{
    struct {
        flare_volume volume;
        uint64_t     newer, behind;
    } v;
    memset(&v, 0xFF, sizeof v);
    flare_volume_init(&v.volume, sizeof v.volume + sizeof v.newer);
    CHECK(v.volume.struct_size == sizeof v.volume + sizeof v.newer);
    CHECK(v.volume.data == NULL && v.volume.direction[8] == 0 && v.newer == 0);
    CHECK(v.behind == UINT64_MAX);
    memset(&v, 0xFF, sizeof v);
    flare_volume_init(&v.volume, 4); /* no struct is that small: nothing is touched */
    CHECK(v.volume.struct_size == SIZE_MAX);
}

static void test_convert_needs_one_source(void)
{
    flare_convert_options options = FLARE_CONVERT_OPTIONS_INIT;
    options.folder = "a";
    options.onnx   = "b";
    CHECK_STATUS(flare_convert("x", &options), FLARE_ERR_ARGUMENT, "either folder or onnx");
}

static void ignore_log(int32_t level, const char *message, void *user)
{
    (void)level, (void)message, (void)user;
}

static void test_log_levels(void)
{
    CHECK_STATUS(flare_set_log(ignore_log, NULL, 0), FLARE_ERR_ARGUMENT, "level is 0");
    CHECK_STATUS(flare_set_log(ignore_log, NULL, 5), FLARE_ERR_ARGUMENT, "level is 5");
    CHECK_STATUS(flare_set_log(ignore_log, (void *)1, FLARE_LOG_DEBUG), FLARE_OK, "");
    CHECK_STATUS(flare_set_log(NULL, NULL, 0), FLARE_OK, "");
}

/* A text longer than the library keeps is cut between characters. */
static void test_long_error_text(void)
{
    enum { LENGTH = 20000 };
    flare_model          *model;
    static char           path[LENGTH + 1];
    flare_convert_options options = FLARE_CONVERT_OPTIONS_INIT;
    for (int i = 0; i < LENGTH; i += 2)
        memcpy(path + i, "\xC3\xA4", 2);
    options.folder = path;
    CHECK(flare_convert("/no/such/folder/x.onnx", &options) < 0);
    CHECK(strlen(flare_last_error()) <= 4096);
    CHECK(flare_model_open(&model, path, NULL) < 0);
    CHECK(strlen(flare_last_error()) <= 4096);
}

/* In a fork()ed child every call that would enter Go returns FLARE_ERR_FORKED at once; the
 * others work. */
static void test_fork(void)
{
    double start = seconds();
    pid_t  child = fork();
    int    status;
    if (child == 0) {
        char        *text;
        flare_model *model;
        flare_volume image = FLARE_VOLUME_INIT;
        uint8_t      labels[1] = {0};
        image.data = labels;
        failures   = 0;
        alarm(5); /* a call that hangs ends the child */
        CHECK_STATUS(flare_model_open(&model, "x", NULL), FLARE_ERR_FORKED, "fork");
        CHECK_STATUS(flare_devices(&text, NULL), FLARE_ERR_FORKED, "fork");
        CHECK_STATUS(flare_set_log(NULL, NULL, 0), FLARE_ERR_FORKED, "fork");
        CHECK_STATUS(flare_model_describe(&text, foreign), FLARE_ERR_FORKED, "fork");
        CHECK_STATUS(flare_model_stats(&text, foreign), FLARE_ERR_FORKED, "fork");
        CHECK_STATUS(flare_segment(labels, FLARE_UINT8, 1, foreign, &image, NULL),
                     FLARE_ERR_FORKED, "fork");
        CHECK_STATUS(flare_segment_file(foreign, "a", "b", NULL), FLARE_ERR_FORKED, "fork");
        CHECK_STATUS(flare_cancel(foreign), FLARE_ERR_FORKED, "fork");
        CHECK_STATUS(flare_convert("x", NULL), FLARE_ERR_FORKED, "fork");
        check_trainer_handle(foreign_trainer, FLARE_ERR_FORKED, "fork");
        check_labeller_handle(foreign_labeller, FLARE_ERR_FORKED, "fork");
        CHECK_STATUS(flare_evaluate(&text, &image, &image, NULL), FLARE_ERR_FORKED, "fork");
        CHECK_STATUS(flare_pseudo_label(&text, "a", "b", NULL), FLARE_ERR_FORKED, "fork");
        CHECK_STATUS(flare_student(&text, "a", NULL), FLARE_ERR_FORKED, "fork");
        flare_model_free(foreign);
        flare_free(NULL);
        CHECK(flare_api_version() == FLARE_API_VERSION);
        _exit(failures > 0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(seconds() - start < 2);
    CHECK_STATUS(flare_cancel(foreign), FLARE_ERR_HANDLE, "no model handle"); /* the parent lives */
}

/* Each thread makes its own kind of mistake and must see its own text only. */
static void *thread_of_errors(void *user)
{
    uintptr_t number = (uintptr_t)user;
    char      own[32];
    CHECK(strcmp(flare_last_error(), "") == 0);
    snprintf(own, sizeof own, "%#lx is", (unsigned long)number);
    for (int i = 0; i < 200; i++) {
        CHECK_STATUS(flare_cancel((flare_model *)number), FLARE_ERR_HANDLE, own);
        sched_yield();
        CHECK(strstr(flare_last_error(), own) != NULL);
    }
    return NULL;
}

static void test_threads(void)
{
    enum { COUNT = 64 };
    pthread_t threads[COUNT];
    CHECK_STATUS(flare_model_open(NULL, "x", NULL), FLARE_ERR_ARGUMENT, "out is NULL");
    for (uintptr_t i = 0; i < COUNT; i++)
        CHECK(pthread_create(&threads[i], NULL, thread_of_errors, (void *)(0x10000 + i)) == 0);
    for (int i = 0; i < COUNT; i++)
        pthread_join(threads[i], NULL);
    CHECK(strstr(flare_last_error(), "out is NULL") != NULL);
}

int main(void)
{
    begin_checks();
    test_versions_and_names();
    test_null_arguments();
    test_foreign_handles();
    test_labellers();
    test_trainers();
    test_struct_sizes();
    test_reserved_fields();
    test_init_functions();
    test_convert_needs_one_source();
    test_log_levels();
    test_long_error_text();
    test_fork();
    test_threads();
    return end_checks("edge_test");
}
