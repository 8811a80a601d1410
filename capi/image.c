/* The public functions of image files, as flare.c; their Go exports are in image.go. */
#include <stdlib.h>
#include <string.h>

#include "_cgo_export.h"
#include "shim.h"

/* Size of the struct in the first published flare.h; it never changes. */
enum { WRITE_OPTIONS_FIRST = offsetof(flare_write_options, labels) + sizeof(char *) };

void flare_write_options_init(flare_write_options *options, size_t struct_size)
{
    edge_init(options, struct_size);
}

static uint64_t id(flare_image *image)
{
    return (uint64_t)(uintptr_t)image;
}

flare_status flare_image_open(flare_image **out, const char *path)
{
    flare_status status;
    uint64_t     image = 0;
    char        *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL(out);
    *out = NULL;
    REFUSE_NULL(path);
    status = edge_keep(flareGoImageOpen(&text, &image, (char *)path), &text);
    *out = (flare_image *)(uintptr_t)image;
    return status;
}

flare_status flare_image_volume(flare_volume *out, flare_image *image)
{
    flare_volume told;
    flare_status status;
    char        *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL(out);
    TAKE(told, EDGE_VOLUME_FIRST, out, "flare_volume");
    REFUSE_NULL_HANDLE(image);
    status = edge_keep(flareGoImageVolume(&text, &told, id(image)), &text);
    if (status == FLARE_OK) { /* what the caller's version has; struct_size stays the caller's */
        size_t size = told.struct_size < sizeof told ? told.struct_size : sizeof told;
        memcpy(out, &told, size);
    }
    return status;
}

/* Frees in silence, as flare_model_free. */
void flare_image_free(flare_image *image)
{
    char *text = NULL;
    if (edge_forked || image == NULL)
        return;
    flareGoImageFree(&text, id(image));
    free(text);
}

flare_status flare_image_write(const char *path, const flare_volume *volume,
                               const flare_write_options *options)
{
    flare_volume        voxels;
    flare_write_options copy;
    char               *text = NULL;
    REFUSE_FORKED();
    REFUSE_NULL(path);
    REFUSE_NULL(volume);
    TAKE(voxels, EDGE_VOLUME_FIRST, volume, "flare_volume");
    TAKE(copy, WRITE_OPTIONS_FIRST, options, "flare_write_options");
    REFUSE_NULL(voxels.data);
    return edge_keep(flareGoImageWrite(&text, (char *)path, &voxels, &copy), &text);
}
