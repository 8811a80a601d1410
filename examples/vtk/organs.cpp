// Segments a CT and shows the organs' surfaces, with the bones around them.
//
//     organs MODEL CT.nii.gz                       in a window: drag to turn, wheel to zoom
//     organs MODEL CT.nii.gz --save picture.png    without a window
//
// Research software, not a medical device.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <flare.hpp>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <vtkActor.h>
#include <vtkCamera.h>
#include <vtkDiscreteFlyingEdges3D.h>
#include <vtkFlyingEdges3D.h>
#include <vtkImageData.h>
#include <vtkImageGaussianSmooth.h>
#include <vtkImageShiftScale.h>
#include <vtkInteractorStyleTrackballCamera.h>
#include <vtkLegendBoxActor.h>
#include <vtkLightKit.h>
#include <vtkMatrix4x4.h>
#include <vtkNIFTIImageReader.h>
#include <vtkNew.h>
#include <vtkPNGWriter.h>
#include <vtkPlaneSource.h>
#include <vtkPolyDataMapper.h>
#include <vtkPolyDataNormals.h>
#include <vtkProperty.h>
#include <vtkRenderWindow.h>
#include <vtkRenderWindowInteractor.h>
#include <vtkRenderer.h>
#include <vtkSmartPointer.h>
#include <vtkTextProperty.h>
#include <vtkTransform.h>
#include <vtkTransformPolyDataFilter.h>
#include <vtkWindowToImageFilter.h>
#include <vtkWindowedSincPolyDataFilter.h>
#include <vtk_jsoncpp.h>

using Color = std::array<double, 3>;

// A CT: its voxels, and the matrix that takes VTK's place of a voxel (index times spacing) to LPS.
struct Scan {
    vtkSmartPointer<vtkImageData> image;
    vtkNew<vtkMatrix4x4> to_lps;
};

static void read_scan(const std::string &path, Scan &scan) {
    vtkNew<vtkNIFTIImageReader> reader;
    if (!reader->CanReadFile(path.c_str())) throw std::runtime_error(path + ": not a NIfTI file that can be read");
    reader->SetFileName(path.c_str());
    reader->Update();
    scan.image = reader->GetOutput();
    if (reader->GetTimeDimension() > 1 || scan.image->GetNumberOfScalarComponents() != 1)
        throw std::runtime_error(path + ": several values per voxel, expected one");
    if (reader->GetRescaleSlope() != 1 || reader->GetRescaleIntercept() != 0) {
        vtkNew<vtkImageShiftScale> scale; // (value + shift) * scale
        scale->SetInputData(scan.image);
        scale->SetScale(reader->GetRescaleSlope());
        scale->SetShift(reader->GetRescaleIntercept() / reader->GetRescaleSlope());
        scale->SetOutputScalarTypeToFloat();
        scale->Update();
        scan.image = scale->GetOutput();
    }
    vtkMatrix4x4 *to_ras = reader->GetSFormMatrix() ? reader->GetSFormMatrix() : reader->GetQFormMatrix();
    if (to_ras) scan.to_lps->DeepCopy(to_ras);
    for (int i = 0; i < 2; i++) // RAS to LPS
        for (int j = 0; j < 4; j++) scan.to_lps->SetElement(i, j, -scan.to_lps->GetElement(i, j));
}

// The voxels where VTK keeps them: nothing is copied.
static flare::VolumeView view(const Scan &scan) {
    int size[3];
    double spacing[3];
    scan.image->GetDimensions(size);
    scan.image->GetSpacing(spacing);
    flare::VolumeView v(static_cast<const std::uint8_t *>(scan.image->GetScalarPointer()), {size[0], size[1], size[2]},
                        {spacing[0], spacing[1], spacing[2]});
    switch (scan.image->GetScalarType()) {
    case VTK_UNSIGNED_CHAR: v.dtype = FLARE_UINT8; break;
    case VTK_SHORT: v.dtype = FLARE_INT16; break;
    case VTK_UNSIGNED_SHORT: v.dtype = FLARE_UINT16; break;
    case VTK_INT: v.dtype = FLARE_INT32; break;
    case VTK_FLOAT: v.dtype = FLARE_FLOAT32; break;
    case VTK_DOUBLE: v.dtype = FLARE_FLOAT64; break;
    default: throw std::runtime_error(std::string("voxels of type ") + scan.image->GetScalarTypeAsString() + " are not supported");
    }
    for (int i = 0; i < 3; i++) {
        v.origin[i] = scan.to_lps->GetElement(i, 3);
        for (int j = 0; j < 3; j++) v.direction[3 * i + j] = scan.to_lps->GetElement(i, j);
    }
    return v;
}

static vtkSmartPointer<vtkImageData> segment(const flare::Model &model, const Scan &scan) {
    auto labels = vtkSmartPointer<vtkImageData>::New();
    labels->CopyStructure(scan.image);
    labels->AllocateScalars(VTK_UNSIGNED_CHAR, 1);
    flare::SegmentOptions options;
    options.progress = [](double fraction, const char *phase) {
        std::cerr << "\r" << int(100 * fraction) << " % " << phase << "        " << std::flush;
        return true;
    };
    model.segment_into(static_cast<std::uint8_t *>(labels->GetScalarPointer()),
                       std::size_t(labels->GetNumberOfPoints()), view(scan), options);
    std::cerr << "\n";
    return labels;
}

// An actor with the surface that a filter makes, at its place in the patient; smoothed, so that
// what is left is not much finer than detail (mm).
static vtkSmartPointer<vtkActor> surface(vtkAlgorithm &edges, const Scan &scan, double detail, const Color &color) {
    vtkNew<vtkWindowedSincPolyDataFilter> smooth;
    smooth->SetInputConnection(edges.GetOutputPort());
    smooth->SetNumberOfIterations(60);
    const double steps = scan.image->GetSpacing()[0] / detail; // the pass band is of waves on the mesh, squared
    smooth->SetPassBand(std::min(1.0, steps * steps));
    smooth->NormalizeCoordinatesOn();
    vtkNew<vtkTransform> place;
    place->SetMatrix(scan.to_lps);
    vtkNew<vtkTransformPolyDataFilter> placed;
    placed->SetTransform(place);
    placed->SetInputConnection(smooth->GetOutputPort());
    vtkNew<vtkPolyDataNormals> normals;
    normals->SetInputConnection(placed->GetOutputPort());
    normals->SplittingOff();
    normals->AutoOrientNormalsOn();
    vtkNew<vtkPolyDataMapper> mapper;
    mapper->SetInputConnection(normals->GetOutputPort());
    mapper->ScalarVisibilityOff();
    auto actor = vtkSmartPointer<vtkActor>::New();
    actor->SetMapper(mapper);
    vtkProperty *look = actor->GetProperty();
    look->SetColor(color[0], color[1], color[2]);
    look->SetInterpolationToPhong();
    look->SetAmbient(0.12);
    look->SetDiffuse(0.85);
    look->SetSpecular(0.25);
    look->SetSpecularPower(25);
    return actor;
}

// Colours that lie far apart, for labels 1, 2, ...
static Color color_of(int label) {
    static const Color colors[] = {{.70, .32, .26}, {.93, .56, .29}, {.60, .42, .78}, {.97, .85, .42}, {.88, .18, .18},
                                   {.25, .45, .90}, {.62, .90, .35}, {.25, .80, .62}, {.20, .62, .28}, {.80, .62, .48},
                                   {.40, .75, .90}, {.93, .52, .74}, {.95, .66, .34}};
    return colors[(label - 1) % (sizeof colors / sizeof *colors)];
}

// Adds every organ that was found to the scene and to the legend.
static void add_organs(const flare::Model &model, vtkImageData *labels, const Scan &scan, vtkRenderer &scene) {
    Json::Value description;
    Json::CharReaderBuilder builder;
    std::istringstream text(model.describe());
    Json::parseFromStream(builder, text, &description, nullptr);
    vtkNew<vtkLegendBoxActor> legend;
    vtkNew<vtkPlaneSource> square;
    square->Update();
    const auto *voxels = static_cast<const std::uint8_t *>(labels->GetScalarPointer());
    const double *spacing = labels->GetSpacing();
    int entries = 0;
    for (const Json::Value &label : description["labels"]) {
        const int value = label["value"].asInt();
        const auto count = std::count(voxels, voxels + labels->GetNumberOfPoints(), value);
        if (value == 0 || count == 0) continue;
        std::cout << label["name"].asString() << ": " << count << " voxels, "
                  << double(count) * spacing[0] * spacing[1] * spacing[2] / 1000 << " ml\n";
        vtkNew<vtkDiscreteFlyingEdges3D> edges;
        edges->SetInputData(labels);
        edges->SetValue(0, value);
        const Color color = color_of(value);
        scene.AddActor(surface(*edges, scan, 20, color));
        legend->SetNumberOfEntries(++entries);
        legend->SetEntry(entries - 1, square->GetOutput(), label["name"].asCString(), Color(color).data());
    }
    legend->GetPositionCoordinate()->SetCoordinateSystemToNormalizedViewport();
    legend->GetPositionCoordinate()->SetValue(0.01, 0.02);
    legend->GetPosition2Coordinate()->SetCoordinateSystemToNormalizedViewport();
    legend->GetPosition2Coordinate()->SetValue(0.23, 0.036 * entries);
    legend->BorderOff();
    legend->GetEntryTextProperty()->SetColor(0.9, 0.9, 0.92);
    legend->GetEntryTextProperty()->ShadowOff();
    scene.AddActor(legend);
}

static void add_bones(const Scan &scan, vtkRenderer &scene) {
    vtkNew<vtkImageGaussianSmooth> smooth;
    smooth->SetInputData(scan.image);
    const double *spacing = scan.image->GetSpacing();
    smooth->SetStandardDeviations(1.5 / spacing[0], 1.5 / spacing[1], 1.5 / spacing[2]); // 1.5 mm
    vtkNew<vtkFlyingEdges3D> edges;
    edges->SetInputConnection(smooth->GetOutputPort());
    edges->SetValue(0, 180); // HU
    edges->ComputeNormalsOff();
    auto bones = surface(*edges, scan, 5, {.93, .90, .82});
    bones->GetProperty()->SetOpacity(0.3);
    scene.AddActor(bones);
}

// Looks at the patient from the front: his right is on the left.
static void place_camera(vtkRenderer &scene) {
    vtkCamera *camera = scene.GetActiveCamera();
    camera->SetFocalPoint(0, 0, 0);
    camera->SetPosition(0, -1, 0);
    camera->SetViewUp(0, 0, 1);
    camera->Azimuth(-12);
    camera->Elevation(8);
    scene.ResetCamera();
    camera->Zoom(1.35);
    scene.ResetCameraClippingRange();
}

static void show(vtkRenderer &scene, const std::string &save) {
    vtkNew<vtkRenderWindow> window;
    window->SetSize(900, 720);
    window->SetWindowName("libflare");
    window->SetMultiSamples(8);
    window->AddRenderer(&scene);
    if (save.empty()) {
        vtkNew<vtkRenderWindowInteractor> mouse;
        vtkNew<vtkInteractorStyleTrackballCamera> style;
        mouse->SetInteractorStyle(style);
        mouse->SetRenderWindow(window);
        window->Render();
        mouse->Start();
        return;
    }
    window->OffScreenRenderingOn();
    window->Render();
    vtkNew<vtkWindowToImageFilter> picture;
    picture->SetInput(window);
    picture->ReadFrontBufferOff();
    vtkNew<vtkPNGWriter> writer;
    writer->SetInputConnection(picture->GetOutputPort());
    writer->SetFileName(save.c_str());
    writer->SetCompressionLevel(9);
    writer->Write();
    if (writer->GetErrorCode() != 0) throw std::runtime_error(save + ": cannot be written");
}

int main(int argc, char **argv) try {
    const std::string option = argc == 5 ? argv[3] : "";
    if (argc != 3 && option != "--save") {
        std::cerr << "usage: organs MODEL CT.nii.gz [--save PICTURE.png]\n";
        return 2;
    }
    if (std::getenv("DISPLAY") == nullptr) // VTK would abort
        throw std::runtime_error("VTK draws through an X server, and DISPLAY names none; without a screen: xvfb-run -a organs ...");
    Scan scan;
    read_scan(argv[2], scan);
    const flare::Model model(argv[1]);
    const auto labels = segment(model, scan);

    vtkNew<vtkRenderer> scene;
    scene->SetBackground(0.03, 0.035, 0.05);
    scene->SetBackground2(0.16, 0.18, 0.22);
    scene->GradientBackgroundOn();
    add_organs(model, labels, scan, *scene);
    add_bones(scan, *scene);
    place_camera(*scene);
    vtkNew<vtkLightKit> lights;
    lights->SetKeyLightIntensity(0.9);
    lights->AddLightsToRenderer(scene);
    show(*scene, argc == 5 ? argv[4] : "");
    return 0;
} catch (const flare::Error &e) {
    std::cerr << "organs: " << e.what() << " (" << flare_status_name(e.status()) << ")\n";
    return 1;
} catch (const std::exception &e) {
    std::cerr << "organs: " << e.what() << "\n";
    return 1;
}
