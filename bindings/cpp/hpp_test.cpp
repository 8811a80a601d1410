// flare.hpp, flare_image.hpp, flare_trainer.hpp and flare_student.hpp: errors, moves, progress. With FLARE_TEST_NETWORK (capi/test/network) also training,
// with FLARE_TEST_MODEL segmenting, and with FLARE_TEST_CASCADE (capi/test/cascade.onnx)
// cascades. Run by capi/test/run.sh in an empty folder.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <type_traits>

#include "flare_image.hpp"
#include "flare_student.hpp"
#include "flare_trainer.hpp"

static int failures = 0;

static void check(bool ok, const char *what, int line) {
    if (ok) return;
    failures++;
    std::cerr << __FILE__ << ":" << line << ": failed: " << what << "\n";
}
#define CHECK(condition) check((condition), #condition, __LINE__)

// The status that a function throws; FLARE_OK if it returns.
template <class F> static flare_status thrown(F f) {
    try {
        f();
        return FLARE_OK;
    } catch (const flare::Error &e) {
        CHECK(std::strlen(e.what()) > 0);
        return e.status();
    }
}

static_assert(!std::is_copy_constructible_v<flare::Model>);
static_assert(!std::is_copy_constructible_v<flare::Trainer>);
static_assert(!std::is_copy_constructible_v<flare::Image>);
static_assert(!std::is_copy_constructible_v<flare::Labeller>);
static_assert(std::is_nothrow_move_constructible_v<flare::Labeller>);
static_assert(std::is_nothrow_move_constructible_v<flare::Trainer>);
static_assert(std::is_nothrow_move_constructible_v<flare::Model>);
static_assert(std::is_nothrow_move_assignable_v<flare::Model>);
static_assert(flare::DTypeOf<float>::value == FLARE_FLOAT32);

static void test_without_model() {
    CHECK(flare::version() == flare_version());
    CHECK(thrown([] { flare::convert("x", {}); }) == FLARE_ERR_ARGUMENT);
    CHECK(thrown([] { flare::OpenOptions o; o.gpu_memory_limit = -1; flare::Model("x", o); }) ==
          FLARE_ERR_ARGUMENT);
    CHECK(thrown([] { flare::OpenOptions o; o.threads = -1; flare::Model("x", o); }) ==
          FLARE_ERR_ARGUMENT);
    const float voxel = 0;
    CHECK(flare::VolumeView(&voxel, {2, 3, 4}, {1, 1, 1}).voxels() == 24);
    for (auto size : {std::array<std::int64_t, 3>{0, 1, 1}, {1, -1, 1}, {1 << 20, 1 << 20, 2},
                      {INT64_MAX, INT64_MAX, INT64_MAX}})
        CHECK(thrown([&] { flare::VolumeView(&voxel, size, {1, 1, 1}).voxels(); }) ==
              FLARE_ERR_ARGUMENT);
}

// A MetaImage file of float or uint8 voxels of 1 mm.
template <class T>
static void write_image(const std::string &path, const std::array<std::int64_t, 3> &size, const std::vector<T> &voxels) {
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream file(path, std::ios::binary);
    file << "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nDimSize = " << size[0] << " " << size[1]
         << " " << size[2] << "\nElementSpacing = 1 1 1\nElementType = " << (sizeof(T) == 1 ? "MET_UCHAR" : "MET_FLOAT")
         << "\nElementDataFile = LOCAL\n";
    file.write(reinterpret_cast<const char *>(voxels.data()), std::streamsize(voxels.size() * sizeof(T)));
}

static void test_evaluate() {
    const std::vector<std::uint8_t> a{0, 1, 1, 0}, b{0, 1, 1, 1};
    const flare::VolumeView p(a.data(), {4, 1, 1}, {1, 1, 1}), r(b.data(), {4, 1, 1}, {1, 1, 1});
    CHECK(flare::evaluate(p, r).find("\"dsc\":0.8,") != std::string::npos);
    flare::EvaluateOptions options;
    options.rules = "flare99";
    CHECK(thrown([&] { flare::evaluate(p, r, options); }) == FLARE_ERR_ARGUMENT);
    CHECK(thrown([] { flare::evaluate_file("none", "none.nii"); }) == FLARE_ERR_NOT_FOUND);

    options = {};
    for (const char *name : {"references/a.mha", "references/b.mha", "predictions/a.mha"}) write_image(name, {4, 1, 1}, b);
    int calls = 0;
    options.progress = [&](double fraction, const char *phase) {
        calls++;
        return fraction >= 0 && std::string(phase) == "evaluate";
    };
    CHECK(flare::evaluate_file("references", "references", options).find("\"failed\":{}") != std::string::npos && calls > 1);
    std::string caught;
    try {
        flare::evaluate_file("predictions", "references", options);
    } catch (const flare::CasesSkipped &e) {
        CHECK(e.status() == FLARE_ERR_NOT_FOUND);
        caught = e.report();
    }
    CHECK(caught.find("\"name\":\"a\"") != std::string::npos && caught.find("\"failed\":{\"b\":") != std::string::npos);
    options.progress = [](double, const char *) { return false; };
    CHECK(thrown([&] { flare::evaluate_file("references", "references", options); }) == FLARE_ERR_CANCELLED);
    for (const char *folder : {"references", "predictions"}) std::filesystem::remove_all(folder);
}

#ifdef __linux__
static void test_efficiency() {
    CHECK(flare::efficiency({"true"}).find("\"max_ram_mb\":") != std::string::npos);
    CHECK(thrown([] { flare::efficiency({}); }) == FLARE_ERR_ARGUMENT);
    CHECK(thrown([] { flare::efficiency({"false"}); }) == FLARE_ERR_INTERNAL);
}
#endif

static void test_images() {
    std::vector<std::int16_t> voxels(24);
    for (std::size_t i = 0; i < voxels.size(); i++) voxels[i] = std::int16_t(i * 1000 - 9000);
    flare::VolumeView ct(voxels.data(), {2, 3, 4}, {0.75, 1.5, 2.5});
    ct.origin = {1, 2, 3};
    ct.direction = {0, -1, 0, 1, 0, 0, 0, 0, 1};
    flare::write_image("ct.nrrd", ct);
    flare::Image first("ct.nrrd");
    flare::Image image = std::move(first);
    CHECK(first.view().data == nullptr);
    const flare::VolumeView read = image.view();
    CHECK(read.dtype == FLARE_INT16 && read.channels == 1 && read.size == ct.size);
    CHECK(read.spacing == ct.spacing && read.origin == ct.origin && read.direction == ct.direction);
    CHECK(std::equal(voxels.begin(), voxels.end(), image.voxels<std::int16_t>()));
    CHECK(thrown([&] { image.voxels<float>(); }) == FLARE_ERR_ARGUMENT);
    CHECK(thrown([] { flare::Image("none.nii"); }) == FLARE_ERR_NOT_FOUND);

    const std::vector<std::uint8_t> labels(24, 1);
    const flare::VolumeView map(labels.data(), {2, 3, 4}, {1, 1, 1});
    flare::write_labels("labels.seg.nrrd", map, R"({"liver": 1})");
    CHECK(std::equal(labels.begin(), labels.end(),
                     flare::Image("labels.seg.nrrd").voxels<std::uint8_t>()));
    CHECK(thrown([&] { flare::write_labels("a.nii", map, "liver"); }) == FLARE_ERR_ARGUMENT);
    CHECK(thrown([&] { flare::write_image("a.png", map); }) == FLARE_ERR_UNSUPPORTED);
}

static void test_with_model(const char *path) {
    flare::Model first(path);
    flare::Model model = std::move(first);
    CHECK(thrown([&] { first.describe(); }) == FLARE_ERR_HANDLE); // moved from
    first = std::move(model);
    model = std::move(first);
    CHECK(model.describe().find("\"labels\"") != std::string::npos);

    // As many channels as the model takes: "channels":["CT",...]
    const std::string text = model.describe();
    const std::size_t list = text.find("\"channels\":[");
    CHECK(list != std::string::npos);
    const std::size_t end = text.find(']', list);
    const auto channels = 1 + std::count(text.begin() + std::ptrdiff_t(list),
                                         text.begin() + std::ptrdiff_t(end), ',');

    std::vector<std::int16_t> voxels(std::size_t(channels) * 32 * 30 * 28, 40);
    flare::VolumeView image(voxels.data(), {32, 30, 28}, {2.5, 2.5, 2.5});
    image.channels = std::int32_t(channels);
    std::vector<std::uint8_t> labels = model.segment(image);
    CHECK(labels.size() == image.voxels());
    CHECK(model.stats().find("\"tiles\"") != std::string::npos);
    std::vector<std::uint16_t> wide = model.segment<std::uint16_t>(image);
    int differ = 0;
    for (std::size_t i = 0; i < labels.size(); i++) differ += wide[i] != labels[i];
    CHECK(differ < 30);
    CHECK(thrown([&] { model.segment_into(labels.data(), labels.size() - 1, image); }) ==
          FLARE_ERR_ARGUMENT);

    flare::SegmentOptions options;
    double last = 0;
    options.progress = [&](double fraction, const char *) { last = fraction; return true; };
    model.segment(image, options);
    CHECK(last > 0 && last <= 1);
    options.progress = [](double, const char *) { return false; };
    CHECK(thrown([&] { model.segment(image, options); }) == FLARE_ERR_CANCELLED);
    options.progress = [&](double, const char *) { model.cancel(); return true; };
    CHECK(thrown([&] { model.segment(image, options); }) == FLARE_ERR_CANCELLED);

    options.progress = [](double, const char *) -> bool { throw std::logic_error("mine"); };
    std::string caught;
    try {
        model.segment(image, options);
    } catch (const std::logic_error &e) {
        caught = e.what();
    }
    CHECK(caught == "mine");
    CHECK(model.segment(image).size() == image.voxels()); // still usable
    CHECK(thrown([&] { model.segment_file("missing.nii", "out.nii"); }) == FLARE_ERR_NOT_FOUND);
    flare::SegmentOptions reported;
    reported.report_path = "report.txt";
    CHECK(thrown([&] { model.segment_file("missing.nii", "out.nii", reported); }) ==
          FLARE_ERR_ARGUMENT); // a report's name ends in .html

    // The model is no cascade, and may or may not store a post-processing.
    const auto says = [&](const flare::SegmentOptions &o, const char *text) {
        try {
            model.segment(image, o);
        } catch (const flare::Error &e) {
            return e.status() == FLARE_ERR_ARGUMENT && std::strstr(e.what(), text) != nullptr;
        }
        return false;
    };
    flare::SegmentOptions cascade;
    cascade.previous = labels;
    CHECK(cascade.previous.dtype == FLARE_UINT8 && cascade.previous.bytes == labels.size());
    CHECK(says(cascade, "no labels of a previous stage"));
    cascade.previous = flare::PreviousLabels(wide.data(), wide.size() - 1);
    CHECK(cascade.previous.dtype == FLARE_UINT16);
    CHECK(says(cascade, "previous_bytes"));
    cascade.previous = {};
    cascade.previous_path = "stage.nii";
    CHECK(says(cascade, "previous_path"));
    CHECK(thrown([&] { flare::PreviousLabels(wide.data(), SIZE_MAX / 2 + 1); }) ==
          FLARE_ERR_ARGUMENT);
    flare::SegmentOptions after;
    after.postprocess = true;
    const flare_status status = thrown([&] { model.segment(image, after); });
    CHECK(status == FLARE_OK || says(after, "stores no post-processing"));
}

// The second stage of a cascade that gives the labels of the first.
static void test_cascade(const char *path) {
    const flare::Model model(path);
    const std::vector<std::int16_t> voxels(20 * 18 * 16, 40);
    const flare::VolumeView image(voxels.data(), {20, 18, 16}, {1, 1, 1});
    CHECK(thrown([&] { model.segment(image); }) == FLARE_ERR_ARGUMENT);
    std::vector<std::int32_t> stage(image.voxels());
    for (std::size_t i = 0; i < stage.size(); i++) stage[i] = std::int32_t(i / 5 % 3);
    flare::SegmentOptions options;
    options.previous = stage;
    const std::vector<std::uint8_t> labels = model.segment(image, options);
    CHECK(std::equal(labels.begin(), labels.end(), stage.begin(), stage.end()));
    options.postprocess = true; // label 1 is no longer in pieces
    const std::vector<std::uint8_t> kept = model.segment(image, options);
    CHECK(std::count(kept.begin(), kept.end(), 1) < std::count(labels.begin(), labels.end(), 1));
    CHECK(std::count(kept.begin(), kept.end(), 2) == std::count(labels.begin(), labels.end(), 2));
}

// Learns bright and dark blocks; the gradients of the batch's halves are those of the whole.
static void test_trainer(const std::string &network) {
    enum { X = 16, Y = 12, Z = 8, PATCH = X * Y * Z, BATCH = 4 };
    const std::array<std::int64_t, 3> size{X, Y, Z};
    std::vector<float> images(BATCH * PATCH);
    std::vector<std::int16_t> labels(images.size());
    for (int i = 0; i < BATCH * PATCH; i++) {
        const int x = i % X, y = i / X % Y;
        labels[std::size_t(i)] = x > 2 && x < 8 && y > 3 ? 1 : x > 9 && y < 8 ? 2 : 0;
        const int sign = labels[std::size_t(i)] == 1 ? 1 : labels[std::size_t(i)] == 2 ? -1 : 0;
        images[std::size_t(i)] = 1.5f * float(sign) + float(i * 7 % 13) / 13 + float(i / PATCH) / 10;
    }
    flare::TrainerOptions options;
    CHECK(thrown([&] { flare::Trainer t(options); }) == FLARE_ERR_ARGUMENT);
    options.plans = network + "/plans.json";
    options.dataset = network + "/dataset.json";
    options.threads = 2;
    options.batch = BATCH;
    options.momentum = 0.9;
    options.epochs = 3;
    options.iterations = 4;
    options.validation_iterations = 1;
    flare::Trainer first(options);
    flare::Trainer trainer = std::move(first);
    CHECK(thrown([&] { first.describe(); }) == FLARE_ERR_HANDLE); // moved from
    options.batch = BATCH / 2;
    const flare::Trainer half(options);

    const flare::BatchView batch(images.data(), labels.data(), BATCH, 1, size);
    const flare::BatchResult whole = trainer.backward(batch);
    CHECK(std::abs(whole.loss - whole.cross_entropy - whole.dice) < 1e-5);
    double voxels = 0; // true positives and false negatives of each head
    CHECK(whole.counts.size() == 9);
    for (std::size_t h = 0; h < 3; h++) voxels += whole.counts[h] + whole.counts[6 + h];
    CHECK(voxels == BATCH * PATCH);
    double loss = 0;
    for (int i = 0; i < 2; i++) {
        const flare::BatchView part(images.data() + 2 * i * PATCH, labels.data() + 2 * i * PATCH, 2, 1, size);
        loss += half.backward(part, i > 0).loss / 2;
    }
    CHECK(std::abs(loss - whole.loss) < 1e-5);
    const flare::FloatView g = trainer.gradients(), sum = half.gradients();
    float largest = 0, differ = 0;
    CHECK(g.size == sum.size && g.size == trainer.parameters().size);
    for (std::size_t i = 0; i < g.size; i++) {
        largest = std::max(largest, std::abs(g.data[i]));
        differ = std::max(differ, std::abs(g.data[i] - sum.data[i] / 2));
    }
    CHECK(largest > 0 && differ < 1e-4f * largest);

    std::size_t end = 0;
    const std::vector<flare::Parameter> layout = trainer.layout();
    for (const flare::Parameter &p : layout) {
        CHECK(p.offset >= end && !p.shape.empty() && !p.name.empty());
        std::size_t numbers = 1;
        for (std::int64_t n : p.shape) numbers *= std::size_t(n);
        end = p.offset + numbers;
    }
    CHECK(end <= g.size && g.size < end + 16);
    CHECK(layout[0].name == "encoder.stages.0.0.convs.0.conv.weight");
    CHECK((layout[0].shape == std::vector<std::int64_t>{8, 1, 3, 3, 3}));

    trainer.apply();
    for (int i = 0; i < 20; i++) trainer.step(batch);
    const double last = trainer.evaluate().loss;
    CHECK(last < whole.loss - 0.3 && trainer.evaluate(batch).loss == last);
    trainer.save("a.flare");
    trainer.step(batch);
    const std::vector<float> kept(trainer.parameters().begin(), trainer.parameters().end());
    trainer.load("a.flare");
    trainer.step(batch);
    CHECK(std::equal(kept.begin(), kept.end(), trainer.parameters().begin()));
    CHECK(thrown([&] { half.load("a.flare"); }) == FLARE_ERR_MODEL);
    CHECK(thrown([&] { half.step(batch); }) == FLARE_ERR_ARGUMENT);
    CHECK(thrown([&] { half.step(); }) == FLARE_ERR_ARGUMENT);
    trainer.set_learning_rate(0.5);
    CHECK(trainer.learning_rate() == 0.5);
    CHECK(thrown([&] { trainer.set_learning_rate(-1); }) == FLARE_ERR_ARGUMENT);

    trainer.export_to("model.onnx");
    const flare::VolumeView image(images.data(), size, {1, 1, 1});
    const std::vector<std::uint8_t> found = flare::Model("model.onnx").segment(image);
    int right = 0;
    for (std::size_t i = 0; i < found.size(); i++) right += found[i] == labels[i];
    CHECK(right > 9 * PATCH / 10);

    half.add_case("mine", image, flare::VolumeView(labels.data(), size, {1, 1, 1}));
    CHECK(thrown([&] { half.run("", [](const flare_trainer_progress &) { return false; }); }) ==
          FLARE_ERR_CANCELLED);
    CHECK(thrown([&] { half.run("", [&](const flare_trainer_progress &) { half.cancel(); return true; }); }) ==
          FLARE_ERR_CANCELLED);
    std::string caught;
    try {
        half.run("", [](const flare_trainer_progress &) -> bool { throw std::logic_error("mine"); });
    } catch (const std::logic_error &e) {
        caught = e.what();
    }
    CHECK(caught == "mine");
    int calls = 0;
    half.run("run", [&](const flare_trainer_progress &p) { calls++; return p.epochs == 3; });
    CHECK(calls > 0 && thrown([] { flare::Model("run/model.onnx"); }) == FLARE_OK);
}

static bool has(const std::string &text, const std::string &part) {
    return text.find(part) != std::string::npos;
}

// Pseudo-labels, at once and case by case, and a student, of the network that test_trainer made.
static void test_student() {
    CHECK((flare::detail::texts("[]\n").empty()));
    CHECK((flare::detail::texts(R"(["a","b\"]\\\u0026","\u00e4\u20ac é","",","])") ==
           std::vector<std::string>{"a", "b\"]\\&", "\u00e4\u20ac \u00e9", "", ","}));

    const std::array<std::int64_t, 3> size{20, 16, 12};
    for (int number = 0; number < 6; number++) { // two manual labels, two without, one that is no image
        std::vector<float> image(20 * 16 * 12);
        std::vector<std::uint8_t> labels(image.size());
        for (std::size_t i = 0; i < image.size(); i++) {
            const std::size_t x = i % 20, y = i / 20 % 16;
            labels[i] = x > 2 && x < 8 && y > 3 ? 1 : x > 9 && y < 8 ? 2 : 0;
            image[i] = (labels[i] == 1 ? 1.5f : labels[i] == 2 ? -1.5f : 0) + float((i * 7 + std::size_t(number)) % 13) / 13;
        }
        const std::string name = "case" + std::to_string(number);
        write_image(number < 3 ? "raw/imagesTr/" + name + "_0000.mha" : "images/" + name + "_0000.mha", size, image);
        if (number < 3) write_image("raw/labelsTr/" + name + ".mha", size, labels);
    }
    std::ofstream("raw/dataset.json") << R"({"channel_names": {"0": "MRI"}, "labels": {"background": 0, "bright": 1, "dark": 2},
        "numTraining": 3, "file_ending": ".mha"})";

    flare::PseudoLabelOptions options;
    CHECK(thrown([&] { flare::pseudo_label("images", "labels", options); }) == FLARE_ERR_ARGUMENT);
    options.models = {"model.onnx", "run/model.onnx"};
    options.threads = 2;
    int calls = 0;
    options.progress = [&](double fraction, const char *phase) {
        calls++;
        CHECK(fraction >= 0 && fraction <= 1 && std::string(phase) == "label");
        return true;
    };
    const std::string scores = flare::pseudo_label("images", "labels", options);
    CHECK(calls > 0 && has(scores, "\"case\":\"case5\"") && has(scores, "\"fold_agreement\":0."));
    CHECK(std::filesystem::exists("labels/case3.mha") && !std::filesystem::exists("labels/case0.mha"));
    options.progress = [](double, const char *) { return false; };
    CHECK(thrown([&] { flare::pseudo_label("images", "stopped", options); }) == FLARE_ERR_CANCELLED);
    options.progress = [](double, const char *) -> bool { throw std::logic_error("mine"); };
    std::string caught;
    try {
        flare::pseudo_label("images", "stopped", options);
    } catch (const std::logic_error &e) {
        caught = e.what();
    }
    CHECK(caught == "mine");
    CHECK(thrown([&] { flare::Labeller("images", "one", options); }) == FLARE_ERR_ARGUMENT); // progress
    options.progress = {};

    std::ofstream("images/case4_0000.mha") << "nonsense";
    caught.clear();
    try {
        flare::pseudo_label("images", "labels", options);
    } catch (const flare::CasesSkipped &e) {
        CHECK(e.status() == FLARE_ERR_FORMAT && has(e.what(), "1 of 3 cases"));
        caught = e.report();
    }
    CHECK(has(caught, "\"case\":\"case5\"") && has(caught, "\"skipped\":[{\"case\":\"case4\""));

    options.weights = true;
    flare::Labeller first("images", "one", options);
    flare::Labeller labeller = std::move(first);
    CHECK(thrown([&] { first.cases(); }) == FLARE_ERR_HANDLE); // moved from
    CHECK((labeller.cases() == std::vector<std::string>{"case3", "case4", "case5"}));
    CHECK(has(labeller.label("case5"), "\"case\":\"case5\""));
    caught.clear();
    try {
        labeller.label("case4");
    } catch (const flare::CasesSkipped &e) {
        caught = e.report();
    }
    CHECK(has(caught, "\"case4\""));
    CHECK(thrown([&] { labeller.label("case9"); }) == FLARE_ERR_NOT_FOUND);
    labeller.cancel();
    CHECK(std::filesystem::exists("one/case5.mha") && !std::filesystem::exists("one/case3.mha"));
    CHECK(std::filesystem::exists("one/weights/case5.mha") && !std::filesystem::exists("labels/weights"));

    CHECK(thrown([] { flare::student("none.json"); }) == FLARE_ERR_NOT_FOUND);
    std::ofstream("config.json") << R"({"labelled": "raw", "unlabelled": "images", "run": "student", "threads": 2,
        "teacher": {"models": ["model.onnx", "run/model.onnx"]},
        "student": {"training": {"epochs": 1, "iterations": 2, "validation_iterations": 1, "batch": 2}}})";
    CHECK(thrown([] { flare::student("config.json", [](double, const char *) { return false; }); }) == FLARE_ERR_CANCELLED);
    caught.clear();
    std::vector<std::string> stages;
    try {
        flare::student("config.json", [&](double, const char *stage) {
            stages.push_back(stage);
            return true;
        });
    } catch (const flare::CasesSkipped &e) {
        CHECK(e.status() == FLARE_ERR_FORMAT);
        caught = e.report();
    }
    CHECK(has(caught, "student.onnx") && has(caught, "\"kept\":2") && std::filesystem::exists("student/student.onnx"));
    std::filesystem::remove("images/case4_0000.mha");
    CHECK(std::find(stages.begin(), stages.end(), "round_1_student") != stages.end());
    CHECK(has(flare::student("config.json"), "\"skipped\":[]"));
}

int main() {
    try {
        test_without_model();
        test_evaluate();
#ifdef __linux__
        test_efficiency();
#endif
        test_images();
        if (const char *network = std::getenv("FLARE_TEST_NETWORK")) {
            test_trainer(network);
            test_student();
        }
        if (const char *path = std::getenv("FLARE_TEST_MODEL")) {
            test_with_model(path);
            if (const char *cascade = std::getenv("FLARE_TEST_CASCADE")) test_cascade(cascade);
        }
    } catch (const std::exception &e) {
        std::cerr << "hpp_test: failed: " << e.what() << "\n";
        return 1;
    }
    return failures > 0;
}
