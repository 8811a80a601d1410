// flare_student.hpp - C++17 over the noisy student of flare.h. Header only.
//
//     flare::PseudoLabelOptions options;
//     options.models = {"fold_0.onnx", "fold_1.onnx"};
//     flare::pseudo_label("images", "labels", options); // or, case by case:
//     flare::Labeller labeller("images", "labels", options);
//     for (const std::string &name : labeller.cases()) labeller.label(name);
//     flare::student("config.json"); // the whole way to one small network
//
// Ownership, errors, threads and text are as in flare.hpp; calls on one labeller wait for each
// other in turn.
#ifndef FLARE_STUDENT_HPP
#define FLARE_STUDENT_HPP

#include <cstdlib>

#include "flare.hpp"

namespace flare {

// Who labels, and how. Empty and 0 mean the default; flare_pseudo_label_options explains each.
struct PseudoLabelOptions {
    std::vector<std::string> models; // the teacher: bundles and results folders
    std::string previous_path;       // folder of an earlier round
    double ignore_below = 0, soft_below = 0;
    bool no_mirror = false, weights = false;
    std::int32_t shard = 0, shards = 0;
    std::string device, runtime, mode, cache_dir; // as in OpenOptions
    std::int32_t threads = 0;
    Progress progress; // of pseudo_label; none with a Labeller
};

namespace detail {

// The struct of flare.h for the length of a call; it looks at the strings of options.
class LabelCall : public Watched {
public:
    flare_pseudo_label_options c = FLARE_PSEUDO_LABEL_OPTIONS_INIT;

    explicit LabelCall(const PseudoLabelOptions &o) : Watched(o.progress) {
        for (const std::string &model : o.models) models_.push_back(model.c_str());
        c.models = models_.data();
        c.models_count = models_.size();
        c.previous_path = or_null(o.previous_path);
        c.ignore_below = o.ignore_below;
        c.soft_below = o.soft_below;
        c.no_mirror = o.no_mirror;
        c.weights = o.weights;
        c.shard = o.shard;
        c.shards = o.shards;
        c.threads = o.threads;
        c.device = or_null(o.device);
        c.mode = or_null(o.mode);
        c.cache_dir = or_null(o.cache_dir);
        c.runtime = or_null(o.runtime);
        c.progress = function();
        c.progress_user = static_cast<Watched *>(this);
    }

private:
    std::vector<const char *> models_;
};

// The texts of a JSON list of texts that the library wrote.
inline std::vector<std::string> texts(const std::string &json) {
    std::vector<std::string> list;
    for (std::size_t i = 1; i < json.size() && json[i] == '"'; i += 2) { // past the quote, and "," or "]"
        std::string text;
        for (i++; i < json.size() && json[i] != '"'; i++) {
            if (json[i] != '\\') {
                text += json[i];
                continue;
            }
            switch (json[++i]) {
            case 'b': text += '\b'; break;
            case 'f': text += '\f'; break;
            case 'n': text += '\n'; break;
            case 'r': text += '\r'; break;
            case 't': text += '\t'; break;
            case 'u': { // one of the plane's first 65536 characters, in UTF-8
                const unsigned long c = std::strtoul(json.substr(i + 1, 4).c_str(), nullptr, 16);
                if (c >= 0x800) text += static_cast<char>(0xe0 | c >> 12);
                if (c >= 0x80) text += static_cast<char>(c >= 0x800 ? 0x80 | (c >> 6 & 0x3f) : 0xc0 | c >> 6);
                text += static_cast<char>(c >= 0x80 ? 0x80 | (c & 0x3f) : c);
                i += 4;
                break;
            }
            default: text += json[i];
            }
        }
        list.push_back(std::move(text));
    }
    return list;
}

} // namespace detail

// Labels every image of a folder with a teacher; what is finished is not done again. The scores,
// as JSON. Throws CasesSkipped where cases cannot be read; the others are labelled.
inline std::string pseudo_label(const std::string &images, const std::string &out_path,
                                const PseudoLabelOptions &options) {
    detail::check_library();
    detail::LabelCall call(options);
    char *json = nullptr;
    const flare_status status = flare_pseudo_label(&json, images.c_str(), out_path.c_str(), &call.c);
    return detail::reported(status, json, &call);
}

// A teacher at work on a folder, opened once with the first case that is not finished, for
// programs that choose the cases and their order. Movable, not copyable, like Model.
class Labeller {
public:
    Labeller(const std::string &images, const std::string &out_path, const PseudoLabelOptions &options) {
        detail::check_library();
        const detail::LabelCall call(options);
        detail::check(flare_labeller_open(&handle_, images.c_str(), out_path.c_str(), &call.c));
    }

    // Cancels a running call, waits for it and closes the teacher.
    ~Labeller() { flare_labeller_free(handle_); }

    Labeller(Labeller &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Labeller &operator=(Labeller &&other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    Labeller(const Labeller &) = delete;
    Labeller &operator=(const Labeller &) = delete;

    // The names of the cases (of the shard), finished or not.
    std::vector<std::string> cases() const {
        char *json = nullptr;
        detail::check(flare_labeller_cases(&json, handle_));
        return detail::texts(detail::take(json));
    }

    // Labels a case, unless it is finished: what pseudo_label gives of all. Throws CasesSkipped
    // where it cannot be read; after any other Error the next cases will not go better.
    std::string label(const std::string &name) const {
        char *json = nullptr;
        const flare_status status = flare_labeller_label(&json, handle_, name.c_str());
        return detail::reported(status, json);
    }

    // Cancels the calls that run or wait on the labeller; they throw FLARE_ERR_CANCELLED. From
    // any thread; returns at once.
    void cancel() const { detail::check(flare_labeller_cancel(handle_)); }

    // For functions of flare.h; stays the Labeller's.
    flare_labeller *handle() const noexcept { return handle_; }

private:
    flare_labeller *handle_ = nullptr;
};

// Makes a noisy student as a file says, or goes on; `flare student --help` describes the file.
// RESULTS.json. The phase of progress is the stage that runs. Throws CasesSkipped where
// unlabelled cases cannot be read; the student is made without them.
inline std::string student(const std::string &config_path, const Progress &progress = {},
                           const std::string &runtime = "") {
    detail::check_library();
    detail::Watched call(progress);
    flare_student_options o = FLARE_STUDENT_OPTIONS_INIT;
    o.runtime = detail::or_null(runtime);
    o.progress = call.function();
    o.progress_user = &call;
    char *json = nullptr;
    const flare_status status = flare_student(&json, config_path.c_str(), &o);
    return detail::reported(status, json, &call);
}

} // namespace flare

#endif // FLARE_STUDENT_HPP
