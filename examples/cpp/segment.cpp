// Two ways to use flare.hpp: a volume in memory, and a file.
//
//     segment MODEL                            a synthetic volume, in memory
//     segment MODEL IN.nii.gz OUT.nii.gz       a file
//
// CMakeLists.txt builds it; without CMake:
//     c++ -std=c++17 segment.cpp -o segment $(pkg-config --cflags --libs libflare)
//
// Research software, not a medical device.
#include <cstdint>
#include <exception>
#include <flare.hpp>
#include <iostream>
#include <map>
#include <string>
#include <vector>

// A body of soft tissue (40 HU) in air: what an imaging program would have loaded already.
static std::vector<std::int16_t> make_volume(int nx, int ny, int nz) {
    std::vector<std::int16_t> voxels;
    voxels.reserve(std::size_t(nx) * ny * nz);
    for (int z = 0; z < nz; z++)
        for (int y = 0; y < ny; y++)
            for (int x = 0; x < nx; x++) {
                const double a = 2.2 * x / nx - 1.1, b = 2.6 * y / ny - 1.3;
                voxels.push_back(a * a + b * b < 1 ? 40 : -1000);
            }
    return voxels;
}

static void segment_memory(const flare::Model &model, const flare::SegmentOptions &options) {
    const int nx = 64, ny = 56, nz = 40;
    const std::vector<std::int16_t> voxels = make_volume(nx, ny, nz);
    const flare::VolumeView image(voxels.data(), {nx, ny, nz}, {4, 4, 5});

    const std::vector<std::uint8_t> labels = model.segment(image, options);

    std::map<int, std::size_t> count;
    for (std::uint8_t label : labels) count[label]++;
    std::cerr << "\n";
    for (const auto &[label, n] : count) std::cout << "label " << label << ": " << n << " voxels\n";
}

int main(int argc, char **argv) {
    try {
        if (argc == 2 && std::string(argv[1]) == "--version") {
            std::cout << "libflare " << flare::version() << "\n";
            return 0;
        }
        if (argc != 2 && argc != 4) {
            std::cerr << "usage: segment MODEL [IN.nii.gz OUT.nii.gz]\n";
            return 2;
        }
        const flare::Model model(argv[1]);

        flare::SegmentOptions options;
        options.progress = [](double fraction, const char *phase) {
            std::cerr << "\r" << int(100 * fraction) << " % " << phase << "      " << std::flush;
            return true; // false cancels
        };
        if (argc == 2) {
            segment_memory(model, options);
        } else {
            model.segment_file(argv[2], argv[3], options);
            std::cerr << "\n";
        }
        std::cout << model.stats() << "\n";
        return 0;
    } catch (const flare::Error &e) {
        std::cerr << "segment: " << e.what() << " (" << flare_status_name(e.status()) << ")\n";
    } catch (const std::exception &e) {
        std::cerr << "segment: " << e.what() << "\n";
    }
    return 1;
}
