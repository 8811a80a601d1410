// flare_image.hpp - C++17 over the image files of flare.h. Header only.
//
//     flare::Image ct("ct.nii.gz");
//     std::vector<std::uint8_t> labels = flare::Model("abdomen.onnx").segment(ct.view());
//     flare::VolumeView map = ct.view(); // the labels' grid is the image's
//     map.data = labels.data();
//     map.dtype = FLARE_UINT8;
//     flare::write_labels("labels.seg.nrrd", map, R"({"liver": 1})");
//
// Ownership, errors, threads and text are as in flare.hpp.
#ifndef FLARE_IMAGE_HPP
#define FLARE_IMAGE_HPP

#include "flare.hpp"

namespace flare {

// What an image file holds, read once into the library's memory and not copied. Movable, not
// copyable.
class Image {
public:
    // Reads NIfTI, NRRD or MetaImage. Voxels keep the type they are stored in where it is one of
    // flare.h; flare_image_open tells what becomes of others.
    explicit Image(const std::string &path) {
        detail::check_library();
        detail::check(flare_image_open(&handle_, path.c_str()));
        const flare_status status = flare_image_volume(&volume_, handle_);
        if (status != FLARE_OK) flare_image_free(handle_);
        detail::check(status);
    }

    ~Image() { flare_image_free(handle_); }

    Image(Image &&other) noexcept
        : handle_(std::exchange(other.handle_, nullptr)),
          volume_(std::exchange(other.volume_, flare_volume FLARE_VOLUME_INIT)) {}
    Image &operator=(Image &&other) noexcept {
        std::swap(handle_, other.handle_);
        std::swap(volume_, other.volume_);
        return *this;
    }
    Image(const Image &) = delete;
    Image &operator=(const Image &) = delete;

    // The voxels and their place in space, for Model::segment; valid as long as this Image.
    VolumeView view() const {
        VolumeView v(static_cast<const std::uint8_t *>(volume_.data), {}, {});
        v.dtype = volume_.dtype;
        v.channels = volume_.channels;
        for (std::size_t i = 0; i < 3; i++) {
            v.size[i] = volume_.size[i];
            v.spacing[i] = volume_.spacing[i];
            v.origin[i] = volume_.origin[i];
        }
        for (std::size_t i = 0; i < 9; i++) v.direction[i] = volume_.direction[i];
        return v;
    }

    // The voxels as what they are, channels x size[2] x size[1] x size[0]; they may be changed.
    // Throws where T is not their type.
    template <class T> T *voxels() {
        if (DTypeOf<T>::value != volume_.dtype)
            throw Error(FLARE_ERR_ARGUMENT, "the voxels are of type " + std::to_string(volume_.dtype) +
                                                " (FLARE_UINT8 is 1), asked for as " +
                                                std::to_string(DTypeOf<T>::value));
        return static_cast<T *>(const_cast<void *>(volume_.data));
    }

private:
    flare_image *handle_ = nullptr;
    flare_volume volume_ = FLARE_VOLUME_INIT;
};

// Writes an image file, whole or not at all.
inline void write_image(const std::string &path, const VolumeView &image) {
    detail::check_library();
    const flare_volume v = detail::c_volume(image);
    detail::check(flare_image_write(path.c_str(), &v, nullptr));
}

// Writes a label map (uint8 or uint16) whose names, as JSON, are {"background": 0, "liver": 1}.
// .seg.nrrd keeps them, as segments of 3D Slicer.
inline void write_labels(const std::string &path, const VolumeView &labels,
                         const std::string &names = "{}") {
    detail::check_library();
    const flare_volume v = detail::c_volume(labels);
    flare_write_options o = FLARE_WRITE_OPTIONS_INIT;
    o.labels = names.c_str();
    detail::check(flare_image_write(path.c_str(), &v, &o));
}

} // namespace flare

#endif
