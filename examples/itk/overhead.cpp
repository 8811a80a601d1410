// What flare_itk.hpp adds to the call of flare.h: seconds and memory of both, in turn, on one
// image in memory.
//
//     overhead MODEL IN.nii.gz [ROUNDS]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <flare_itk.hpp>
#include <fstream>
#include <iostream>
#include <itkImageFileReader.h>

using Image = itk::Image<short, 3>;

// A line of /proc/self/status in MB: "VmRSS:" is what the process holds, "VmHWM:" its peak.
static double memory_mb(const std::string &wanted) {
    std::ifstream status("/proc/self/status");
    for (std::string name, rest; status >> name && std::getline(status, rest);)
        if (name == wanted) return std::atof(rest.c_str()) * 1024 / 1e6;
    throw std::runtime_error("/proc/self/status has no " + wanted);
}

struct Cost {
    std::vector<double> seconds, peak_mb; // of each round; peak: above what was held before

    template <class Call> void measure(Call call) {
        std::ofstream("/proc/self/clear_refs") << 5; // the peak begins anew
        const double held = memory_mb("VmRSS:");
        const auto start = std::chrono::steady_clock::now();
        call();
        seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
        peak_mb.push_back(memory_mb("VmHWM:") - held);
    }
};

static double median(std::vector<double> v) {
    std::sort(v.begin(), v.end());
    return (v[v.size() / 2] + v[(v.size() - 1) / 2]) / 2;
}

int main(int argc, char **argv) try {
    if (argc < 3) {
        std::cerr << "usage: overhead MODEL IN.nii.gz [ROUNDS]\n";
        return 2;
    }
    const int rounds = argc > 3 ? std::atoi(argv[3]) : 3;
    const flare::Model model(argv[1]);
    auto reader = itk::ImageFileReader<Image>::New();
    reader->SetFileName(argv[2]);
    reader->Update();
    const Image *image = reader->GetOutput();
    const std::size_t n = image->GetBufferedRegion().GetNumberOfPixels();

    flare_volume volume = FLARE_VOLUME_INIT;
    volume.data = image->GetBufferPointer();
    volume.dtype = FLARE_INT16;
    for (int i = 0; i < 3; i++) {
        volume.size[i] = std::int64_t(image->GetBufferedRegion().GetSize()[i]);
        volume.spacing[i] = image->GetSpacing()[i];
        volume.origin[i] = image->GetOrigin()[i];
        for (int j = 0; j < 3; j++) volume.direction[3 * i + j] = image->GetDirection()[i][j];
    }
    flare::segment(model, image); // what only the first call takes

    Cost c, itk;
    bool same = true;
    for (int round = 0; round < rounds; round++) {
        unsigned char *by_c = nullptr;
        c.measure([&] {
            by_c = static_cast<unsigned char *>(std::malloc(n));
            flare::detail::check(flare_segment(by_c, FLARE_UINT8, n, model.handle(), &volume, nullptr));
        });
        itk::Image<unsigned char, 3>::Pointer by_itk;
        itk.measure([&] { by_itk = flare::segment(model, image); });
        same = same && std::equal(by_c, by_c + n, by_itk->GetBufferPointer());
        std::free(by_c);
    }
    std::printf("image of %.0f MB, %d rounds, medians; labels are %s\n", double(n) * sizeof(short) / 1e6, rounds,
                same ? "the same" : "DIFFERENT");
    std::printf("flare_segment   %.3f s, %.0f MB above what was held\n", median(c.seconds), median(c.peak_mb));
    std::printf("flare::segment  %.3f s, %.0f MB\n", median(itk.seconds), median(itk.peak_mb));
    std::printf("overhead        %+.3f s, %+.0f MB\n", median(itk.seconds) - median(c.seconds),
                median(itk.peak_mb) - median(c.peak_mb));
    return same ? 0 : 1;
} catch (const std::exception &e) {
    std::cerr << "overhead: " << e.what() << "\n";
    return 1;
}
