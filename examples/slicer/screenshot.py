"""Makes segmentation.png: python screenshot.py MODEL CLI

Segments a synthetic CT with the extension's logic and lets Slicer's own displayable managers draw
the segmentation node: a slice with its overlay, and the organs' surfaces. Needs what the tests
need.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "Flare"))
from Testing import Utils  # noqa: E402  first: it makes a scene

import views  # noqa: E402
import vtk  # noqa: E402


def main(model, cli):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([cli, "phantom", folder], check=True)
        volume = Utils.load(Path(folder) / "imagesTr" / "phantom_0000_0000.nii.gz")
    views.show(volume)
    run = Utils.Run().start(volume, modelPath=model).wait()
    assert run.ended == "finished", run.error
    assert run.node.CreateClosedSurfaceRepresentation()  # "Show 3D"
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    both = vtk.vtkImageAppend()
    both.AddInputData(
        views.SliceView(volume, "Axial", 0.45 * bounds[4] + 0.55 * bounds[5]).picture()
    )
    both.AddInputData(views.ThreeDView().picture())
    writer = vtk.vtkPNGWriter()
    writer.SetCompressionLevel(9)
    writer.SetInputConnection(both.GetOutputPort())
    writer.SetFileName(str(HERE / "segmentation.png"))
    writer.Write()


if __name__ == "__main__":
    main(*sys.argv[1:])
