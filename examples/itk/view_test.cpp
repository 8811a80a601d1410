// flare_itk.hpp on images made here: nothing is copied, and a cropped image lies where it lay.
//
//     view_test MODEL
#include <cmath>
#include <flare_itk.hpp>
#include <iostream>

static int failures = 0;
#define CHECK(condition) \
    if (!(condition)) failures++, std::cerr << __FILE__ << ":" << __LINE__ << ": failed: " #condition "\n"

using Image = itk::Image<float, 3>;

// 24 x 20 x 16 voxels whose first index is (7, -3, 2), turned by 30 degrees about x.
static Image::Pointer make_image() {
    auto image = Image::New();
    image->SetRegions(Image::RegionType(Image::IndexType{{7, -3, 2}}, Image::SizeType{{24, 20, 16}}));
    const double spacing[3] = {3, 4, 5}, origin[3] = {10, 20, 30};
    image->SetSpacing(spacing);
    image->SetOrigin(origin);
    Image::DirectionType direction;
    direction.SetIdentity();
    const double c = std::sqrt(3.0) / 2, s = 0.5;
    direction[1][1] = c, direction[1][2] = -s, direction[2][1] = s, direction[2][2] = c;
    image->SetDirection(direction);
    image->Allocate();
    image->FillBuffer(40);
    return image;
}

static void test_view() {
    const auto image = make_image();
    const flare::VolumeView v = flare::view(image);
    CHECK(v.data == image->GetBufferPointer());
    CHECK(v.dtype == FLARE_FLOAT32);
    CHECK((v.size == std::array<std::int64_t, 3>{24, 20, 16}));
    CHECK((v.spacing == std::array<double, 3>{3, 4, 5}));
    // origin + direction (index * spacing): index * spacing is (21, -12, 10)
    const double c = std::sqrt(3.0) / 2, want[3] = {31, 20 - 12 * c - 5, 30 - 6 + 10 * c};
    for (int i = 0; i < 3; i++) CHECK(std::fabs(v.origin[i] - want[i]) < 1e-9);
    CHECK(v.direction[5] == -0.5 && v.direction[7] == 0.5); // row 1, column 2; row 2, column 1
    CHECK(flare::view(static_cast<const Image *>(image)).data == v.data);
}

static void test_empty() {
    try {
        flare::view(Image::New());
        CHECK(!"an empty image must be refused");
    } catch (const flare::Error &e) {
        CHECK(e.status() == FLARE_ERR_ARGUMENT);
    }
}

static void test_segment(const flare::Model &model) {
    const auto image = make_image();
    const auto labels = flare::segment<unsigned short>(model, image);
    CHECK(labels->GetBufferedRegion() == image->GetBufferedRegion());
    CHECK(labels->GetLargestPossibleRegion() == image->GetBufferedRegion());
    CHECK(labels->GetOrigin() == image->GetOrigin() && labels->GetSpacing() == image->GetSpacing());
    CHECK(labels->GetDirection() == image->GetDirection());
    std::vector<std::uint16_t> want(24 * 20 * 16);
    flare::VolumeView v(image->GetBufferPointer(), {24, 20, 16}, {3, 4, 5});
    v.direction = flare::view(image).direction;
    model.segment_into(want.data(), want.size(), v);
    CHECK(std::equal(want.begin(), want.end(), labels->GetBufferPointer()));
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    test_view();
    test_empty();
    test_segment(flare::Model(argv[1]));
    return failures ? 1 : 0;
}
