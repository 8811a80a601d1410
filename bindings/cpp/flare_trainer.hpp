// flare_trainer.hpp - C++17 over the training of flare.h. Header only.
//
//     flare::TrainerOptions options;
//     options.model = "abdomen.onnx";
//     flare::Trainer trainer(options);
//     trainer.add_case("corrected", ct, labels); // VolumeViews of one grid
//     for (int i = 0; i < 50; i++) trainer.step();
//     trainer.export_to("better.onnx");
//
// Ownership, errors, threads and text are as in flare.hpp.
#ifndef FLARE_TRAINER_HPP
#define FLARE_TRAINER_HPP

#include <cstdlib>
#include <cstring>

#include "flare.hpp"

namespace flare {

// What a trainer learns and how. Empty and 0 mean the default; flare_trainer_options explains
// each.
struct TrainerOptions {
    std::string model;                // fine-tuning: bundle or results folder; or "", and:
    std::string plans, dataset, configuration; // files plans.json, dataset.json; name
    std::string cache, fold;          // folder of preprocessed cases, and nnU-Net's fold of them
    std::string device, runtime, mode; // as in OpenOptions
    std::string optimizer;            // "sgd" or "adamw"
    std::int32_t threads = 0, workers = 0;
    std::int32_t batch = 0;
    std::array<std::int32_t, 3> patch{}; // voxels along x, y, z of the network's axes
    std::int32_t epochs = 0, iterations = 0, validation_iterations = 0;
    bool strong = false, no_mirroring = false;
    bool soft = false, weighted = false; // batches bring probabilities, weights
    std::uint64_t seed = 0;
    double learning_rate = 0, momentum = 0, weight_decay = 0, clip = 0;
    double foreground = 0, dropout = 0;
    double stochastic_depth = 0; // only for networks with residual blocks
};

// Somebody else's batch of preprocessed patches, x fastest. The counts must be the trainer's.
struct BatchView {
    const float *images;                // batch x channels x size[2] x size[1] x size[0]
    const void *labels = nullptr;       // batch x size[2] x size[1] x size[0], or none with soft
    std::int32_t labels_dtype = 0;
    const float *soft = nullptr;        // batch x heads x size[2] x size[1] x size[0], or none
    const float *weights = nullptr;     // batch x size[2] x size[1] x size[0], or none
    std::int32_t batch, channels;
    std::array<std::int64_t, 3> size;   // voxels along x, y, z; size[2] is 1 in 2-D

    BatchView(const float *images_, std::int32_t batch_, std::int32_t channels_,
              std::array<std::int64_t, 3> size_xyz)
        : images(images_), batch(batch_), channels(channels_), size(size_xyz) {}
    template <class T>
    BatchView(const float *images_, const T *labels_, std::int32_t batch_, std::int32_t channels_,
              std::array<std::int64_t, 3> size_xyz)
        : BatchView(images_, batch_, channels_, size_xyz) {
        labels = labels_;
        labels_dtype = DTypeOf<T>::value;
    }
};

// What a call tells of its batch; flare_trainer_result explains each.
struct BatchResult {
    double loss, cross_entropy, dice;
    std::vector<double> counts; // 3 x heads: decided rightly for, wrongly for, wrongly against
};

// The library's floats: a trainer's parameters or gradients, as long as the trainer is there.
struct FloatView {
    float *data;
    std::size_t size;

    float *begin() const { return data; }
    float *end() const { return data + size; }
};

// A parameter's place in both buffers.
struct Parameter {
    std::string name; // of nnU-Net's checkpoints
    std::vector<std::int64_t> shape;
    std::size_t offset; // floats before it
};

// Progress of Trainer::run; otherwise as Progress. It may call Trainer::cancel() only.
using TrainerProgress = std::function<bool(const flare_trainer_progress &)>;

// A network in training. Movable, not copyable, like Model.
class Trainer {
public:
    explicit Trainer(const TrainerOptions &options) {
        detail::check_library();
        flare_trainer_options o = FLARE_TRAINER_OPTIONS_INIT;
        o.model = detail::or_null(options.model);
        o.plans = detail::or_null(options.plans);
        o.dataset = detail::or_null(options.dataset);
        o.configuration = detail::or_null(options.configuration);
        o.cache = detail::or_null(options.cache);
        o.fold = detail::or_null(options.fold);
        o.device = detail::or_null(options.device);
        o.runtime = detail::or_null(options.runtime);
        o.mode = detail::or_null(options.mode);
        o.optimizer = detail::or_null(options.optimizer);
        o.threads = options.threads;
        o.workers = options.workers;
        o.batch = options.batch;
        for (std::size_t i = 0; i < 3; i++) o.patch[i] = options.patch[i];
        o.epochs = options.epochs;
        o.iterations = options.iterations;
        o.validation_iterations = options.validation_iterations;
        o.strong = options.strong;
        o.no_mirroring = options.no_mirroring;
        o.soft = options.soft;
        o.weighted = options.weighted;
        o.seed = options.seed;
        o.learning_rate = options.learning_rate;
        o.momentum = options.momentum;
        o.weight_decay = options.weight_decay;
        o.clip = options.clip;
        o.foreground = options.foreground;
        o.dropout = options.dropout;
        o.stochastic_depth = options.stochastic_depth;
        detail::check(flare_trainer_open(&handle_, &o));
    }

    // Cancels a running call, waits for it and closes the trainer.
    ~Trainer() { flare_trainer_free(handle_); }

    Trainer(Trainer &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    Trainer &operator=(Trainer &&other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    Trainer(const Trainer &) = delete;
    Trainer &operator=(const Trainer &) = delete;

    // What the trainer is, as JSON.
    std::string describe() const {
        char *json = nullptr;
        detail::check(flare_trainer_describe(&json, handle_));
        return detail::take(json);
    }

    // Adds a case to those that batches are drawn from; labels is one channel on image's grid.
    void add_case(const std::string &name, const VolumeView &image, const VolumeView &labels) const {
        const flare_volume v = detail::c_volume(image), l = detail::c_volume(labels);
        detail::check(flare_trainer_add_case(handle_, name.c_str(), &v, &l));
    }

    // One step on the caller's batch, or on the next of the cases.
    BatchResult step(const BatchView &batch) const { return on_batch(flare_trainer_step, &batch); }
    BatchResult step() const { return on_batch(flare_trainer_step, nullptr); }

    // Its first half: fills the gradients, or adds to them. Several processes average them before
    // apply().
    BatchResult backward(const BatchView &batch, bool accumulate = false) const {
        return on_batch(backward_with(accumulate), &batch);
    }
    BatchResult backward(bool accumulate = false) const {
        return on_batch(backward_with(accumulate), nullptr);
    }

    // Its second half. The gradients are undefined afterwards.
    void apply() const { detail::check(flare_trainer_apply(handle_)); }

    // The loss of a batch, or of the last call's, without dropout, gradients and step.
    BatchResult evaluate(const BatchView &batch) const {
        return on_batch(flare_trainer_evaluate, &batch);
    }
    BatchResult evaluate() const { return on_batch(flare_trainer_evaluate, nullptr); }

    // The buffers, which may be read and written while no call on the trainer runs, and where in
    // them each parameter is.
    FloatView parameters() const { return buffer(flare_trainer_parameters); }
    FloatView gradients() const { return buffer(flare_trainer_gradients); }
    std::vector<Parameter> layout() const {
        const std::string text = describe();
        std::vector<Parameter> list;
        std::size_t at = text.find("\"parameters\":[");
        while ((at = text.find("{\"name\":\"", at)) != std::string::npos) {
            Parameter p;
            at += std::strlen("{\"name\":\"");
            p.name = text.substr(at, text.find('"', at) - at);
            at = text.find("\"shape\":[", at) + std::strlen("\"shape\":");
            while (text[at] != ']') { // at '[' or ','
                char *end = nullptr;
                p.shape.push_back(std::strtoll(text.c_str() + at + 1, &end, 10));
                at = static_cast<std::size_t>(end - text.c_str());
            }
            at = text.find("\"offset\":", at) + std::strlen("\"offset\":");
            p.offset = static_cast<std::size_t>(std::strtoull(text.c_str() + at, nullptr, 10));
            list.push_back(std::move(p));
        }
        return list;
    }

    void set_learning_rate(double rate) const {
        detail::check(flare_trainer_set_learning_rate(handle_, rate));
    }
    double learning_rate() const {
        double rate = 0;
        detail::check(flare_trainer_get_learning_rate(&rate, handle_));
        return rate;
    }

    // Checkpoints: written whole or not at all; a trainer of the same options goes on from one
    // with the same bits.
    void save(const std::string &path) const { detail::check(flare_trainer_save(handle_, path.c_str())); }
    void load(const std::string &path) const { detail::check(flare_trainer_load(handle_, path.c_str())); }

    // Writes a bundle (.onnx) or an nnU-Net results folder.
    void export_to(const std::string &path) const {
        detail::check(flare_trainer_export(handle_, path.c_str()));
    }

    // Trains on the cases to the last epoch. folder: "", or where checkpoints, curves and the
    // bundle go.
    void run(const std::string &folder = "", const TrainerProgress &progress = {}) const {
        struct Call {
            const TrainerProgress &progress;
            std::exception_ptr thrown;
            static std::int32_t on_progress(const flare_trainer_progress *p, void *user) noexcept {
                Call *call = static_cast<Call *>(user);
                try {
                    return call->progress(*p) ? 0 : 1;
                } catch (...) {
                    call->thrown = std::current_exception();
                    return 1;
                }
            }
        } call{progress, nullptr};
        flare_trainer_run_options o = FLARE_TRAINER_RUN_OPTIONS_INIT;
        o.folder = detail::or_null(folder);
        if (progress) {
            o.progress = &Call::on_progress;
            o.progress_user = &call;
        }
        const flare_status status = flare_trainer_run(handle_, &o);
        if (call.thrown) std::rethrow_exception(call.thrown);
        detail::check(status);
    }

    // Cancels the calls that run or wait on the trainer; they throw FLARE_ERR_CANCELLED. From any
    // thread; returns at once.
    void cancel() const { detail::check(flare_trainer_cancel(handle_)); }

    // For functions of flare.h; stays the Trainer's.
    flare_trainer *handle() const noexcept { return handle_; }

private:
    using OnBatch = std::function<flare_status(flare_trainer_result *, flare_trainer *,
                                               const flare_batch *)>;

    static OnBatch backward_with(bool accumulate) {
        return [accumulate](flare_trainer_result *r, flare_trainer *t, const flare_batch *b) {
            return flare_trainer_backward(r, t, b, accumulate);
        };
    }

    BatchResult on_batch(const OnBatch &function, const BatchView *view) const {
        const std::string text = describe(), key = "\"heads\":";
        BatchResult told{};
        told.counts.resize(3 * std::strtoull(text.c_str() + text.find(key) + key.size(), nullptr, 10));
        flare_trainer_result r = FLARE_TRAINER_RESULT_INIT;
        r.counts = told.counts.data();
        r.counts_count = told.counts.size();
        flare_batch b = FLARE_BATCH_INIT;
        if (view != nullptr) {
            b.images = view->images;
            b.images_dtype = FLARE_FLOAT32;
            b.labels = view->labels;
            b.labels_dtype = view->labels_dtype;
            b.soft = view->soft;
            b.weights = view->weights;
            b.batch = view->batch;
            b.channels = view->channels;
            for (std::size_t i = 0; i < 3; i++) b.size[i] = view->size[i];
        }
        detail::check(function(&r, handle_, view != nullptr ? &b : nullptr));
        told.loss = r.loss;
        told.cross_entropy = r.cross_entropy;
        told.dice = r.dice;
        return told;
    }

    FloatView buffer(flare_status (*function)(float **, std::size_t *, flare_trainer *)) const {
        FloatView view{};
        detail::check(function(&view.data, &view.size, handle_));
        return view;
    }

    flare_trainer *handle_ = nullptr;
};

} // namespace flare

#endif // FLARE_TRAINER_HPP
