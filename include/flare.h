/* flare.h - the C interface of libflare: nnU-Net inside your program.
 *
 * Research software, not a medical device.
 *
 *     flare_model *model = NULL;
 *     if (flare_model_open(&model, "abdomen.onnx", NULL) != FLARE_OK)
 *         puts(flare_last_error());
 *     flare_volume ct = FLARE_VOLUME_INIT;
 *     ct.data = voxels;  ct.dtype = FLARE_INT16;       // x varies fastest
 *     ct.size[0] = 512;  ct.size[1] = 512;  ct.size[2] = 168;
 *     ct.spacing[0] = ct.spacing[1] = 0.7;  ct.spacing[2] = 2.0;
 *     flare_segment(labels, FLARE_UINT8, 512 * 512 * 168, model, &ct, NULL);
 *     flare_model_free(model);
 *
 * Conventions
 *   Status    Every function that can fail returns a flare_status: 0 for success, a
 *             negative code otherwise; flare_last_error() then explains it.
 *   Strings   are UTF-8 and NUL-terminated. A char* that a function gives through a
 *             char** belongs to the caller, who returns it with flare_free().
 *   Options   structs start with struct_size, set by their _INIT macro or _init
 *             function; every other field may stay 0, which means the default.
 *             A NULL options pointer means all defaults. Fields are only ever appended, so
 *             that a library takes the structs of older programs, and those of newer ones as
 *             long as they set no field it does not know (else FLARE_ERR_VERSION).
 *   Voxels    x varies fastest, then y, z, channel. Sizes, spacings and directions are
 *             in the order x, y, z, positions in millimetres in the LPS system, as in
 *             ITK and DICOM. Buffers are aligned to their element type.
 *   Threads   Every function may be called from any thread. Calls on one model, trainer or
 *             labeller wait for each other in turn; different ones run side by side. Callbacks must return
 *             normally: no exception and no longjmp may leave them.
 *   Processes The library must not be unloaded (dlclose is a no-op), and cannot be used
 *             in a child made by fork() without exec(): calls there return
 *             FLARE_ERR_FORKED. flare_last_error, _status_name, _api_version, _version, _free
 *             and the _init functions work everywhere.
 *   Silence   The library prints nothing, writes no file it was not asked for, installs
 *             no signal handler of its own beyond those of the Go runtime, and reads one
 *             environment variable: FLARE_ONNXRUNTIME, the path of the ONNX Runtime
 *             library or of the folder that holds it, used when there is none beside
 *             libflare.
 */
#ifndef FLARE_H
#define FLARE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define FLARE_API __attribute__((visibility("default")))
#else
#define FLARE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Version of this interface; equal to flare_api_version() of a library that fits. */
#define FLARE_API_VERSION 1

/* ------------------------------------------------------------------ status ------- */

typedef int32_t flare_status;

enum {
    FLARE_OK              = 0,
    FLARE_ERR_INTERNAL    = -1,  /* a defect in the library                            */
    FLARE_ERR_ARGUMENT    = -2,  /* a value given by the caller is wrong               */
    FLARE_ERR_HANDLE      = -3,  /* a handle is stale, zero or not the library's       */
    FLARE_ERR_NOT_FOUND   = -4,  /* a file or folder does not exist                    */
    FLARE_ERR_IO          = -5,  /* reading or writing failed (permission, full disk)  */
    FLARE_ERR_FORMAT      = -6,  /* the content of a file is malformed                 */
    FLARE_ERR_UNSUPPORTED = -7,  /* well-formed, but not supported                     */
    FLARE_ERR_MODEL       = -8,  /* parts of a model, or model and image, don't fit    */
    FLARE_ERR_MEMORY      = -9,  /* an allocation failed or was refused                */
    FLARE_ERR_DEVICE      = -10, /* the device does not exist or failed                */
    FLARE_ERR_RUNTIME     = -11, /* ONNX Runtime is missing, too old, or failed        */
    FLARE_ERR_CANCELLED   = -12, /* flare_cancel, or a callback that returned non-zero */
    FLARE_ERR_PANIC       = -13, /* a defect was caught; later calls fail likewise     */
    FLARE_ERR_FORKED      = -14, /* called in a fork()ed child                         */
    FLARE_ERR_VERSION     = -15  /* compiled against a newer flare.h than the library  */
};

/* Text for the last failure of a call made on this thread: what was found, where, and
 * what was expected; at most 4096 bytes. Valid until the next call on this thread; ""
 * if none failed yet. Never NULL. */
FLARE_API const char *flare_last_error(void);

/* Name of a status, such as "FLARE_ERR_FORMAT". Static text, never NULL. */
FLARE_API const char *flare_status_name(flare_status status);

/* ------------------------------------------------------- version, log, memory ---- */

/* The interface version of the loaded library; compare with FLARE_API_VERSION. */
FLARE_API uint32_t flare_api_version(void);

/* Version of the library, such as "0.1.0". Static text, never NULL. */
FLARE_API const char *flare_version(void);

enum { FLARE_LOG_ERROR = 1, FLARE_LOG_WARNING = 2, FLARE_LOG_INFO = 3, FLARE_LOG_DEBUG = 4 };

/* A log line: level (FLARE_LOG_*), message (valid during the call), user pointer. May be
 * called from any thread, also while another call is running. It must not call the
 * library. */
typedef void (*flare_log_fn)(int32_t level, const char *message, void *user);

/* Sends log lines up to `level` to fn; NULL (the state at load) drops them. Process-wide.
 * When it returns, the former fn is not running and will not be called again. */
FLARE_API flare_status flare_set_log(flare_log_fn fn, void *user, int32_t level);

/* Frees what a function gave through a char**. NULL is allowed. */
FLARE_API void flare_free(void *memory);

/* ----------------------------------------------------------------- devices ------- */

/* Gives the devices that this machine offers as JSON (caller frees):
 *   {"runtime": "/path/libonnxruntime.so.1.24.1", "runtime_version": "1.24.1",
 *    "devices": [{"name": "openvino", "description": "...", "available": true,
 *                 "reason": ""}, ...]}
 * runtime: path of the ONNX Runtime library or its folder, or NULL to search.
 * Fails with FLARE_ERR_RUNTIME where there is none; the error lists every place looked. */
FLARE_API flare_status flare_devices(char **out, const char *runtime);

/* ------------------------------------------------------------------ models ------- */

/* An open model. The pointer is a checked number, not an address: a stale or foreign one
 * gives FLARE_ERR_HANDLE. */
typedef struct flare_model flare_model;

typedef struct flare_open_options {
    size_t      struct_size; /* sizeof(flare_open_options)                                 */
    const char *device;      /* "auto" (default), "cpu" (OpenVINO where it loads, else ONNX
                              * Runtime), "openvino", "ort", "cuda"                        */
    const char *folds;       /* "all" (default) or a list such as "0,1"                    */
    const char *checkpoint;  /* file in each fold_* folder; default "checkpoint_final.pth";
                              * refused for bundles, which hold their weights              */
    const char *runtime;     /* ONNX Runtime library or its folder; default: search        */
    int32_t     threads;     /* bound on the threads of a call; 0: one per core            */
    int32_t     reserved;    /* 0                                                          */
    const char *mode;        /* "exact" (default): fp32, nnU-Net's labels; "fast": bf16 where
                              * the processor has it, fp16 on a GPU, and in CT no tiles of
                              * nothing but air: Dice at least 0.995 against exact for every
                              * organ above 1 ml. flare_model_stats tells what was done    */
    const char *cache_dir;   /* NULL, or a folder, made if need be, that keeps prepared
                              * networks for later opening; processes may share it, and what
                              * is unusable in it is ignored                               */
    const char *read_ahead;  /* NULL, or the file that the first flare_segment_file will be
                              * called with: it is read while the network is prepared, and
                              * kept until then. It changes no result; lists do not use it */
    int64_t     gpu_memory_limit; /* 0, or a bound in bytes on the memory that "cuda" takes on
                              * the GPU for the network and its values (CUDA itself needs some
                              * hundred MB besides); what does not fit fails with
                              * FLARE_ERR_MEMORY. Other devices ignore it                  */
} flare_open_options;

#define FLARE_OPEN_OPTIONS_INIT { sizeof(flare_open_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
FLARE_API void flare_open_options_init(flare_open_options *options, size_t struct_size);

/* Opens a bundle (.onnx made by flare_convert), an nnU-Net v2 results folder (with
 * plans.json, dataset.json, fold_*), or a list of these (.json: parts, ensembles and
 * cascades; segment/list.go documents it). On failure *out is NULL. Nothing in a checkpoint is
 * executed. */
FLARE_API flare_status flare_model_open(flare_model **out, const char *path,
                                        const flare_open_options *options);

/* Describes a model as JSON (caller frees): task, configuration, network, parameters,
 * labels, channels, spacing_mm and patch_size (z,y,x), folds, mirror_axes, normalization,
 * orientation, heads, device, precision, threads, notes (devices that do not run it, and why),
 * previous_stage ("", or the configuration whose labels a cascade's second stage needs); of a
 * list also combine and models, the descriptions of its models; postprocessing (whether the
 * model stores any). heads is 0 for a list of parts, which has no probabilities. */
FLARE_API flare_status flare_model_describe(char **out, flare_model *model);

/* Closes a model; a running call on it is cancelled and waited for. NULL and stale handles
 * are allowed and do nothing; so do all after FLARE_ERR_PANIC. The last error stays. */
FLARE_API void flare_model_free(flare_model *model);

/* -------------------------------------------------------------- segmenting ------- */

enum {
    FLARE_UINT8   = 1,
    FLARE_INT16   = 2,
    FLARE_UINT16  = 3,
    FLARE_INT32   = 4,
    FLARE_FLOAT32 = 5,
    FLARE_FLOAT64 = 6
};

typedef struct flare_volume {
    size_t      struct_size;  /* sizeof(flare_volume)                                     */
    const void *data;         /* channels x size[2] x size[1] x size[0] voxels; the caller's,
                               * only read                                                */
    int32_t     dtype;        /* FLARE_UINT8 ... FLARE_FLOAT64                            */
    int32_t     channels;     /* 0: 1                                                     */
    int64_t     size[3];      /* voxels along x, y, z                                     */
    double      spacing[3];   /* mm along x, y, z; positive                               */
    double      origin[3];    /* mm, LPS: centre of voxel (0,0,0)                         */
    double      direction[9]; /* row-major; column i is the LPS unit vector of axis i, at right
                               * angles to the others (within 1e-3); all zero: identity    */
} flare_volume;

#define FLARE_VOLUME_INIT { sizeof(flare_volume), 0, 0, 0, {0, 0, 0}, {0, 0, 0}, {0, 0, 0}, \
                            {0, 0, 0, 0, 0, 0, 0, 0, 0} }
FLARE_API void flare_volume_init(flare_volume *volume, size_t struct_size);

/* Progress of a call: fraction 0..1 of the whole, phase ("read", "preprocess", "network",
 * "export", "write"; static text), user pointer. Called at most 20 times a second, on the
 * thread that made the call. Return 0 to go on; anything else cancels. It
 * must not call the library, except flare_cancel. */
typedef int32_t (*flare_progress_fn)(double fraction, const char *phase, void *user);

typedef struct flare_segment_options {
    size_t            struct_size;        /* sizeof(flare_segment_options)                  */
    flare_progress_fn progress;           /* or NULL                                        */
    void             *progress_user;
    float            *probabilities;      /* flare_segment: NULL, or a buffer of heads x
                                           * size[2] x size[1] x size[0] floats to fill: the
                                           * softmax of the logits (sigmoid for region-based
                                           * models) on the image's grid                    */
    size_t            probabilities_count; /* floats in that buffer, at least as many       */
    const char       *probabilities_path; /* flare_segment_file: NULL, or an image file to
                                           * write them to (4-D, float32); each function
                                           * refuses the other's field                      */
    int32_t           mirror;             /* non-zero: average over the mirror flips that the
                                           * model was trained with (8 passes in 3-D)       */
    int32_t           postprocess;        /* non-zero: apply the post-processing that the
                                           * model stores; refused where it stores none     */
    const void       *previous;           /* flare_segment: NULL, or for the second stage of a
                                           * cascade the labels of the first on the image's
                                           * grid, one channel; only read                   */
    size_t            previous_bytes;     /* size of that buffer, at least the image's grid */
    const char       *previous_path;      /* flare_segment_file: NULL, or a file of them    */
    int32_t           previous_dtype;     /* FLARE_UINT8 ... FLARE_FLOAT64                  */
    int32_t           reserved;           /* 0                                              */
    const int64_t    *box;                /* NULL, or x0, y0, z0, x1, y1, z1 (from the first to
                                           * before the second) of the image's voxels as stored:
                                           * inside, labels are those of the whole image, outside
                                           * 0; only tiles that touch the box run           */
    const int32_t    *roi;                /* NULL, or roi_count label values: only these are
                                           * written, and only tiles run that can hold them
                                           * according to a coarse pass; where it misses one of
                                           * them, all tiles run                            */
    size_t            roi_count;          /* at most 65536                                  */
    int64_t           max_memory_bytes;   /* 0, or a bound on the process's resident size, as
                                           * far as it can be foreseen once the image is read.
                                           * What would need more is segmented in strips, with
                                           * the same labels and up to about 3 times the tiles
                                           * (the statistics' notes tell); what would need more
                                           * even so fails before the network runs, with
                                           * FLARE_ERR_MEMORY and the number of bytes needed */
    const char       *report_path;        /* flare_segment_file: NULL, or an .html file to write: a
                                           * page that needs no other file and no network, with a
                                           * view of image and labels, the organs' table (that of
                                           * the statistics), and what model made them and how */
} flare_segment_options;

#define FLARE_SEGMENT_OPTIONS_INIT { sizeof(flare_segment_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
                                     0, 0, 0, 0, 0 }
FLARE_API void flare_segment_options_init(flare_segment_options *options, size_t struct_size);

/* Segments a volume in memory. labels is the caller's buffer on the image's grid
 * (size[2] x size[1] x size[0] of labels_dtype, FLARE_UINT8 or FLARE_UINT16; labels_bytes
 * its size, at least that). Models with labels above 255 need FLARE_UINT16. After a failure or
 * cancellation the content of labels is undefined and the model stays usable. */
FLARE_API flare_status flare_segment(void *labels, int32_t labels_dtype, size_t labels_bytes,
                                     flare_model *model, const flare_volume *image,
                                     const flare_segment_options *options);

/* Segments a file into a file; endings, of either: .nii.gz, .nii (NIfTI), .nrrd, .nhdr (NRRD),
 * .mha, .mhd (MetaImage), and .seg.nrrd, a segmentation of 3D Slicer with the labels' names.
 * DICOM is FLARE_ERR_UNSUPPORTED; the message says how to convert it. Of an image in several
 * files, one for each channel, in_path is the first, CASE_0000.nii.gz, and CASE_0001.nii.gz and so
 * on are all taken for its channels. Labels are on the input's grid with its header geometry,
 * uint8 (uint16 for labels above 255). Labels, probabilities and report are written to temporary
 * files and renamed in the end, so that they are all there and whole, or none is. The voxels of
 * NAME.nhdr go to NAME.raw.gz, those of NAME.mhd to NAME.zraw (probabilities: NAME.raw); such a
 * file that is there and not the header's own is not replaced (FLARE_ERR_IO).
 *   An output that is a file of the image, the previous labels, the model or the other output,
 * also through links, is refused with FLARE_ERR_ARGUMENT. A symbolic link in an output's place
 * stays and the file it names is written; a file that exists keeps its permissions; one that is
 * read-only, or a device, is refused with FLARE_ERR_IO. Content of a file that does not suit the
 * model (its voxels, spacing, number of channels) is FLARE_ERR_MODEL. */
FLARE_API flare_status flare_segment_file(flare_model *model, const char *in_path,
                                          const char *out_path,
                                          const flare_segment_options *options);

/* Cancels the calls that are running or waiting on the model; they return
 * FLARE_ERR_CANCELLED within the time of one network tile. Returns at once, from any thread. */
FLARE_API flare_status flare_cancel(flare_model *model);

/* Statistics of the model's last successful call as JSON (caller frees):
 *   {"seconds": {"open": s, "read": s, "preprocess": s, "network": s, "export": s,
 *    "write": s, "total": s}, "tiles": n, "tiles_skipped": n, "peak_memory_bytes": n,
 *    "device": "openvino", "precision": "fp32", "threads": n, "mode": "exact", "body": 1,
 *    "notes": [], "organs": [{"label": 1, "name": "liver", "voxels": n, "volume_ml": v,
 *    "mean": [m], "sd": [s], "box": [x0, y0, z0, x1, y1, z1], "centre": [x, y, z],
 *    "border": ["superior"], "components": n, "largest": 1}, ...]}
 * tiles ran (those on the border of two strips twice), tiles_skipped were left out; precision is fp32, bf16, fp16 or tf32; body is the fraction
 * of the image that fast mode took for the patient; notes say in words what mode, box,
 * region of interest and memory bound led to.
 * organs are the labels that were looked for, at full resolution: mean and sd (standard deviation)
 * of the image's values for each channel; box half-open and centre (the voxel of its largest part
 * nearest to that part's centre of mass) in voxels; border the sides of the image that it reaches (right,
 * left, anterior, posterior, inferior, superior); components that do not touch by faces, edges or
 * corners, largest the fraction of voxels in the largest. One that was not found has voxels 0.
 * total is the whole call; open is the time flare_model_open took (not part of total);
 * peak_memory_bytes is the peak resident size of the process. Before the first such call
 * all but open, device, precision and threads is 0 or empty (of a list device is "" then). */
FLARE_API flare_status flare_model_stats(char **out, flare_model *model);

/* ------------------------------------------------------------- image files ------- */

/* What an image file holds, in memory. A checked number as flare_model is. */
typedef struct flare_image flare_image;

/* Reads an image file: .nii.gz, .nii (NIfTI), .nrrd, .nhdr, .seg.nrrd (NRRD), .mha, .mhd
 * (MetaImage). Voxels of the types above come as they are stored; int8 becomes int16; uint32,
 * int64 and uint64 become int32, or float64 where a value (or an order of channels) asks for it;
 * those with a slope or an intercept float32. NaN and infinite ones become 0. DICOM and sheared
 * axes are FLARE_ERR_UNSUPPORTED. On failure *out is NULL. */
FLARE_API flare_status flare_image_open(flare_image **out, const char *path);

/* Tells the voxels of an image and where they are in space: fills *out, which was initialised
 * with FLARE_VOLUME_INIT, for flare_segment and the others. A 2-D image has one slice 1 mm thick;
 * the 4th axis, or the values of a voxel, are the channels. The voxels are read from the file
 * once and not copied: out->data is the image's memory, aligned to 64 bytes, which may be read
 * and written until flare_image_free, after the last call that uses it. */
FLARE_API flare_status flare_image_volume(flare_volume *out, flare_image *image);

/* Gives an image's memory back; otherwise as flare_model_free. */
FLARE_API void flare_image_free(flare_image *image);

typedef struct flare_write_options {
    size_t      struct_size; /* sizeof(flare_write_options)                                */
    const char *labels;      /* NULL: the volume is an image; or it is a label map, FLARE_UINT8
                              * or FLARE_UINT16 of one channel, and this the names as
                              * dataset.json has them, {"background": 0, "liver": 1}, or {} */
} flare_write_options;

#define FLARE_WRITE_OPTIONS_INIT { sizeof(flare_write_options), 0 }
FLARE_API void flare_write_options_init(flare_write_options *options, size_t struct_size);

/* Writes a volume to an image file of the formats above, whole or not at all. Several channels
 * become the 4th axis. .seg.nrrd keeps the names of labels, as segments of 3D Slicer; a label that
 * occurs and has no name is named by its value. Labels are packed unless the ending is .nii,
 * images in .mha and .mhd are not. What stands in the way of a file is treated as
 * flare_segment_file does. */
FLARE_API flare_status flare_image_write(const char *path, const flare_volume *volume,
                                         const flare_write_options *options);

/* ------------------------------------------------------------- evaluating ------- */

typedef struct flare_evaluate_options {
    size_t      struct_size;   /* sizeof(flare_evaluate_options)                           */
    const char *rules;         /* "plain" (default), or with their organs, tolerances and
                                * quirks "flare21", "flare22", "flare23"                   */
    const char *labels_path;   /* plain: NULL (every label but 0 that is found), or a
                                * dataset.json with the labels to score and their names    */
    double      tolerance_mm;  /* plain: distance within which surfaces agree; 0: 1 mm     */
    int32_t     resample;      /* non-zero: bring a prediction on another grid to the
                                * reference's (nearest voxel) instead of refusing it       */
    int32_t     threads;       /* bound on the threads; 0: one per core                    */
    const char *csv_path;      /* NULL, or a file to write: a line for each case and label */
    const char *html_path;     /* NULL, or a file to write: a page with box plots and, of
                                * files, pictures of the worst cases                       */
    flare_progress_fn progress; /* or NULL; flare_evaluate_file calls it between cases,
                                * phase "evaluate"                                         */
    void       *progress_user;
} flare_evaluate_options;

#define FLARE_EVALUATE_OPTIONS_INIT { sizeof(flare_evaluate_options), 0, 0, 0, 0, 0, 0, 0, 0, 0 }
FLARE_API void flare_evaluate_options_init(flare_evaluate_options *options, size_t struct_size);

/* Compares a label map with its reference, both one channel of any dtype with integers from 0
 * to 65535, and gives JSON (caller frees):
 *   {"rules": "plain", "labels": [{"label": 1, "name": "", "tolerance_mm": 1, "cases": 1,
 *    "dsc": d, ...}, ...], "dsc": d, "nsd": d, "cases": [{"name": "", "prediction": "",
 *    "reference": "", "labels": [{"label": 1, "name": "", "dsc": d, "nsd": d, "assd_mm": d,
 *    "hd_mm": d, "hd95_mm": d, "ravd": d, "volume_ml": d, "reference_volume_ml": d}, ...],
 *    "dsc": d, "nsd": d, "notes": []}], "failed": {}, "notes": []}
 * null stands for a score that is not defined. The outer labels, dsc and nsd are means over
 * cases and over labels. Surface distances are those of DeepMind's surface-distance; assd_mm is
 * the mean over both surfaces. notes tell of labels that one map lacks or that nobody scores.
 * On failure *out is NULL. */
FLARE_API flare_status flare_evaluate(char **out, const flare_volume *prediction,
                                      const flare_volume *reference,
                                      const flare_evaluate_options *options);

/* The same of two image files, or of every file in a folder of references and the file of the
 * same name in a folder of predictions. Where cases of a folder fail (the prediction is missing
 * or on another grid, a file is damaged), the others are scored all the same: the status is
 * that of the first failure, *out is given (also where no case is left), and its "failed" tells
 * each case and why. */
FLARE_API flare_status flare_evaluate_file(char **out, const char *prediction,
                                           const char *reference,
                                           const flare_evaluate_options *options);

typedef struct flare_efficiency_options {
    size_t            struct_size;   /* sizeof(flare_efficiency_options)                   */
    flare_progress_fn progress;      /* or NULL; told of every sample, fraction 0, phase
                                      * "measure"; what cancels interrupts the command     */
    void             *progress_user;
    int32_t           gpu;           /* index of the GPU to watch, with nvidia-smi         */
    int32_t           reserved;      /* 0                                                  */
} flare_efficiency_options;

#define FLARE_EFFICIENCY_OPTIONS_INIT { sizeof(flare_efficiency_options), 0, 0, 0, 0 }
FLARE_API void flare_efficiency_options_init(flare_efficiency_options *options, size_t struct_size);

/* Runs a program, command[0] of PATH with its arguments, count in all, as a child that has this
 * process's standard input, output and error, and measures by the rules of the FLARE challenges
 * what the whole machine does meanwhile, with a sample every 0.1 s. Gives JSON (caller frees):
 *   {"seconds": d, "cpu_seconds": d, "peak_memory_bytes": n, "max_cpu_percent": d,
 *    "auc_cpu_percent_s": d, "max_ram_mb": d, "auc_ram_mb_s": d, "max_gpu_mb": d,
 *    "max_gpu_mb_flare22": d, "auc_gpu_mb_s": d, "auc_gpu_mb_s_over_2048": d,
 *    "samples": {"cpu_percent": [...], "ram_mb": [...], "gpu_mb": [...]}}
 * auc is the area under the curve; null stands for GPU numbers where there is no nvidia-smi. A
 * command that fails is FLARE_ERR_INTERNAL, and *out is given all the same. Linux only. */
FLARE_API flare_status flare_efficiency(char **out, const char *const *command, size_t count,
                                        const flare_efficiency_options *options);

/* -------------------------------------------------------------- converting ------- */

typedef struct flare_convert_options {
    size_t      struct_size;   /* sizeof(flare_convert_options)                            */
    const char *folder;        /* an nnU-Net v2 results folder, or NULL and: ...           */
    const char *onnx;          /* ... an exported network: input 1 x channels x patch,
                                * output 1 x heads x patch, and ...                        */
    const char *plans;         /* ... its plans.json                                       */
    const char *dataset;       /* ... its dataset.json; NULL: labels are numbered          */
    const char *configuration; /* of the plans, such as "3d_fullres"; needed with onnx     */
    const char *orientation;   /* such as "LPS": the network expects volumes so oriented;
                                * NULL: as stored                                          */
    const char *folds;         /* with folder: "all" (default) or a list such as "0,1"     */
    const char *checkpoint;    /* with folder: default "checkpoint_final.pth"              */
} flare_convert_options;

#define FLARE_CONVERT_OPTIONS_INIT { sizeof(flare_convert_options), 0, 0, 0, 0, 0, 0, 0, 0 }
FLARE_API void flare_convert_options_init(flare_convert_options *options, size_t struct_size);

/* Writes a bundle: a plain .onnx file (any ONNX viewer or runtime opens it) whose metadata
 * holds all that segmenting needs. Written to a temporary file and renamed. options: not
 * NULL, with either folder or onnx. Where onnx is a bundle itself, what the options leave NULL
 * (labels, orientation) and what they cannot say (folds, mirror axes, post-processing) stays as
 * it is there. An out_path that is one of the files named, or that is a file in the folder, is
 * refused with FLARE_ERR_ARGUMENT. */
FLARE_API flare_status flare_convert(const char *out_path, const flare_convert_options *options);

/* ---------------------------------------------------------------- training ------- */

/* A network in training: its parameters, their gradients and an optimizer. A checked number
 * as flare_model is. Calls on one trainer wait for each other in turn. */
typedef struct flare_trainer flare_trainer;

/* A number that is 0 means the default. A negative momentum, weight_decay or foreground means
 * none, a negative clip no bound. */
typedef struct flare_trainer_options {
    size_t      struct_size;   /* sizeof(flare_trainer_options)                            */
    const char *model;         /* fine-tuning: a bundle or results folder, whose network and
                                * weights training begins with; or NULL and, for a new network
                                * whose weights are a function of seed: ...                */
    const char *plans;         /* ... plans.json, NULL: that of cache                      */
    const char *dataset;       /* ... dataset.json, NULL: that of cache                    */
    const char *configuration; /* ... of the plans; NULL: that of cache, "3d_fullres"      */
    const char *cache;         /* NULL, or a folder of preprocessed cases (flare preprocess)
                                * to draw batches from; flare_trainer_add_case adds others */
    const char *fold;          /* of nnU-Net's splits of the cache: "0" to "4", "all" (default) */
    const char *device;        /* as in flare_open_options; so are runtime and threads     */
    const char *runtime;
    const char *mode;          /* "exact" (default): fp32; "fast": bf16 where the processor
                                * computes with it, TF32 on an NVIDIA GPU                  */
    const char *optimizer;     /* "sgd" (default, with Nesterov's momentum), "adamw"       */
    int32_t     threads;
    int32_t     workers;       /* threads that prepare batches; 0: as many as threads      */
    int32_t     batch;         /* samples of a batch; 0: the plans'                        */
    int32_t     patch[3];      /* voxels along x, y, z of the network's axes (z is 0 for 2-D
                                * networks); all 0: the plans'. Inference keeps the plans' */
    int32_t     epochs;        /* of flare_trainer_run and its learning rates; 0: 1000     */
    int32_t     iterations;    /* steps of an epoch; 0: 250                                */
    int32_t     validation_iterations; /* batches that judge an epoch; 0: 50               */
    int32_t     strong;        /* non-zero: strong augmentation                            */
    int32_t     no_mirroring;  /* non-zero: neither in training nor in inference           */
    int32_t     soft;          /* non-zero: batches bring probabilities instead of labels  */
    int32_t     weighted;      /* non-zero: batches bring a weight for each voxel; those
                                * drawn from a cache the cases' (1 where they have none)   */
    int32_t     reserved;      /* 0                                                        */
    uint64_t    seed;          /* the same seed gives the same numbers                     */
    double      learning_rate; /* 0: 0.01                                                  */
    double      momentum;      /* of sgd; 0: 0.99                                          */
    double      weight_decay;  /* 0: 3e-5                                                  */
    double      clip;          /* bound on the norm of the gradients; 0: 12                */
    double      foreground;    /* share of a batch's samples that hold foreground for certain;
                                * 0: 0.33                                                  */
    double      dropout;           /* probability that a channel is dropped, less than 1   */
    double      stochastic_depth;  /* probability that a residual block is skipped, likewise;
                                    * of a network without such, 0 (FLARE_ERR_ARGUMENT)     */
} flare_trainer_options;

#define FLARE_TRAINER_OPTIONS_INIT { sizeof(flare_trainer_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
                                     0, {0, 0, 0}, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
FLARE_API void flare_trainer_options_init(flare_trainer_options *options, size_t struct_size);

/* Opens a trainer. Needs a model, or plans and dataset, or a cache. On failure *out is NULL. */
FLARE_API flare_status flare_trainer_open(flare_trainer **out, const flare_trainer_options *options);

/* Describes a trainer as JSON (caller frees); it does not change, and the call does not wait
 * for others:
 *   {"configuration": "3d_fullres", "fold": "0", "network": "PlainConvUNet", "batch": 2,
 *    "channels": 1, "patch_size": [z, y, x], "heads": 3,
 *    "labels": [{"name": "background", "values": [0]}, ...], "ignore_label": -1,
 *    "device": "openvino", "precision": "fp32", "notes": [], "settings": {...},
 *    "numbers": n, "parameters": [{"name": "...", "shape": [...], "offset": n}, ...]}
 * numbers is the length of the buffers of flare_trainer_parameters and _gradients; offset
 * counts the floats before a parameter in both. Names are those of nnU-Net's checkpoints. */
FLARE_API flare_status flare_trainer_describe(char **out, flare_trainer *trainer);

/* Adds a case to those that batches are drawn from: an image and its labels on one grid, which
 * are preprocessed here as nnU-Net does. Both are only read during the call. name: one that was
 * added before is replaced. Labels that dataset.json lacks, grids that differ and voxels that
 * are not finite are refused with FLARE_ERR_MODEL. */
FLARE_API flare_status flare_trainer_add_case(flare_trainer *trainer, const char *name,
                                              const flare_volume *image,
                                              const flare_volume *labels);

/* A batch, the caller's, only read during the call: preprocessed patches, one sample after the
 * other. Its axes are the network's, x fastest. */
typedef struct flare_batch {
    size_t       struct_size;   /* sizeof(flare_batch)                                     */
    const void  *images;        /* batch x channels x size[2] x size[1] x size[0]          */
    const void  *labels;        /* batch x size[2] x size[1] x size[0] labels of dataset.json;
                                 * NULL with soft                                          */
    const float *soft;          /* with the option soft: batch x heads x size[2] x size[1] x
                                 * size[0] probabilities; else NULL                        */
    const float *weights;       /* with the option weighted: batch x size[2] x size[1] x size[0],
                                 * or NULL: all 1                                          */
    int32_t      images_dtype;  /* FLARE_FLOAT32                                           */
    int32_t      labels_dtype;  /* FLARE_UINT8, FLARE_INT16, FLARE_UINT16, FLARE_INT32 or
                                 * FLARE_FLOAT32                                           */
    int32_t      batch;         /* samples, channels and voxels along x, y, z must be those
                                 * of the trainer; they are here to be compared            */
    int32_t      channels;
    int64_t      size[3];       /* of 2-D networks size[2] is 1                            */
} flare_batch;

#define FLARE_BATCH_INIT { sizeof(flare_batch), 0, 0, 0, 0, 0, 0, 0, 0, {0, 0, 0} }
FLARE_API void flare_batch_init(flare_batch *batch, size_t struct_size);

/* What a call tells of its batch. */
typedef struct flare_trainer_result {
    size_t  struct_size;   /* sizeof(flare_trainer_result)                                 */
    double  loss;          /* cross_entropy + dice                                         */
    double  cross_entropy;
    double  dice;          /* the negative of a mean of soft Dice coefficients             */
    double *counts;        /* set by the caller: NULL, or a buffer of 3 x heads numbers to fill
                            * with the voxels that were decided rightly for, wrongly for and
                            * wrongly against each head, at full resolution                */
    size_t  counts_count;  /* numbers in that buffer, at least as many                     */
} flare_trainer_result;

#define FLARE_TRAINER_RESULT_INIT { sizeof(flare_trainer_result), 0, 0, 0, 0, 0 }
FLARE_API void flare_trainer_result_init(flare_trainer_result *result, size_t struct_size);

/* One step: backward, clip, apply. batch NULL: the next of the trainer's cases, drawn and
 * augmented as nnU-Net does, on other threads meanwhile. result: filled, or NULL. A loss or
 * gradients that are not finite give FLARE_ERR_MODEL. After a failure the parameters are what
 * they were. */
FLARE_API flare_status flare_trainer_step(flare_trainer_result *result, flare_trainer *trainer,
                                          const flare_batch *batch);

/* The first half of a step: fills the gradients of the batch's loss, or with accumulate
 * (non-zero) adds to what is there. Several processes average what they have before
 * flare_trainer_apply: so they train as one (but where the plans say batch_dice, Dice is that of
 * each process's batch). After a failure the gradients are undefined. */
FLARE_API flare_status flare_trainer_backward(flare_trainer_result *result,
                                              flare_trainer *trainer, const flare_batch *batch,
                                              int32_t accumulate);

/* The second half: clips the gradients and applies them. They are undefined afterwards. */
FLARE_API flare_status flare_trainer_apply(flare_trainer *trainer);

/* The loss of a batch without dropout, gradients and step. batch NULL: the batch that the last
 * call had. */
FLARE_API flare_status flare_trainer_evaluate(flare_trainer_result *result,
                                              flare_trainer *trainer, const flare_batch *batch);

/* The parameters, and their gradients, in one buffer each of the same layout (see
 * flare_trainer_describe): *count floats at *out, aligned to 64 bytes; what lies between two
 * parameters is 0 and must stay so. The buffers stay where they are until flare_trainer_free.
 * They may be read and written while no other call on the trainer runs. */
FLARE_API flare_status flare_trainer_parameters(float **out, size_t *count,
                                                flare_trainer *trainer);
FLARE_API flare_status flare_trainer_gradients(float **out, size_t *count,
                                               flare_trainer *trainer);

/* The learning rate of flare_trainer_step and _apply; first that of the options. Checkpoints
 * do not hold it. */
FLARE_API flare_status flare_trainer_set_learning_rate(flare_trainer *trainer, double rate);
FLARE_API flare_status flare_trainer_get_learning_rate(double *out, flare_trainer *trainer);

/* Writes, whole or not at all, and reads a checkpoint: parameters, the optimizer's state, the
 * number of steps. A trainer of the same options goes on from it with the same bits. Another
 * trainer's is refused with FLARE_ERR_MODEL, a damaged one with FLARE_ERR_FORMAT; after these
 * the parameters are undefined. */
FLARE_API flare_status flare_trainer_save(flare_trainer *trainer, const char *path);
FLARE_API flare_status flare_trainer_load(flare_trainer *trainer, const char *path);

/* Writes the network as it is: to a path that ends in .onnx a bundle for flare_model_open, else
 * a results folder of nnU-Net, made if need be, with which nnU-Net predicts. */
FLARE_API flare_status flare_trainer_export(flare_trainer *trainer, const char *path);

/* How far flare_trainer_run is; the library's, valid during the callback. Numbers that are not
 * known yet are NaN. */
typedef struct flare_trainer_progress {
    size_t      struct_size;   /* of the library's struct: newer ones are longer           */
    const char *phase;         /* "train", "validate" (an epoch's pseudo Dice); static     */
    int32_t     epoch;         /* from 0                                                   */
    int32_t     epochs;
    int32_t     done;          /* batches of the phase and epoch                           */
    int32_t     total;
    double      loss;          /* mean of the epoch so far                                 */
    double      learning_rate;
    double      dice;          /* pseudo Dice of the last epoch                            */
    double      ema;           /* its moving average                                       */
    double      step_seconds;  /* of a step, mean of the epoch so far                      */
    double      seconds_left;  /* about                                                    */
    double      waited;        /* part of the epoch's time that was spent waiting for data */
} flare_trainer_progress;

/* As flare_progress_fn; it may call flare_trainer_cancel only. */
typedef int32_t (*flare_trainer_progress_fn)(const flare_trainer_progress *progress, void *user);

typedef struct flare_trainer_run_options {
    size_t                    struct_size;   /* sizeof(flare_trainer_run_options)          */
    flare_trainer_progress_fn progress;      /* or NULL                                    */
    void                     *progress_user;
    const char               *folder;        /* NULL: nothing is written; or a folder, made if
                                              * need be, for checkpoints after each epoch,
                                              * progress.csv, progress.png, TensorBoard events
                                              * and in the end model.onnx, a bundle        */
} flare_trainer_run_options;

#define FLARE_TRAINER_RUN_OPTIONS_INIT { sizeof(flare_trainer_run_options), 0, 0, 0 }
FLARE_API void flare_trainer_run_options_init(flare_trainer_run_options *options,
                                              size_t struct_size);

/* Trains on the trainer's cases from the step where it is to the last epoch, with nnU-Net's
 * learning rates from that of the options down to 0. Cancelled, it can be called again and goes
 * on. A loss that is not finite gives FLARE_ERR_MODEL, with the step and its cases; the
 * parameters are those before it. */
FLARE_API flare_status flare_trainer_run(flare_trainer *trainer,
                                         const flare_trainer_run_options *options);

/* Cancels the calls that are running or waiting on the trainer; they return
 * FLARE_ERR_CANCELLED within the time of one step. Returns at once, from any thread. */
FLARE_API flare_status flare_trainer_cancel(flare_trainer *trainer);

/* Closes a trainer; otherwise as flare_model_free. */
FLARE_API void flare_trainer_free(flare_trainer *trainer);

/* ---------------------------------------------------------- the noisy student ----- */

typedef struct flare_pseudo_label_options {
    size_t             struct_size;   /* sizeof(flare_pseudo_label_options)                */
    const char *const *models;        /* the teacher: bundles and results folders of the same
                                       * plans, whose folds are averaged                   */
    size_t             models_count;
    const char        *previous_path; /* NULL, or a folder of an earlier round to compare with */
    double             ignore_below;  /* voxels on which a smaller share of the folds agrees
                                       * get the dataset's ignore label; 0: none           */
    double             soft_below;    /* probabilities are kept (CASE.npz) of voxels whose
                                       * largest is smaller; 0: none                       */
    int32_t            no_mirror;     /* non-zero: without the teacher's mirror flips      */
    int32_t            shard;         /* 0, or with shards: do part shard, from 1 on, ...  */
    int32_t            shards;        /* ... of so many                                    */
    int32_t            threads;       /* these five as in flare_open_options               */
    const char        *device;
    const char        *mode;
    const char        *cache_dir;
    const char        *runtime;
    flare_progress_fn  progress;      /* or NULL; phase "label"                            */
    void              *progress_user;
    int32_t            weights;       /* non-zero: also weights/CASE.nii.gz, how much each voxel
                                       * counts in training: 255 times the share of the folds,
                                       * and of the earlier round as one more, that agree  */
    int32_t            reserved;      /* 0                                                 */
} flare_pseudo_label_options;

#define FLARE_PSEUDO_LABEL_OPTIONS_INIT \
    { sizeof(flare_pseudo_label_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
FLARE_API void flare_pseudo_label_options_init(flare_pseudo_label_options *options,
                                               size_t struct_size);

/* Labels every image of the folder images with a teacher that is opened once, and writes to
 * out_path, a folder made if need be, CASE.nii.gz (or .nii, as the image) and CASE.json of each:
 * how far the teacher's folds agree, and with the earlier round. CASE.json comes last; a case
 * that has it is finished, and is not done again with the same teacher, image and options. Gives
 * JSON (caller frees): {"scores": [what CASE.json holds, ...], "skipped": [{"case": "",
 * "reason": "", "kind": n}, ...]}. Where cases cannot be read the others are labelled all the
 * same: the status is that of the first, and *out is given. A disk that is full ends the call
 * with FLARE_ERR_IO and leaves nothing of the case under way. */
FLARE_API flare_status flare_pseudo_label(char **out, const char *images, const char *out_path,
                                          const flare_pseudo_label_options *options);

/* The same for programs that choose the cases and their order, such as workers of a cluster: a
 * teacher at work on a folder, opened once, with the first case that is not finished. A checked
 * number as flare_model is. Calls on one labeller wait for each other in turn. */
typedef struct flare_labeller flare_labeller;

/* Arguments as flare_pseudo_label's, but options without progress (FLARE_ERR_ARGUMENT). Lists
 * the cases and joins the teacher's folds. On failure *out is NULL. */
FLARE_API flare_status flare_labeller_open(flare_labeller **out, const char *images,
                                           const char *out_path,
                                           const flare_pseudo_label_options *options);

/* Gives the names of the cases (of the shard) as JSON (caller frees): ["CASE", ...]; the call
 * does not wait for others. */
FLARE_API flare_status flare_labeller_cases(char **out, flare_labeller *labeller);

/* Labels a case, unless it is finished, and gives what flare_pseudo_label gives of all. Where
 * the case cannot be read the status says why and *out is given; after any other failure it is
 * NULL. A name that is not among the cases is FLARE_ERR_NOT_FOUND. */
FLARE_API flare_status flare_labeller_label(char **out, flare_labeller *labeller,
                                            const char *name);

/* Cancels the calls that are running or waiting on the labeller; they return
 * FLARE_ERR_CANCELLED within the time of one network tile. Returns at once, from any thread. */
FLARE_API flare_status flare_labeller_cancel(flare_labeller *labeller);

/* Closes a labeller; otherwise as flare_model_free. */
FLARE_API void flare_labeller_free(flare_labeller *labeller);

typedef struct flare_student_options {
    size_t            struct_size; /* sizeof(flare_student_options)                        */
    const char       *runtime;     /* as in flare_open_options                             */
    flare_progress_fn progress;    /* or NULL; the phase is the stage that runs, its fraction
                                    * that of the stage                                    */
    void             *progress_user;
} flare_student_options;

#define FLARE_STUDENT_OPTIONS_INIT { sizeof(flare_student_options), 0, 0, 0 }
FLARE_API void flare_student_options_init(flare_student_options *options, size_t struct_size);

/* Makes a noisy student as the file config_path says (`flare student --help` describes it): a
 * teacher, pseudo-labels, their selection, the student, its comparison, all in the run's
 * folder. Interrupted or cancelled, it is called again and goes on; after a change of the config
 * it does again what depends on it. Gives RESULTS.json (caller frees). Where unlabelled cases
 * cannot be read the status is that of the first, and *out is given. */
FLARE_API flare_status flare_student(char **out, const char *config_path,
                                     const flare_student_options *options);

#ifdef __cplusplus
}
#endif
#endif /* FLARE_H */
