package imageio

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
)

// channel matches the name of a channel's file without its ending, by nnU-Net's naming.
var channel = regexp.MustCompile(`^(.*)_(\d{4})$`)

// Cases lists the image files of a folder, in the order of their names: of a case with
// several channels the first, case_0000, which stands for all. Several files of a case
// without the first are refused; one alone is an image whose name ends so. Errors are of
// kind NotFound (the folder, an image in it, a first channel), Unsupported (DICOM) or IO.
func Cases(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, fault.File(folder, err)
	}
	var files []string
	headless := map[string]string{} // by the first file of a case that lacks it: another one
	for _, e := range entries {
		if e.IsDir() || strings.HasPrefix(e.Name(), ".") || Ending(e.Name()) == "" {
			continue
		}
		stem := e.Name()[:len(e.Name())-len(Ending(e.Name()))]
		if m := channel.FindStringSubmatch(stem); m != nil && m[2] != "0000" {
			first := filepath.Join(folder, m[1]+"_0000"+e.Name()[len(stem):])
			if _, err := os.Stat(first); err == nil {
				continue
			}
			if other, known := headless[first]; known {
				return nil, fault.New(fault.NotFound, "%s is missing: by nnU-Net's naming, %s and %s are further channels of one case. "+
					"(Names of images that are cases of their own must not differ in four digits behind the last _ alone.)", first, other, e.Name())
			}
			headless[first] = e.Name()
		}
		files = append(files, filepath.Join(folder, e.Name()))
	}
	if len(files) == 0 && holdsDICOM(folder) {
		return nil, dicom(folder)
	}
	if len(files) == 0 {
		return nil, fault.New(fault.NotFound, "%s holds no image file (%s)", folder, strings.Join(Endings, ", "))
	}
	return files, nil
}

// CaseName returns the name of the case whose first file is path: the file's without its
// ending and nnU-Net's _0000.
func CaseName(path string) string {
	name := filepath.Base(path)
	return strings.TrimSuffix(name[:len(name)-len(Ending(name))], "_0000")
}
