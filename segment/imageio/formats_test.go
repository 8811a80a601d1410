package imageio

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/testenv"
	"github.com/libflare/libflare/segment/volume"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The list of endings is the formats' own.
func TestEndings(t *testing.T) {
	var endings []string
	for _, f := range formats {
		endings = append(endings, f.ending)
	}
	assert.Equal(t, endings, Endings)
}

// unpack puts a golden's files into a fresh folder and returns the path of the image.
func unpack(t testing.TB, g golden) string {
	folder := t.TempDir()
	for name, content := range g.Files {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), content, 0o600))
	}
	return filepath.Join(folder, g.File)
}

// TestFormats compares NRRD and MetaImage files with what SimpleITK reads there; see
// testdata/make_formats.py.
func TestFormats(t *testing.T) {
	kinds := map[string]fault.Kind{"format": fault.Format, "unsupported": fault.Unsupported}
	for _, g := range goldens(t, "formats.json") {
		t.Run(g.File, func(t *testing.T) {
			path := unpack(t, g)
			if g.Refused != "" {
				before := cmem.Live()
				_, err := Read(t.Context(), path)
				require.Error(t, err)
				require.Equal(t, kinds[g.Refused], fault.KindOf(err), err.Error())
				require.ErrorContains(t, err, filepath.Dir(path)) // the header, or the file of its voxels
				require.Equal(t, before, cmem.Live(), "C memory leaked")
				return
			}
			before := cmem.Live()
			im, err := Read(t.Context(), path)
			require.NoError(t, err)
			match(t, g, im)
			assert.Equal(t, g.NotFinite, im.NotFinite)
			dtype := g.DType
			if wide[dtype] != "" {
				dtype = wide[dtype]
			}
			assert.Equal(t, dtype, im.DType.String())
			im.Free()
			assert.Equal(t, before, cmem.Live())
		})
	}
}

// TestFormatsForSimpleITK writes labels and voxels on every grid of the NRRD and MetaImage
// files and of some NIfTI files in every format and reads them back: geometry and voxels are the same.
// With `go test -artifacts` the files stay, and testdata/make_formats.py --check-written reads
// them with SimpleITK.
func TestFormatsForSimpleITK(t *testing.T) {
	out := t.ArtifactDir()
	var want []map[string]any // for make_formats.py
	check := func(path string, im *Image, v *volume.Volume, axes int, delta float64) {
		back, err := Read(t.Context(), path)
		require.NoError(t, err)
		defer back.Free()
		assert.Equal(t, im.Size, back.Size, path)
		assert.Equal(t, v.Channels, back.Channels, path)
		assert.Equal(t, v.DType, back.DType, path)
		assert.Equal(t, v.Data, back.Data, path)
		assert.InDeltaSlice(t, im.Spacing[:], back.Spacing[:], delta, path)
		assert.InDeltaSlice(t, im.Origin[:], back.Origin[:], delta, path)
		assert.InDeltaSlice(t, im.Direction[:], back.Direction[:], delta, path)
		if strings.Contains(path, ".nii") {
			return // TestForSimpleITK's matter
		}
		x := values(v)
		want = append(want, map[string]any{"file": filepath.Base(path), "size": v.Size[:axes], "spacing": im.Spacing, "origin": im.Origin,
			"direction": im.Direction, "channels": v.Channels, "dtype": v.DType.String(), "first": x[:4], "last": x[len(x)-4:]})
	}
	all := goldens(t, "formats.json")
	for _, name := range []string{"2d.nii", "4d.nii.gz", "sform_oblique.nii", "qform.nii"} {
		content, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(t, err)
		all = append(all, golden{File: name, Files: map[string][]byte{name: content}})
	}
	done := map[string]bool{}
	for _, g := range all {
		if g.Refused != "" {
			continue
		}
		im, err := Read(t.Context(), unpack(t, g))
		require.NoError(t, err)
		if grid := fmt.Sprint(im.Geometry, im.Dims, im.Channels, im.DType); done[grid] {
			im.Free()
			continue
		} else {
			done[grid] = true
		}
		for i, ending := range Endings {
			delta := 1e-13
			if strings.Contains(ending, ".nii") {
				delta = 1e-5 // its numbers are float32
			}
			labels, err := volume.New(im.Geometry, 1, []volume.DType{volume.Uint8, volume.Uint16}[i%2])
			require.NoError(t, err)
			for i := range labels.Data {
				labels.Data[i] = byte(i % 14)
			}
			name := filepath.Join(out, strings.ReplaceAll(g.File, ".", "_"))
			require.NoError(t, im.WriteLabels(t.Context(), name+"_labels"+ending, labels, Segment{1, "liver"}))
			axes := min(im.Dims, 3)
			if ending == ".seg.nrrd" {
				axes = 3
			}
			check(name+"_labels"+ending, im, labels, axes, delta)
			labels.Free()
			require.NoError(t, Write(t.Context(), name+"_write"+ending, im.Volume))
			check(name+"_write"+ending, im, im.Volume, 3, delta)
		}
		im.Free()
	}
	text, err := json.Marshal(want)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(out, "want.json"), text, 0o666))
	assert.Zero(t, cmem.Live())
}

// ct is a small image of zeros with an oblique geometry.
func ct(t *testing.T, path string) *Image {
	g := volume.Geometry{Size: [3]int{5, 4, 3}, Spacing: [3]float64{0.7, 0.8, 2.5}, Origin: [3]float64{-100.5, 20, 7},
		Direction: [9]float64{0.6, 0.8, 0, -0.8, 0.6, 0, 0, 0, -1}}
	v, err := volume.New(g, 1, volume.Int16)
	require.NoError(t, err)
	defer v.Free()
	clear(v.Data)
	require.NoError(t, Write(t.Context(), path, v))
	im, err := Read(t.Context(), path)
	require.NoError(t, err)
	return im
}

// The header of a segmentation names every segment, with its box.
func TestSegmentation(t *testing.T) {
	folder := t.TempDir()
	im := ct(t, filepath.Join(folder, "ct.mha"))
	defer im.Free()
	labels, err := volume.New(im.Geometry, 1, volume.Uint16)
	require.NoError(t, err)
	defer labels.Free()
	x := volume.As[uint16](labels)
	clear(x)
	x[20+5+1], x[40+15+3], x[7] = 1, 1, 300 // (1,1,1), (3,3,2); (2,1,0)
	path := filepath.Join(folder, "labels.seg.nrrd")
	require.NoError(t, im.WriteLabels(t.Context(), path, labels, Segment{0, "background"}, Segment{1, "Leber\\\n"}, Segment{2, "spleen"}))
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	text, _, _ := strings.Cut(string(content), "\n\n")
	for _, line := range []string{
		"Segment0_Name:=Leber\\\\\\n", "Segment0_LabelValue:=1", "Segment0_Extent:=1 3 1 3 1 2", "Segment0_Layer:=0", "Segment0_ID:=Segment_1",
		"Segment1_Name:=spleen", "Segment1_LabelValue:=2", "Segment1_Extent:=0 -1 0 -1 0 -1",
		"Segment2_Name:=Segment_300", "Segment2_LabelValue:=300", "Segment2_Extent:=2 2 1 1 0 0",
		"Segmentation_MasterRepresentation:=Binary labelmap", "Segmentation_ContainedRepresentationNames:=Binary labelmap|",
	} {
		assert.Contains(t, strings.Split(text, "\n"), line)
	}
	assert.NotContains(t, text, "Segment3")
	assert.NotContains(t, text, "background")
}

func TestColours(t *testing.T) {
	seen := map[[3]uint8]bool{}
	for label := 1; label <= 30; label++ {
		c := Colour(label, "")
		seen[c] = true
		assert.GreaterOrEqual(t, min(c[0], c[1], c[2]), uint8(80), c)
	}
	for _, organ := range colours {
		seen[organ] = true
	}
	assert.Len(t, seen, 30+len(colours))
	assert.Equal(t, [3]uint8{89, 255, 138}, Colour(1, "tumour"))
	for name, organ := range map[string]string{"Kidney_right": "right kidney", "adrenal_gland_left": "left adrenal", "gall-bladder": "gallbladder",
		"Oesophagus": "esophagus", "postcava": "inferior vena cava", "IVC": "inferior vena cava"} {
		require.Contains(t, colours, words(organ))
		assert.Equal(t, colours[words(organ)], Colour(3, name), name)
	}
}

// The file with the voxels of a header is replaced with it, but not another image's.
func TestDetachedIsOwn(t *testing.T) {
	for ending, data := range map[string]string{".nhdr": ".raw.gz", ".MHD": ".zraw"} {
		folder := t.TempDir()
		im := ct(t, filepath.Join(folder, "ct.nrrd"))
		labels, err := volume.New(im.Geometry, 1, volume.Uint8)
		require.NoError(t, err)
		clear(labels.Data)
		path := filepath.Join(folder, "a"+ending)
		for range 2 {
			require.NoError(t, Writable(path))
			require.NoError(t, im.WriteLabels(t.Context(), path, labels))
			assert.Equal(t, []string{"a" + ending, "a" + data, "ct.nrrd"}, entries(t, folder))
		}
		require.NoError(t, os.WriteFile(filepath.Join(folder, "b"+data), []byte("other"), 0o600))
		path = filepath.Join(folder, "b"+ending)
		for _, err := range []error{Writable(path), im.WriteLabels(t.Context(), path, labels)} {
			assert.Equal(t, fault.IO, fault.KindOf(err))
			assert.ErrorContains(t, err, "b"+data+", which exists")
		}
		assert.Equal(t, []string{"a" + ending, "a" + data, "b" + data, "ct.nrrd"}, entries(t, folder))
		err = Writable(filepath.Join(folder, "100%"+ending))
		assert.Equal(t, fault.Argument, fault.KindOf(err))
		require.NoError(t, os.Remove(filepath.Join(folder, "a"+data)))
		_, err = Read(t.Context(), filepath.Join(folder, "a"+ending))
		assert.Equal(t, fault.NotFound, fault.KindOf(err))
		assert.ErrorContains(t, err, "a"+data+": no such file")
		labels.Free()
		im.Free()
	}
}

// A folder of images in several formats, with channels of cases.
func TestCasesOfFormats(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"a_0000.nrrd", "a_0001.nrrd", "b.mha", "c_0000.mhd", "c_0001.mhd", "c_0000.raw", "d.txt", "e.seg.nrrd"} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte("x"), 0o600))
	}
	files, err := Cases(folder)
	require.NoError(t, err)
	for i := range files {
		files[i] = filepath.Base(files[i])
	}
	assert.Equal(t, []string{"a_0000.nrrd", "b.mha", "c_0000.mhd", "e.seg.nrrd"}, files)
	channels, err := CaseFiles(filepath.Join(folder, "c_0000.mhd"))
	require.NoError(t, err)
	assert.Equal(t, []string{filepath.Join(folder, "c_0000.mhd"), filepath.Join(folder, "c_0001.mhd")}, channels)
}

// DICOM is refused with the command that converts it.
func TestDICOM(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "IM0001")
	require.NoError(t, os.WriteFile(file, append(make([]byte, 128), "DICM\x02\x00"...), 0o600))
	_, err := Cases(folder)
	for _, err := range []error{err, Known(file)} {
		assert.Equal(t, fault.Unsupported, fault.KindOf(err))
		assert.ErrorContains(t, err, "flare dicom -m MODEL '"+folder+"' OUT.dcm")
		assert.ErrorContains(t, err, "GetGDCMSeriesFileNames('"+folder+"')")
	}
	refuse(t, file, fault.Unsupported, "DICOM")
	refuse(t, folder, fault.Unsupported, "DICOM")
}

// TestRealFormats reads NRRD files that dcmqi made of DICOM, and asks for the slices.
func TestRealFormats(t *testing.T) {
	for _, g := range goldens(t, "formats_real.json") {
		im, err := Read(t.Context(), testenv.Data(t, g.File))
		require.NoError(t, err, g.File)
		match(t, g, im)
		assert.Equal(t, g.DType, im.DType.String())
		im.Free()
	}
	_, err := Cases(testenv.Data(t, "io_corner_cases/dcmqi/ct-3slice"))
	assert.ErrorContains(t, err, "DICOM")
}
