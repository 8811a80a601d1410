"""Makes segmentation.png: python screenshot.py MODEL CLI

Segments a synthetic CT with the extension's logic and lets Slicer's own displayable managers draw
the segmentation node, without a screen: a slice with its overlay, and the organs' surfaces.
Needs what the tests need.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "Flare"))
from Testing import Utils  # noqa: E402  first: it makes a scene

import slicer  # noqa: E402
import vtk  # noqa: E402

SIZE = 480  # pixels of each view


def window(renderer):
    made = vtk.vtkRenderWindow()
    made.SetOffScreenRendering(True)
    made.SetMultiSamples(4)
    made.SetSize(SIZE, SIZE)
    made.AddRenderer(renderer)
    interactor = vtk.vtkRenderWindowInteractor()
    interactor.SetRenderWindow(made)
    renderer.interactor = interactor  # it lives as long
    return made


def draw(renderer, manager, view):
    """Lets one of Slicer's displayable managers draw into a renderer."""
    group = slicer.vtkMRMLDisplayableManagerGroup()
    group.SetRenderer(renderer)
    manager.SetMRMLApplicationLogic(APPLICATION)
    group.AddDisplayableManager(manager)
    group.SetMRMLDisplayableNode(view)
    renderer.group = group


def picture(made):
    made.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(made)
    grab.ReadFrontBufferOff()
    grab.Update()
    return grab.GetOutput()


def slicePicture(volume, z):
    """An axial slice at a place in mm, with all segmentations of the scene."""
    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLApplicationLogic(APPLICATION)
    logic.SetMRMLScene(slicer.mrmlScene)
    node = logic.AddSliceNode("Red")
    logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
    node.SetOrientationToAxial()
    node.SetDimensions(SIZE, SIZE, 1)
    logic.FitSliceToAll(SIZE, SIZE)
    logic.SetSliceOffset(z)
    renderer = vtk.vtkRenderer()
    mapper = vtk.vtkImageMapper()
    mapper.SetInputConnection(logic.GetImageDataConnection())
    mapper.SetColorWindow(255)
    mapper.SetColorLevel(127.5)
    actor = vtk.vtkActor2D()
    actor.SetMapper(mapper)
    renderer.AddViewProp(actor)
    made = window(renderer)
    draw(renderer, slicer.vtkMRMLSegmentationsDisplayableManager2D(), node)
    return picture(made)


def surfacePicture(segmentation):
    """The organs from the front, as "Show 3D" shows them."""
    assert segmentation.CreateClosedSurfaceRepresentation()
    renderer = vtk.vtkRenderer()
    renderer.SetBackground(0.76, 0.76, 0.91)  # as Slicer's 3-D views
    renderer.SetBackground2(0.45, 0.47, 0.74)
    renderer.GradientBackgroundOn()
    made = window(renderer)
    view = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLViewNode")
    draw(renderer, slicer.vtkMRMLSegmentationsDisplayableManager3D(), view)
    camera = renderer.GetActiveCamera()
    camera.SetPosition(0, 1, 0.1)
    camera.SetFocalPoint(0, 0, 0)
    camera.SetViewUp(0, 0, 1)
    renderer.ResetCamera()
    camera.Zoom(1.3)
    return picture(made)


def main(model, cli):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([cli, "phantom", folder], check=True)
        node = Utils.load(Path(folder) / "imagesTr" / "phantom_0000_0000.nii.gz")
    grey = slicer.vtkMRMLColorTableNode()
    grey.SetTypeToGrey()
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID(slicer.mrmlScene.AddNode(grey).GetID())
    display.AutoWindowLevelOff()
    display.SetWindowLevel(400, 40)
    run = Utils.Run().start(node, modelPath=model).wait()
    assert run.ended == "finished", run.error
    bounds = [0.0] * 6
    node.GetRASBounds(bounds)
    append = vtk.vtkImageAppend()
    append.AddInputData(slicePicture(node, 0.45 * bounds[4] + 0.55 * bounds[5]))
    append.AddInputData(surfacePicture(run.node))
    writer = vtk.vtkPNGWriter()
    writer.SetCompressionLevel(9)
    writer.SetInputConnection(append.GetOutputPort())
    writer.SetFileName(str(HERE / "segmentation.png"))
    writer.Write()


APPLICATION = slicer.vtkMRMLApplicationLogic()
APPLICATION.SetMRMLScene(slicer.mrmlScene)
factory = slicer.vtkSegmentationConverterFactory.GetInstance()  # Slicer does this when it starts
factory.RegisterConverterRule(slicer.vtkBinaryLabelmapToClosedSurfaceConversionRule())

if __name__ == "__main__":
    main(*sys.argv[1:])
