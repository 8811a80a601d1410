// Segments any volume that ITK reads, DICOM series among them, and writes the labels in any
// format that ITK writes, with the volume's geometry. Ctrl-C cancels.
//
//     segment_itk MODEL IN OUT [SERIES]
//
// IN: an image file, or a folder with a DICOM series; of several, SERIES (the UID) is read.
//
// Research software, not a medical device.
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <flare_itk.hpp>
#include <iostream>
#include <itkGDCMImageIO.h>
#include <itkGDCMSeriesFileNames.h>
#include <itkImageFileWriter.h>
#include <itkImageIOFactory.h>
#include <itkImageSeriesReader.h>
#include <itkMetaDataObject.h>
#include <unistd.h>

namespace fs = std::filesystem;

static volatile std::sig_atomic_t interrupted = 0;

// The first Ctrl-C cancels, a second one ends the program. The signal may come on a thread of
// the library, whose stack is small: hence SA_ONSTACK.
static void watch_interrupt() {
    struct sigaction action = {};
    action.sa_handler = [](int) { interrupted = 1; };
    action.sa_flags = SA_ONSTACK | SA_RESTART | SA_RESETHAND;
    sigaction(SIGINT, &action, nullptr);
}

static bool show_progress(double fraction, const char *phase) {
    std::cerr << "\r" << int(100 * fraction) << " % " << phase << "        " << std::flush;
    return !interrupted;
}

// What is to be read: one file, or the slices of a series in their order.
struct Source {
    std::vector<std::string> files;
    itk::ImageIOBase::Pointer io;
};

static Source find_series(const std::string &folder, const std::string &wanted) {
    auto names = itk::GDCMSeriesFileNames::New();
    names->SetUseSeriesDetails(true); // parts of a series that are no volume together are apart
    names->SetDirectory(folder);
    const auto &found = names->GetSeriesUIDs();
    std::vector<std::string> fitting;
    for (const std::string &uid : found)
        if (uid.compare(0, wanted.size(), wanted) == 0) fitting.push_back(uid);
    if (fitting.size() != 1) {
        std::string message = folder + (found.empty()     ? ": no DICOM series in this folder"
                                        : fitting.empty() ? ": no DICOM series " + wanted
                                                          : ": several DICOM series; name one");
        for (const std::string &uid : found)
            message += "\n  " + uid + " (" + std::to_string(names->GetFileNames(uid).size()) + " files)";
        throw std::runtime_error(message);
    }
    return {names->GetFileNames(fitting[0]), itk::GDCMImageIO::New().GetPointer()};
}

// Finds the reader and refuses what is not a volume of one value per voxel.
static Source inspect(const std::string &path, const std::string &series) {
    if (!fs::exists(path)) throw std::runtime_error(path + ": no such file or folder");
    Source source;
    if (fs::is_directory(path)) {
        source = find_series(path, series);
    } else {
        source = {{path}, itk::ImageIOFactory::CreateImageIO(path.c_str(), itk::IOFileModeEnum::ReadMode)};
        if (!source.io) throw std::runtime_error(path + ": not an image that ITK knows");
    }
    itk::ImageIOBase &io = *source.io;
    io.SetFileName(source.files[0]);
    io.ReadImageInformation();
    std::size_t more = 1; // voxels along a fourth axis and on
    std::string size;
    for (unsigned i = 0; i < io.GetNumberOfDimensions(); i++) {
        size += (i ? " x " : "") + std::to_string(io.GetDimensions(i));
        if (i > 2) more *= io.GetDimensions(i);
    }
    if (io.GetNumberOfDimensions() < 3 || more > 1)
        throw std::runtime_error(path + ": an image of " + size + " voxels, expected three dimensions");
    if (io.GetNumberOfComponents() != 1)
        throw std::runtime_error(path + ": " + std::to_string(io.GetNumberOfComponents()) +
                                 " values per voxel (" + io.GetPixelTypeAsString(io.GetPixelType()) +
                                 "), expected one, as in CT and MR");
    return source;
}

// Refuses slices that ITK stacks although they are no volume. slices: the DICOM values of each;
// volume: what the reader found; spacing: the mean distance in mm.
static void check_slices(const Source &source, const std::vector<itk::MetaDataDictionary *> &slices,
                         const itk::MetaDataDictionary &volume, double spacing) {
    const std::string folder = fs::path(source.files[0]).parent_path().string();
    std::string first, last;
    const char *position = "0020|0032";
    if (slices.size() > 1 && itk::ExposeMetaData(*slices.front(), position, first) &&
        itk::ExposeMetaData(*slices.back(), position, last) && first == last)
        throw std::runtime_error(folder + ": the series is no volume, its " + std::to_string(slices.size()) +
                                 " slices lie at one place, " + first);
    double deviation = 0; // the largest, in mm
    itk::ExposeMetaData(volume, "ITK_non_uniform_sampling_deviation", deviation);
    if (deviation > 0.1 * spacing)
        throw std::runtime_error(folder + ": the distances of slices differ by up to " + std::to_string(deviation) +
                                 " mm from their mean, " + std::to_string(spacing) +
                                 " mm: slices are missing or do not belong together");
}

// Reads with the pixel type of the file, so that ITK converts nothing.
template <class Pixel> typename itk::Image<Pixel, 3>::Pointer read(const Source &source) {
    auto reader = itk::ImageSeriesReader<itk::Image<Pixel, 3>>::New();
    reader->SetImageIO(source.io);
    reader->SetFileNames(source.files);
    reader->ForceOrthogonalDirectionOff(); // a tilted gantry shows, and the library refuses it
    reader->Update();
    typename itk::Image<Pixel, 3>::Pointer image = reader->GetOutput();
    check_slices(source, *reader->GetMetaDataDictionaryArray(), image->GetMetaDataDictionary(), image->GetSpacing()[2]);
    return image;
}

template <class Pixel>
static void run(const flare::Model &model, const Source &source, itk::ImageFileWriter<itk::Image<unsigned char, 3>> &writer) {
    const auto image = read<Pixel>(source);
    flare::SegmentOptions options;
    options.progress = show_progress;
    const auto labels = flare::segment(model, image, options);
    writer.SetInput(labels);
    writer.Update();
}

// Finds before the work whether the labels can be written.
static void check_output(const std::string &path) {
    if (!itk::ImageIOFactory::CreateImageIO(path.c_str(), itk::IOFileModeEnum::WriteMode))
        throw std::runtime_error(path + ": ITK writes no images with this ending");
    const fs::path folder = fs::absolute(path).parent_path();
    if (::access(fs::exists(path) ? path.c_str() : folder.c_str(), W_OK) != 0)
        throw std::runtime_error(path + ": cannot be written: " + std::strerror(errno));
}

static void segment(const std::string &model_path, const std::string &in, const std::string &out, const std::string &series) {
    const Source source = inspect(in, series);
    check_output(out);
    const flare::Model model(model_path);
    auto writer = itk::ImageFileWriter<itk::Image<unsigned char, 3>>::New();
    writer->SetFileName(out);
    writer->UseCompressionOn();
    switch (source.io->GetComponentType()) {
    case itk::IOComponentEnum::UCHAR: run<unsigned char>(model, source, *writer); break;
    case itk::IOComponentEnum::SHORT: run<short>(model, source, *writer); break;
    case itk::IOComponentEnum::USHORT: run<unsigned short>(model, source, *writer); break;
    case itk::IOComponentEnum::INT: run<int>(model, source, *writer); break;
    case itk::IOComponentEnum::FLOAT: run<float>(model, source, *writer); break;
    default: run<double>(model, source, *writer); // which holds the others' values
    }
    std::cerr << "\n";
    std::cout << model.stats() << "\n";
}

int main(int argc, char **argv) {
    if (argc != 4 && argc != 5) {
        std::cerr << "usage: segment_itk MODEL IN OUT [SERIES]\n";
        return 2;
    }
    watch_interrupt();
    try {
        segment(argv[1], argv[2], argv[3], argc > 4 ? argv[4] : "");
        return 0;
    } catch (const flare::Error &e) {
        std::cerr << "\nsegment_itk: " << e.what() << " (" << flare_status_name(e.status()) << ")\n";
    } catch (const itk::ExceptionObject &e) {
        std::cerr << "\nsegment_itk: " << e.GetDescription() << "\n";
    } catch (const std::exception &e) {
        std::cerr << "\nsegment_itk: " << e.what() << "\n";
    }
    return 1;
}
