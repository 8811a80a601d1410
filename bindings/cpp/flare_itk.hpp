// flare_itk.hpp - segments itk::Image, without copying its voxels. Header only, C++17, ITK 5.
//
// Research software, not a medical device.
//
//     flare::Model model("abdomen.onnx");
//     auto reader = itk::ImageFileReader<itk::Image<short, 3>>::New();
//     ...
//     itk::Image<unsigned char, 3>::Pointer labels = flare::segment(model, reader->GetOutput());
//
// ITK and libflare agree on axes, millimetres and LPS, so an image is used as it stands. Pixels
// are unsigned char, short, unsigned short, int, float or double; other images do not compile.
#ifndef FLARE_ITK_HPP
#define FLARE_ITK_HPP

#include <itkImage.h>

#include "flare.hpp"

namespace flare {

namespace detail {

template <class T, class = void> struct IsVoxel : std::false_type {};
template <class T> struct IsVoxel<T, std::void_t<decltype(DTypeOf<T>::value)>> : std::true_type {};

// The image type behind an itk::SmartPointer or a plain pointer.
template <class Pointer> using ImageOf = std::decay_t<decltype(*std::declval<Pointer>())>;

} // namespace detail

// The voxels in an image's buffer and their place in space. Borrows the buffer: the image must
// live, and not be updated or changed, as long as the view is used. image: an
// itk::Image<..., 3>::Pointer or plain pointer, updated. Throws FLARE_ERR_ARGUMENT where the
// buffer is empty.
template <class Pointer> VolumeView view(const Pointer &image) {
    using Image = detail::ImageOf<Pointer>;
    using Pixel = typename Image::PixelType;
    static_assert(Image::ImageDimension == 3, "libflare segments images of three dimensions");
    static_assert(detail::IsVoxel<Pixel>::value,
                  "pixels are unsigned char, short, unsigned short, int, float or double");
    const auto region = image->GetBufferedRegion();
    if (image->GetBufferPointer() == nullptr || region.GetNumberOfPixels() == 0)
        throw Error(FLARE_ERR_ARGUMENT, "the itk::Image holds no voxels: call Update() of its "
                                        "reader or filter first");
    // The origin of an image is that of index (0,0,0), which may lie outside of a cropped one.
    typename Image::PointType first;
    image->TransformIndexToPhysicalPoint(region.GetIndex(), first);

    const auto n = region.GetSize();
    const auto s = image->GetSpacing();
    VolumeView v(image->GetBufferPointer(),
                 {std::int64_t(n[0]), std::int64_t(n[1]), std::int64_t(n[2])}, {s[0], s[1], s[2]});
    for (unsigned i = 0; i < 3; i++) {
        v.origin[i] = first[i];
        for (unsigned j = 0; j < 3; j++) v.direction[3 * i + j] = image->GetDirection()[i][j];
    }
    return v;
}

// The labels of an image, on the grid of its buffer. image as in view(). Label is unsigned char
// or, for models with labels above 255, unsigned short.
template <class Label = unsigned char, class Pointer>
typename itk::Image<Label, 3>::Pointer segment(const Model &model, const Pointer &image,
                                               const SegmentOptions &options = {}) {
    const VolumeView v = view(image);
    auto labels = itk::Image<Label, 3>::New();
    labels->CopyInformation(image);
    labels->SetRegions(image->GetBufferedRegion());
    labels->Allocate();
    model.segment_into(labels->GetBufferPointer(), v.voxels(), v, options);
    return labels;
}

} // namespace flare

#endif // FLARE_ITK_HPP
