/* Image files: what is written comes back, bit by bit; mistakes are refused. Runs in an empty
 * folder. */
#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "check.h"

enum { NX = 5, NY = 4, NZ = 3, VOXELS = NX * NY * NZ };

static flare_image *const foreign = (flare_image *)(uintptr_t)0x1234;

/* A turned grid with numbers that no format rounds. */
static flare_volume grid(const void *data, int32_t dtype, int32_t channels)
{
    flare_volume v = FLARE_VOLUME_INIT;
    const double direction[9] = {0, -1, 0, 1, 0, 0, 0, 0, -1};
    v.data = data, v.dtype = dtype, v.channels = channels;
    v.size[0] = NX, v.size[1] = NY, v.size[2] = NZ;
    v.spacing[0] = 0.75, v.spacing[1] = 1.5, v.spacing[2] = 2.5;
    v.origin[0] = -20.5, v.origin[1] = 12.25, v.origin[2] = 100;
    memcpy(v.direction, direction, sizeof direction);
    return v;
}

/* Reads a file and compares it with what was written. */
static void check_file(const char *path, const flare_volume *written, size_t bytes)
{
    flare_image *image = NULL;
    flare_volume read  = FLARE_VOLUME_INIT;
    CHECK_STATUS(flare_image_open(&image, path), FLARE_OK, "");
    CHECK_STATUS(flare_image_volume(&read, image), FLARE_OK, "");
    CHECK(read.struct_size == sizeof read);
    CHECK(read.dtype == written->dtype && read.channels == written->channels);
    CHECK(memcmp(read.size, written->size, sizeof read.size) == 0);
    CHECK(memcmp(read.spacing, written->spacing, sizeof read.spacing) == 0);
    CHECK(memcmp(read.origin, written->origin, sizeof read.origin) == 0);
    for (int i = 0; i < 9; i++)
        CHECK(read.direction[i] == written->direction[i]); /* -0 is 0 */
    CHECK((uintptr_t)read.data % 64 == 0);
    if (read.data != NULL)
        CHECK(memcmp(read.data, written->data, bytes) == 0);

    flare_volume again = FLARE_VOLUME_INIT; /* the same memory, which may be written */
    CHECK_STATUS(flare_image_volume(&again, image), FLARE_OK, "");
    CHECK(again.data == read.data);
    if (again.data != NULL)
        ((uint8_t *)again.data)[0] ^= 1;
    flare_image_free(image);
    CHECK_STATUS(flare_image_volume(&again, image), FLARE_ERR_HANDLE, "stale");
    flare_image_free(image);
}

static void test_images(void)
{
    static const char *const names[] = {"a.nii.gz", "a.nii", "a.nrrd", "a.nhdr", "a.mha", "a.mhd"};
    int16_t voxels[2 * VOXELS];
    double  wide[VOXELS];
    for (int i = 0; i < 2 * VOXELS; i++)
        voxels[i] = (int16_t)(i * 997 - 30000);
    for (int i = 0; i < VOXELS; i++)
        wide[i] = i / 7.0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        flare_volume one = grid(voxels, FLARE_INT16, 1), two = grid(voxels, FLARE_INT16, 2),
                     reals = grid(wide, FLARE_FLOAT64, 1);
        CHECK_STATUS(flare_image_write(names[i], &one, NULL), FLARE_OK, "");
        check_file(names[i], &one, sizeof voxels / 2);
        CHECK_STATUS(flare_image_write(names[i], &two, NULL), FLARE_OK, "");
        check_file(names[i], &two, sizeof voxels);
        CHECK_STATUS(flare_image_write(names[i], &reals, NULL), FLARE_OK, "");
        check_file(names[i], &reals, sizeof wide);
    }
}

/* Whether a file's bytes hold text. */
static int holds(const char *path, const char *text)
{
    char   content[4096];
    FILE  *file = fopen(path, "rb");
    size_t n    = file != NULL ? fread(content, 1, sizeof content, file) : 0;
    int    found = 0;
    if (file != NULL)
        fclose(file);
    for (size_t i = 0; i + strlen(text) <= n; i++)
        found |= memcmp(content + i, text, strlen(text)) == 0;
    return found;
}

static void test_labels(void)
{
    static const char *const names[] = {"l.nii.gz", "l.nrrd", "l.seg.nrrd", "l.mha"};
    flare_write_options options = FLARE_WRITE_OPTIONS_INIT;
    uint16_t labels[VOXELS];
    for (int i = 0; i < VOXELS; i++)
        labels[i] = (uint16_t)(i % 3 == 2 ? 300 : i % 3);
    flare_volume map = grid(labels, FLARE_UINT16, 1);
    options.labels   = "{\"background\": 0, \"b\xc3\xa4uch\": 300}";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        CHECK_STATUS(flare_image_write(names[i], &map, &options), FLARE_OK, "");
        check_file(names[i], &map, sizeof labels);
    }
    CHECK(holds("l.seg.nrrd", "Name:=b\xc3\xa4uch\n"));
    CHECK(holds("l.seg.nrrd", "LabelValue:=300\n"));
    CHECK(holds("l.seg.nrrd", "Name:=Segment_1\n")); /* has no name */
    CHECK(!holds("l.seg.nrrd", "Name:=background"));
    options.labels = "{}";
    CHECK_STATUS(flare_image_write("l.seg.nrrd", &map, &options), FLARE_OK, "");
    CHECK(holds("l.seg.nrrd", "Name:=Segment_300\n"));

    map.dtype = FLARE_INT16;
    CHECK_STATUS(flare_image_write("l.mha", &map, &options), FLARE_ERR_ARGUMENT, "int16");
    map.dtype = FLARE_UINT16;
    for (const char *const *bad = (const char *const[]){"liver", "{\"liver\": 1.5}",
         "{\"liver\": \"1\"}", "{\"liver\": -1}", "{\"liver\": 65536}", "[]", "", NULL}; *bad; bad++) {
        options.labels = *bad;
        CHECK_STATUS(flare_image_write("l.mha", &map, &options), FLARE_ERR_ARGUMENT, "labels");
    }
    check_file("l.mha", &map, sizeof labels); /* what was there is */
}

static void test_mistakes(void)
{
    flare_image *image = foreign;
    uint8_t      voxels[VOXELS] = {0};
    flare_volume v = grid(voxels, FLARE_UINT8, 1), out = FLARE_VOLUME_INIT;
    struct stat  status;

    CHECK_STATUS(flare_image_open(NULL, "a.nii"), FLARE_ERR_ARGUMENT, "out is NULL");
    CHECK_STATUS(flare_image_open(&image, NULL), FLARE_ERR_ARGUMENT, "path is NULL");
    CHECK(image == NULL);
    CHECK_STATUS(flare_image_open(&image, "none.nii.gz"), FLARE_ERR_NOT_FOUND, "none.nii.gz");
    CHECK_STATUS(flare_image_open(&image, "."), FLARE_ERR_IO, "folder");
    CHECK(image == NULL);
    FILE *file = fopen("bad.nii", "wb");
    fputs("no image", file);
    fclose(file);
    rename("bad.nii", "bad.txt");
    CHECK_STATUS(flare_image_open(&image, "bad.txt"), FLARE_ERR_UNSUPPORTED, ".txt");
    rename("bad.txt", "bad.nii");
    CHECK_STATUS(flare_image_open(&image, "bad.nii"), FLARE_ERR_FORMAT, "bad.nii");

    CHECK_STATUS(flare_image_volume(NULL, foreign), FLARE_ERR_ARGUMENT, "out is NULL");
    CHECK_STATUS(flare_image_volume(&out, NULL), FLARE_ERR_HANDLE, "image is NULL");
    CHECK_STATUS(flare_image_volume(&out, foreign), FLARE_ERR_HANDLE, "no image handle");
    out.struct_size = 8;
    CHECK_STATUS(flare_image_volume(&out, foreign), FLARE_ERR_ARGUMENT, "struct_size");
    flare_image_free(NULL);
    flare_image_free(foreign);

    CHECK_STATUS(flare_image_write(NULL, &v, NULL), FLARE_ERR_ARGUMENT, "path is NULL");
    CHECK_STATUS(flare_image_write("x.nii", NULL, NULL), FLARE_ERR_ARGUMENT, "volume is NULL");
    CHECK_STATUS(flare_image_write("x.png", &v, NULL), FLARE_ERR_UNSUPPORTED, ".png");
    CHECK_STATUS(flare_image_write("none/x.nii", &v, NULL), FLARE_ERR_NOT_FOUND, "none/x.nii");
    v.spacing[1] = 0;
    CHECK_STATUS(flare_image_write("x.nii", &v, NULL), FLARE_ERR_ARGUMENT, "spacing");
    v.data = NULL;
    CHECK_STATUS(flare_image_write("x.nii", &v, NULL), FLARE_ERR_ARGUMENT, "data is NULL");
    CHECK(stat("x.nii", &status) != 0);
    flare_write_options_init(NULL, sizeof(flare_write_options));
}

static void test_fork(void)
{
    int   status;
    pid_t child = fork();
    if (child == 0) {
        flare_image *image;
        uint8_t      voxels[VOXELS] = {0};
        flare_volume v = grid(voxels, FLARE_UINT8, 1);
        failures = 0;
        alarm(5);
        CHECK_STATUS(flare_image_open(&image, "a.nii"), FLARE_ERR_FORKED, "fork");
        CHECK_STATUS(flare_image_volume(&v, foreign), FLARE_ERR_FORKED, "fork");
        CHECK_STATUS(flare_image_write("x.nii", &v, NULL), FLARE_ERR_FORKED, "fork");
        flare_image_free(foreign);
        _exit(failures > 0);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void *reader(void *user)
{
    (void)user;
    for (int i = 0; i < 20; i++) {
        flare_image *image = NULL;
        flare_volume v     = FLARE_VOLUME_INIT;
        CHECK_STATUS(flare_image_open(&image, "a.nii.gz"), FLARE_OK, "");
        CHECK_STATUS(flare_image_volume(&v, image), FLARE_OK, "");
        flare_image_free(image);
    }
    return NULL;
}

static void test_threads(void)
{
    pthread_t threads[8];
    for (int i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, reader, NULL);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
}

int main(void)
{
    begin_checks();
    test_images();
    test_labels();
    test_mistakes();
    test_threads();
    test_fork();
    return end_checks("image_test");
}
