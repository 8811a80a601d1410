package imageio

import (
	"os"
	"path/filepath"

	"github.com/libflare/libflare/segment/internal/fault"
)

// isDICOM reports whether path is a DICOM file: DICM stands behind a preamble of 128 bytes
// (PS3.10, 7.1).
func isDICOM(path string) bool {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var magic [4]byte
	_, err = f.ReadAt(magic[:], 128)
	return err == nil && string(magic[:]) == "DICM"
}

// holdsDICOM reports whether one of a folder's first files is DICOM.
func holdsDICOM(folder string) bool {
	entries, _ := os.ReadDir(folder)
	for _, e := range entries[:min(len(entries), 20)] {
		if isDICOM(filepath.Join(folder, e.Name())) {
			return true
		}
	}
	return false
}

// dicom says what segments or converts the series that path, a file or a folder, is of.
func dicom(path string) error {
	folder := path
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		folder = filepath.Dir(path)
	}
	return fault.New(fault.Unsupported, "%s: DICOM, which is not read here. With the Python package, pip install 'libflare-....whl[dicom]', "+
		"flare dicom -m MODEL '%s' OUT.dcm segments the series; or convert it with SimpleITK: "+
		`python -c "import SimpleITK as s; s.WriteImage(s.ReadImage(s.ImageSeriesReader.GetGDCMSeriesFileNames('%s')), 'image.nii.gz')"`, path, folder, folder)
}
