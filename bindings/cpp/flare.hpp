// flare.hpp - C++17 over flare.h: nnU-Net inside your program. Header only.
//
// Research software, not a medical device.
//
//     flare::Model model("abdomen.onnx");
//     flare::VolumeView ct(voxels, {512, 512, 168}, {0.7, 0.7, 2.0}); // const int16_t *voxels
//     std::vector<std::uint8_t> labels = model.segment(ct);           // same grid as ct
//
// Voxels     x varies fastest, then y, z, channel. Sizes, spacings (mm) and directions are in
//            the order x, y, z, origins in mm in the LPS system, as in ITK and DICOM.
// Ownership  A VolumeView and the _into functions borrow the caller's memory for the call; all
//            that a function returns belongs to the caller.
// Errors     Every function throws flare::Error, with flare_status as status().
// Threads    Every function may be called from any thread. Calls on one model or trainer wait
//            for each other in turn; different ones run side by side.
// Text       Strings are UTF-8. Descriptions (devices, models, statistics) are JSON, as flare.h
//            specifies them.
//
// Beside it: flare_image.hpp has image files in memory, flare_trainer.hpp training,
// flare_student.hpp the noisy student.
//
// All C++ is in these files, compiled by you, so the library's ABI stays that of flare.h.
#ifndef FLARE_HPP
#define FLARE_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "flare.h"

namespace flare {

// ------------------------------------------------------------------ errors -----------

// A failure: what() says what was found, where, and what was expected.
class Error : public std::runtime_error {
public:
    Error(flare_status status, const std::string &message)
        : std::runtime_error(message), status_(status) {}

    // FLARE_ERR_...; flare_status_name() gives it as text.
    flare_status status() const noexcept { return status_; }

private:
    flare_status status_;
};

namespace detail {

// Throws the last error of this thread if status is one.
inline void check(flare_status status) {
    if (status != FLARE_OK) throw Error(status, flare_last_error());
}

// Refuses a library that this header does not fit.
inline void check_library() {
    if (flare_api_version() != FLARE_API_VERSION)
        throw Error(FLARE_ERR_VERSION, "compiled with flare.h of interface version " +
                                           std::to_string(FLARE_API_VERSION) + ", but libflare " +
                                           flare_version() + " has version " +
                                           std::to_string(flare_api_version()));
}

// Takes over a text that the library allocated.
inline std::string take(char *text) {
    struct Free {
        char *text;
        ~Free() { flare_free(text); }
    } owner{text};
    return text != nullptr ? std::string(text) : std::string();
}

// C's way to say "default" is NULL.
inline const char *or_null(const std::string &s) { return s.empty() ? nullptr : s.c_str(); }

} // namespace detail

// ------------------------------------------------------- version, devices, log -------

// Version of the loaded library, such as "0.1.0".
inline std::string version() { return flare_version(); }

// The devices of this machine as JSON. runtime: ONNX Runtime library or its folder; "": search.
inline std::string devices(const std::string &runtime = "") {
    detail::check_library();
    char *json = nullptr;
    detail::check(flare_devices(&json, detail::or_null(runtime)));
    return detail::take(json);
}

// ----------------------------------------------------------------- volumes -----------

// The voxel types; DTypeOf<T> is that of a C++ type.
template <class T> struct DTypeOf; // another type than these is not supported
template <> struct DTypeOf<std::uint8_t> : std::integral_constant<std::int32_t, FLARE_UINT8> {};
template <> struct DTypeOf<std::int16_t> : std::integral_constant<std::int32_t, FLARE_INT16> {};
template <> struct DTypeOf<std::uint16_t> : std::integral_constant<std::int32_t, FLARE_UINT16> {};
template <> struct DTypeOf<std::int32_t> : std::integral_constant<std::int32_t, FLARE_INT32> {};
template <> struct DTypeOf<float> : std::integral_constant<std::int32_t, FLARE_FLOAT32> {};
template <> struct DTypeOf<double> : std::integral_constant<std::int32_t, FLARE_FLOAT64> {};

// Somebody else's voxels with their place in space.
struct VolumeView {
    const void *data;                    // channels x size[2] x size[1] x size[0] voxels
    std::int32_t dtype;                  // FLARE_UINT8 ... FLARE_FLOAT64
    std::array<std::int64_t, 3> size;    // voxels along x, y, z
    std::array<double, 3> spacing;       // mm along x, y, z
    std::array<double, 3> origin{};      // mm, LPS: centre of voxel (0,0,0)
    std::array<double, 9> direction{1, 0, 0, 0, 1, 0, 0, 0, 1}; // row-major; column i: axis i
    std::int32_t channels = 1;

    template <class T>
    VolumeView(const T *voxels_xyz, std::array<std::int64_t, 3> size_xyz,
               std::array<double, 3> spacing_xyz)
        : data(voxels_xyz), dtype(DTypeOf<T>::value), size(size_xyz), spacing(spacing_xyz) {}

    // Voxels of one channel; throws where the size is impossible.
    std::size_t voxels() const {
        std::size_t n = 1;
        for (std::int64_t s : size) {
            if (s < 1 || static_cast<std::uint64_t>(s) > (std::uint64_t{1} << 40) / n)
                throw Error(FLARE_ERR_ARGUMENT,
                            "a volume of " + std::to_string(size[0]) + " x " +
                                std::to_string(size[1]) + " x " + std::to_string(size[2]) +
                                " voxels: must be 1 to 2^40");
            n *= static_cast<std::size_t>(s);
        }
        return n;
    }
};

namespace detail {

inline flare_volume c_volume(const VolumeView &image) {
    flare_volume v = FLARE_VOLUME_INIT;
    v.data = image.data;
    v.dtype = image.dtype;
    v.channels = image.channels;
    for (std::size_t i = 0; i < 3; i++) {
        v.size[i] = image.size[i];
        v.spacing[i] = image.spacing[i];
        v.origin[i] = image.origin[i];
    }
    for (std::size_t i = 0; i < 9; i++) v.direction[i] = image.direction[i];
    return v;
}

} // namespace detail

// ------------------------------------------------------------------ models -----------

// How a model runs. Empty and 0 mean the default; flare_open_options explains each.
struct OpenOptions {
    std::string device;     // "auto", "cpu", "openvino", "ort", "cuda"
    std::string folds;      // "all" or a list such as "0,1"
    std::string checkpoint; // file in each fold_* folder
    std::string runtime;    // ONNX Runtime library or its folder
    std::int32_t threads = 0;
    std::string mode;       // "exact" or "fast"
    std::string cache_dir;  // folder that keeps prepared networks
    std::string read_ahead; // file of the first segment_file call, read while the model opens
    std::int64_t gpu_memory_limit = 0; // bytes that "cuda" may take on the GPU; others ignore it
};

// Progress of a call: fraction 0..1 and phase ("read", "preprocess", "network", "export",
// "write"). Comes on the thread that made the call, at most 20 times a second.
// Return true to go on, false to cancel. An exception cancels too, and comes out of the call.
// Of the library it may call Model::cancel() only.
using Progress = std::function<bool(double fraction, const char *phase)>;

namespace detail {

// The progress function of one call, and the exception that it threw: none may pass through
// the library.
struct Watched {
    const Progress &progress;
    std::exception_ptr thrown;

    explicit Watched(const Progress &p) : progress(p) {}
    Watched(const Watched &) = delete;
    Watched &operator=(const Watched &) = delete;

    // For flare.h, with this as user.
    flare_progress_fn function() const { return progress ? &Watched::on_progress : nullptr; }

    void finish(flare_status status) const {
        if (thrown) std::rethrow_exception(thrown);
        check(status);
    }

private:
    static std::int32_t on_progress(double fraction, const char *phase, void *user) noexcept {
        Watched *call = static_cast<Watched *>(user);
        try {
            return call->progress(fraction, phase) ? 0 : 1;
        } catch (...) {
            call->thrown = std::current_exception();
            return 1;
        }
    }
};

} // namespace detail

// The labels of a cascade's first stage, which its second takes: one channel on the image's
// grid, somebody else's memory. Empty: none.
struct PreviousLabels {
    const void *data = nullptr;
    std::size_t bytes = 0;
    std::int32_t dtype = 0;

    PreviousLabels() = default;
    template <class T>
    PreviousLabels(const T *labels, std::size_t count)
        : data(labels), bytes(count * sizeof(T)), dtype(DTypeOf<T>::value) {
        if (count > std::numeric_limits<std::size_t>::max() / sizeof(T))
            throw Error(FLARE_ERR_ARGUMENT, "count is larger than any buffer");
    }
    template <class T>
    PreviousLabels(const std::vector<T> &labels) : PreviousLabels(labels.data(), labels.size()) {}
    template <class T> PreviousLabels(std::vector<T> &&) = delete; // would be gone by the call
};

// What a call computes, and of what besides the image.
struct SegmentOptions {
    Progress progress;              // or none
    bool mirror = false;            // average over the model's mirror flips
    bool postprocess = false;       // apply the post-processing that the model stores
    float *probabilities = nullptr; // in memory: none, or heads x z x y x x floats to fill
    std::size_t probabilities_count = 0; // floats in that buffer
    std::string probabilities_path; // file to file: none, or an image file to write
    PreviousLabels previous;        // in memory, second stage of a cascade: the first's labels
    std::string previous_path;      // file to file: the same as a file
    std::vector<std::int64_t> box;  // none, or x0, y0, z0, x1, y1, z1: voxels, half-open
    std::vector<std::int32_t> roi;  // none, or the label values that are wanted
    std::int64_t max_memory_bytes = 0; // 0, or a bound on the process's memory, kept by strips
                                       // that cost time; FLARE_ERR_MEMORY where they cannot
    std::string report_path;           // file to file: none, or an .html file to write
};

// An open model. Movable, not copyable; a moved-from model is empty, and its functions throw
// FLARE_ERR_HANDLE.
class Model {
public:
    // Opens a bundle (.onnx), an nnU-Net v2 results folder, or a list of these (.json).
    explicit Model(const std::string &path, const OpenOptions &options = {}) {
        detail::check_library();
        flare_open_options o = FLARE_OPEN_OPTIONS_INIT;
        o.device = detail::or_null(options.device);
        o.folds = detail::or_null(options.folds);
        o.checkpoint = detail::or_null(options.checkpoint);
        o.runtime = detail::or_null(options.runtime);
        o.threads = options.threads;
        o.mode = detail::or_null(options.mode);
        o.cache_dir = detail::or_null(options.cache_dir);
        o.read_ahead = detail::or_null(options.read_ahead);
        o.gpu_memory_limit = options.gpu_memory_limit;
        detail::check(flare_model_open(&handle_, path.c_str(), &o));
    }

    // Cancels a running call, waits for it and closes the model.
    ~Model() { flare_model_free(handle_); }

    Model(Model &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Model &operator=(Model &&other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    Model(const Model &) = delete;
    Model &operator=(const Model &) = delete;

    static Model open(const std::string &path, const OpenOptions &options = {}) {
        return Model(path, options);
    }

    // The labels of a volume on its grid: size[2] x size[1] x size[0]. Label is std::uint8_t or,
    // for models with labels above 255, std::uint16_t.
    template <class Label = std::uint8_t>
    std::vector<Label> segment(const VolumeView &image, const SegmentOptions &options = {}) const {
        std::vector<Label> labels(image.voxels());
        segment_into(labels.data(), labels.size(), image, options);
        return labels;
    }

    // The same into the caller's buffer of count labels, which is checked. After an error its
    // content is undefined.
    template <class Label>
    void segment_into(Label *labels, std::size_t count, const VolumeView &image,
                      const SegmentOptions &options = {}) const {
        static_assert(std::is_same_v<Label, std::uint8_t> || std::is_same_v<Label, std::uint16_t>,
                      "labels are std::uint8_t or std::uint16_t");
        const flare_volume v = detail::c_volume(image);
        if (count > std::numeric_limits<std::size_t>::max() / sizeof(Label))
            throw Error(FLARE_ERR_ARGUMENT, "count is larger than any buffer");
        Call call(options);
        call.finish(flare_segment(labels, DTypeOf<Label>::value, count * sizeof(Label), handle_, &v,
                                  &call.options));
    }

    // Segments an image file into another, which is written whole or not at all.
    void segment_file(const std::string &in_path, const std::string &out_path,
                      const SegmentOptions &options = {}) const {
        Call call(options);
        call.finish(flare_segment_file(handle_, in_path.c_str(), out_path.c_str(), &call.options));
    }

    // Cancels the calls that run or wait on the model; they throw FLARE_ERR_CANCELLED. From any
    // thread; returns at once.
    void cancel() const { detail::check(flare_cancel(handle_)); }

    // What the model is, as JSON.
    std::string describe() const {
        char *json = nullptr;
        detail::check(flare_model_describe(&json, handle_));
        return detail::take(json);
    }

    // What the last call cost and found, as JSON.
    std::string stats() const {
        char *json = nullptr;
        detail::check(flare_model_stats(&json, handle_));
        return detail::take(json);
    }

    // For functions of flare.h; stays the Model's.
    flare_model *handle() const noexcept { return handle_; }

private:
    // The C options of one call.
    struct Call : detail::Watched {
        flare_segment_options options = FLARE_SEGMENT_OPTIONS_INIT;

        explicit Call(const SegmentOptions &o) : Watched(o.progress) {
            options.progress = function();
            options.progress_user = static_cast<Watched *>(this);
            options.mirror = o.mirror;
            options.probabilities = o.probabilities;
            options.probabilities_count = o.probabilities_count;
            options.probabilities_path = detail::or_null(o.probabilities_path);
            options.postprocess = o.postprocess;
            options.previous = o.previous.data;
            options.previous_bytes = o.previous.bytes;
            options.previous_dtype = o.previous.dtype;
            options.previous_path = detail::or_null(o.previous_path);
            if (!o.box.empty() && o.box.size() != 6)
                throw Error(FLARE_ERR_ARGUMENT, "box has " + std::to_string(o.box.size()) +
                                                    " numbers, expected x0, y0, z0, x1, y1, z1");
            options.box = o.box.empty() ? nullptr : o.box.data();
            options.roi = o.roi.empty() ? nullptr : o.roi.data();
            options.roi_count = o.roi.size();
            options.max_memory_bytes = o.max_memory_bytes;
            options.report_path = detail::or_null(o.report_path);
        }
    };

    flare_model *handle_ = nullptr;
};

// -------------------------------------------------------------- evaluating -----------

// The failure of some cases of a folder, while the others were worked on all the same: status() is
// that of the first, report() what the call would have returned.
class CasesSkipped : public Error {
public:
    CasesSkipped(flare_status status, const std::string &message, std::string report)
        : Error(status, message), report_(std::move(report)) {}

    const std::string &report() const noexcept { return report_; }

private:
    std::string report_;
};

namespace detail {

// Returns a report, or throws; where there is one all the same, CasesSkipped.
inline std::string reported(flare_status status, char *json, const Watched *call = nullptr) {
    const bool skipped = status != FLARE_OK && json != nullptr;
    const std::string message = skipped ? flare_last_error() : "";
    std::string report = take(json);
    if (call != nullptr && call->thrown) std::rethrow_exception(call->thrown);
    if (skipped) throw CasesSkipped(status, message, std::move(report));
    check(status);
    return report;
}

} // namespace detail

// How label maps are scored. Empty and 0 mean the default; flare_evaluate_options explains each.
struct EvaluateOptions {
    std::string rules;       // "plain", "flare21", "flare22", "flare23"
    std::string labels_path; // plain: a dataset.json
    double tolerance_mm = 0; // plain
    bool resample = false;
    std::int32_t threads = 0;
    std::string csv_path, html_path; // files to write
    Progress progress;               // of evaluate_file, between cases

    // The struct of flare.h, which looks at this one's strings.
    flare_evaluate_options c() const {
        flare_evaluate_options o = FLARE_EVALUATE_OPTIONS_INIT;
        o.rules = detail::or_null(rules);
        o.labels_path = detail::or_null(labels_path);
        o.tolerance_mm = tolerance_mm;
        o.resample = resample;
        o.threads = threads;
        o.csv_path = detail::or_null(csv_path);
        o.html_path = detail::or_null(html_path);
        return o;
    }
};

// The scores of a label map against its reference, as JSON.
inline std::string evaluate(const VolumeView &prediction, const VolumeView &reference,
                            const EvaluateOptions &options = {}) {
    detail::check_library();
    const flare_volume p = detail::c_volume(prediction), r = detail::c_volume(reference);
    const flare_evaluate_options o = options.c();
    char *json = nullptr;
    detail::check(flare_evaluate(&json, &p, &r, &o));
    return detail::take(json);
}

// The same of two files or folders. Throws CasesSkipped where cases of a folder fail; the others
// are scored.
inline std::string evaluate_file(const std::string &prediction, const std::string &reference,
                                 const EvaluateOptions &options = {}) {
    detail::check_library();
    detail::Watched call(options.progress);
    flare_evaluate_options o = options.c();
    o.progress = call.function();
    o.progress_user = &call;
    char *json = nullptr;
    const flare_status status = flare_evaluate_file(&json, prediction.c_str(), reference.c_str(), &o);
    return detail::reported(status, json, &call);
}

// What the whole machine does while a command runs, a program with its arguments, by the rules of the
// FLARE challenges, as JSON. gpu: the index of that to watch. Throws where the command fails;
// flare_efficiency gives what was measured then.
inline std::string efficiency(const std::vector<std::string> &command, std::int32_t gpu = 0) {
    detail::check_library();
    std::vector<const char *> words{nullptr}; // none is no NULL array
    for (const std::string &word : command) words.insert(words.end() - 1, word.c_str());
    flare_efficiency_options o = FLARE_EFFICIENCY_OPTIONS_INIT;
    o.gpu = gpu;
    char *json = nullptr;
    const flare_status status = flare_efficiency(&json, words.data(), command.size(), &o);
    std::string measured = detail::take(json);
    detail::check(status);
    return measured;
}

// -------------------------------------------------------------- converting -----------

// The source of a bundle: folder, or onnx with plans and configuration. "" means not given;
// flare_convert_options explains each.
struct ConvertOptions {
    std::string folder;
    std::string onnx, plans, dataset, configuration;
    std::string orientation;
    std::string folds, checkpoint;
};

// Writes a bundle, whole or not at all.
inline void convert(const std::string &out_path, const ConvertOptions &options) {
    detail::check_library();
    flare_convert_options o = FLARE_CONVERT_OPTIONS_INIT;
    o.folder = detail::or_null(options.folder);
    o.onnx = detail::or_null(options.onnx);
    o.plans = detail::or_null(options.plans);
    o.dataset = detail::or_null(options.dataset);
    o.configuration = detail::or_null(options.configuration);
    o.orientation = detail::or_null(options.orientation);
    o.folds = detail::or_null(options.folds);
    o.checkpoint = detail::or_null(options.checkpoint);
    detail::check(flare_convert(out_path.c_str(), &o));
}

} // namespace flare

#endif // FLARE_HPP
