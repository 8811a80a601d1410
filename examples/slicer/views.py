"""Slicer's slice and 3-D views without a screen: its own displayable managers draw into VTK windows."""

import slicer
import vtk

SIZE = 480  # pixels of a view along each side

APPLICATION = slicer.vtkMRMLApplicationLogic()
APPLICATION.SetMRMLScene(slicer.mrmlScene)
# Slicer does this when it starts.
factory = slicer.vtkSegmentationConverterFactory.GetInstance()
factory.RegisterConverterRule(slicer.vtkBinaryLabelmapToClosedSurfaceConversionRule())


def show(volume):
    """Gives a volume that was loaded the display of a CT."""
    grey = slicer.vtkMRMLColorTableNode()
    grey.SetTypeToGrey()
    volume.CreateDefaultDisplayNodes()
    display = volume.GetDisplayNode()
    display.SetAndObserveColorNodeID(slicer.mrmlScene.AddNode(grey).GetID())
    display.AutoWindowLevelOff()
    display.SetWindowLevel(400, 40)


class View:
    """A window of one renderer that a displayable manager draws into; holds what these need."""

    def __init__(self, renderer, manager, node):
        self.renderer, self.window = renderer, vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(True)
        self.window.SetMultiSamples(4)
        self.window.SetSize(SIZE, SIZE)
        self.window.AddRenderer(renderer)
        self.interactor = vtk.vtkRenderWindowInteractor()
        self.interactor.SetRenderWindow(self.window)
        self.group = slicer.vtkMRMLDisplayableManagerGroup()
        self.group.SetRenderer(renderer)
        manager.SetMRMLApplicationLogic(APPLICATION)
        self.group.AddDisplayableManager(manager)
        self.group.SetMRMLDisplayableNode(node)

    def render(self):
        self.window.Render()

    def picture(self):
        self.render()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self.window)
        grab.ReadFrontBufferOff()
        grab.Update()
        return grab.GetOutput()


class SliceView(View):
    """A slice of a volume, with all segmentations of the scene. orientation is Axial, Coronal or
    Sagittal; offset where along its normal, in mm (None: the middle)."""

    def __init__(self, volume, orientation, offset=None):
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(APPLICATION)
        self.logic.SetMRMLScene(slicer.mrmlScene)
        node = self.logic.AddSliceNode(orientation)
        self.logic.GetSliceCompositeNode().SetBackgroundVolumeID(volume.GetID())
        node.SetOrientation(orientation)
        node.SetDimensions(SIZE, SIZE, 1)
        self.logic.FitSliceToAll(SIZE, SIZE)
        if offset is not None:
            self.logic.SetSliceOffset(offset)
        mapper = vtk.vtkImageMapper()
        mapper.SetInputConnection(self.logic.GetImageDataConnection())
        mapper.SetColorWindow(255)
        mapper.SetColorLevel(127.5)
        actor = vtk.vtkActor2D()
        actor.SetMapper(mapper)
        renderer = vtk.vtkRenderer()
        renderer.AddViewProp(actor)
        super().__init__(renderer, slicer.vtkMRMLSegmentationsDisplayableManager2D(), node)


class ThreeDView(View):
    """The surfaces of all segmentations that have them, from the front."""

    def __init__(self):
        renderer = vtk.vtkRenderer()
        renderer.SetBackground(0.76, 0.76, 0.91)  # as Slicer's
        renderer.SetBackground2(0.45, 0.47, 0.74)
        renderer.GradientBackgroundOn()
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLViewNode")
        super().__init__(renderer, slicer.vtkMRMLSegmentationsDisplayableManager3D(), node)
        camera = renderer.GetActiveCamera()
        camera.SetPosition(0, 1, 0.1)
        camera.SetFocalPoint(0, 0, 0)
        camera.SetViewUp(0, 0, 1)
        renderer.ResetCamera()
        camera.Zoom(1.3)
