// flare.hpp: errors, moves, progress. With FLARE_TEST_MODEL also segmenting, and with
// FLARE_TEST_CASCADE (capi/test/cascade.onnx) cascades. Run by capi/test/run.sh.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <type_traits>

#include "flare.hpp"

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

int main() {
    try {
        test_without_model();
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
