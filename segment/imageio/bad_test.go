package imageio

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var voxels = make([]int16, 24)

func TestEnding(t *testing.T) {
	for path, want := range map[string]string{
		"a.nii": ".nii", "b/a.b.NII.gz": ".nii.gz", "a.Nii": ".nii", ".nii": ".nii",
		"a": "", "a.gz": "", "nii": "", "a.nii.bz2": "", "a.hdr": "", "a.seg.nrrd": ".seg.nrrd", "a.NRRD": ".nrrd", "seg.nrrd": ".nrrd", "a.mha": ".mha", "raw": "", "": "",
	} {
		assert.Equal(t, want, Ending(path), path)
	}
}

func TestRefusesPaths(t *testing.T) {
	refuse(t, filepath.Join(t.TempDir(), "absent.nii.gz"), fault.NotFound, "no such file")
	refuse(t, t.TempDir(), fault.IO, "is a folder")
	refuse(t, put(t, "a.gipl", []byte("x")), fault.Unsupported, ".gipl", ".nii.gz, .nii, .seg.nrrd, .nrrd")
	refuse(t, put(t, "a.hdr", []byte("x")), fault.Unsupported, ".hdr/.img pair")
	if _, err := os.Stat("/dev/null"); err == nil {
		link := filepath.Join(t.TempDir(), "device.nii")
		require.NoError(t, os.Symlink("/dev/null", link))
		refuse(t, link, fault.IO, "not a regular file")
	}
}

func TestRefusesContent(t *testing.T) {
	good := encode(plain(), binary.LittleEndian, voxels)
	packed := gzipped(good)
	flip := func(b []byte, i int) []byte {
		b = append([]byte(nil), b...)
		b[i] ^= 0x55
		return b
	}
	refuse(t, put(t, "empty.nii", nil), fault.Format, "empty")
	refuse(t, put(t, "empty.nii.gz", nil), fault.Format, "empty")
	refuse(t, put(t, "text.nii", []byte("hello, this is not an image")), fault.Format, "sizeof_hdr", "348 or 540")
	refuse(t, put(t, "three.nii", good[:3]), fault.Format, "truncated", "3 bytes")
	refuse(t, put(t, "header.nii", good[:300]), fault.Format, "truncated", "300 bytes", "header")
	refuse(t, put(t, "header.nii.gz", gzipped(good[:300])), fault.Format, "truncated", "300 bytes", "header")
	refuse(t, put(t, "voxels.nii", good[:len(good)-1]), fault.Format, "48 bytes", "the file has 399 bytes", "truncated")
	refuse(t, put(t, "voxels.nii.gz", gzipped(good[:len(good)-1])), fault.Format, "truncated", "voxels")
	refuse(t, put(t, "stream.nii.gz", packed[:len(packed)/2]), fault.Format, "truncated")
	refuse(t, put(t, "checksum.nii.gz", packed[:len(packed)-6]), fault.Format, "truncated", "end of the gzip stream")
	refuse(t, put(t, "crc.nii.gz", flip(packed, len(packed)-6)), fault.Format, "damaged", "checksum")
	refuse(t, put(t, "plain.nii.gz", good), fault.Format, "not a gzip file", "1f 8b")
	refuse(t, put(t, "one.nii.gz", []byte{0x1f}), fault.Format, "not a gzip file")
	refuse(t, put(t, "start.nii.gz", packed[:5]), fault.Format, "truncated", "gzip header")
	refuse(t, put(t, "gzip.nii", packed), fault.Format, ".nii.gz")
	refuse(t, put(t, "magic.nii", flip(good, 344)), fault.Format, "magic", "n+1")
}

// TestGzipEnds reads gzip files with garbage behind, made of several members,
// and with more voxels than announced.
func TestGzipEnds(t *testing.T) {
	good := encode(plain(), binary.LittleEndian, fill[int16](-5, 99))
	packed := gzipped(good)
	for name, content := range map[string][]byte{
		"garbage": append(append([]byte(nil), packed...), "garbage of more than ten bytes"...),
		"zeros":   append(append([]byte(nil), packed...), make([]byte, 512)...),
		"byte":    append(append([]byte(nil), packed...), 0x1f),
		"members": append(gzipped(good[:100]), append(gzipped(nil), gzipped(good[100:])...)...),
		"longer":  gzipped(append(append([]byte(nil), good...), 1, 2, 3)),
	} {
		im, err := Read(t.Context(), put(t, name+".nii.gz", content))
		require.NoError(t, err, name)
		assert.Equal(t, 99.0, values(im.Volume)[23], name)
		im.Free()
	}
}

func TestRefusesHeaders(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, c := range []struct {
		name  string
		spoil func(h *header)
		kind  fault.Kind
		parts []string
	}{
		{"axes 0", func(h *header) { h.Dim[0] = 0 }, fault.Format, []string{"dim[0] is 0"}},
		{"axes 8", func(h *header) { h.Dim[0] = 8 }, fault.Format, []string{"dim[0] is 8"}},
		{"axes negative", func(h *header) { h.Dim[0] = -3 }, fault.Format, []string{"dim[0] is -3"}},
		{"axes 1", func(h *header) { h.Dim = [8]int64{1, 24} }, fault.Unsupported, []string{"1 axis"}},
		{"5 axes", func(h *header) { h.Dim = [8]int64{5, 2, 3, 2, 1, 2} }, fault.Unsupported, []string{"more than 4 axes"}},
		{"negative size", func(h *header) { h.Dim[2] = -3 }, fault.Format, []string{"dim[2] is -3"}},
		{"zero size", func(h *header) { h.Dim[3] = 0 }, fault.Format, []string{"dim[3] is 0"}},
		{"30000^3", func(h *header) { h.Dim = [8]int64{3, 30000, 30000, 30000} }, fault.Format, []string{"30000 x 30000 x 30000", "2^40"}},
		{"2000^3", func(h *header) { h.Dim = [8]int64{3, 2000, 2000, 2000} }, fault.Format, []string{"2000 x 2000 x 2000", "16000000000 bytes"}},
		{"1000 channels", func(h *header) { h.Dim = [8]int64{4, 200, 200, 200, 1000} }, fault.Format, []string{"200 x 200 x 200 x 1000"}},
		{"datatype", func(h *header) { h.Datatype = 3 }, fault.Format, []string{"datatype 3"}},
		{"RGB", func(h *header) { h.Datatype = 128 }, fault.Unsupported, []string{"128", "RGB24"}},
		{"complex", func(h *header) { h.Datatype = 32 }, fault.Unsupported, []string{"32", "complex64"}},
		{"float128", func(h *header) { h.Datatype = 1536 }, fault.Unsupported, []string{"1536", "float128"}},
		{"spacing 0", func(h *header) { h.Pixdim[2] = 0 }, fault.Format, []string{"pixdim[2]", "is 0"}},
		{"spacing NaN", func(h *header) { h.Pixdim[3] = nan }, fault.Format, []string{"pixdim[3]", "NaN"}},
		{"spacing infinite", func(h *header) { h.Pixdim[1] = inf }, fault.Format, []string{"pixdim[1]", "Inf"}},
		{"offset 100", func(h *header) { h.VoxOffset = 100 }, fault.Format, []string{"vox_offset is 100"}},
		{"offset negative", func(h *header) { h.VoxOffset = -352 }, fault.Format, []string{"vox_offset is -352"}},
		{"offset beyond", func(h *header) { h.VoxOffset = 1 << 20 }, fault.Format, []string{"from byte 1048576"}},
		{"offset huge", func(h *header) { h.VoxOffset = 1 << 61 }, fault.Format, []string{"from byte"}},
		{"sform NaN", func(h *header) { h.Srow[1][1] = nan }, fault.Format, []string{"NaN"}},
		{"sform singular", func(h *header) { h.Srow[2][2] = 0 }, fault.Format, []string{"singular"}},
		{"sform zero", func(h *header) { h.Srow = [3][4]float64{} }, fault.Format, []string{"singular"}},
		{"sform sheared", func(h *header) { h.Srow[0][1] = 1 }, fault.Unsupported, []string{"right angles"}},
		{"origin NaN", func(h *header) { h.Srow[0][3] = nan }, fault.Format, []string{"origin along x is NaN"}},
		{"qform NaN", func(h *header) { h.SformCode, h.QformCode, h.Quatern[0] = 0, 1, nan }, fault.Format, []string{"quaternion", "NaN"}},
		{"qoffset infinite", func(h *header) { h.SformCode, h.QformCode, h.Qoffset[1] = 0, 1, inf }, fault.Format, []string{"origin along y"}},
		{"2-D sagittal", func(h *header) {
			h.Dim = [8]int64{2, 4, 6}
			h.Srow = [3][4]float64{{0, 0, 3}, {1.5}, {0, 2}}
		}, fault.Format, []string{"geometry"}},
	} {
		for _, version := range []int32{size1, size2} {
			for _, gz := range []bool{false, true} {
				t.Run(c.name, func(t *testing.T) {
					h := plain()
					h.SizeofHdr, h.VoxOffset = version, int64(version)+4
					c.spoil(&h)
					name, content := "a.nii", encode(h, binary.BigEndian, voxels)
					if gz {
						if c.name == "offset beyond" { // a gzip file might hold that
							return
						}
						name, content = "a.nii.gz", gzipped(content)
					}
					refuse(t, put(t, name, content), c.kind, c.parts...)
				})
			}
		}
	}
}

// TestFractionalOffset spoils the field that NIfTI-1 alone stores as a float.
func TestFractionalOffset(t *testing.T) {
	for _, offset := range []float32{352.5, float32(math.NaN()), 1e30, float32(math.Inf(1))} {
		b := encode(plain(), binary.LittleEndian, voxels)
		binary.LittleEndian.PutUint32(b[108:], math.Float32bits(offset))
		refuse(t, put(t, "a.nii", b), fault.Format, "vox_offset is")
	}
}

// TestTolerates reads what is odd but clear.
func TestTolerates(t *testing.T) {
	for name, spoil := range map[string]func(h *header){
		"vox_offset 0":    func(h *header) { h.VoxOffset = 0 },
		"bitpix":          func(h *header) { h.Bitpix = 99 },
		"one slice":       func(h *header) { h.Dim = [8]int64{3, 4, 6, 1} },
		"one column":      func(h *header) { h.Dim = [8]int64{3, 1, 1, 24} },
		"unused sizes":    func(h *header) { h.Dim = [8]int64{3, 4, 3, 2, -1, 77, 0, 9} },
		"7 axes of 1":     func(h *header) { h.Dim = [8]int64{7, 4, 3, 2, 1, 1, 1, 1} },
		"2-D, no z size":  func(h *header) { h.Dim, h.Pixdim[3] = [8]int64{2, 4, 6}, 0 },
		"unused qform":    func(h *header) { h.Quatern = [3]float64{math.NaN(), math.Inf(1), 7} },
		"unused sform":    func(h *header) { h.SformCode, h.QformCode, h.Srow[0][0] = 0, 1, math.NaN() },
		"negative code":   func(h *header) { h.QformCode = -7 },
		"trailing voxels": func(h *header) { h.Dim = [8]int64{3, 1, 1, 1} },
	} {
		h := plain()
		spoil(&h)
		im, err := Read(t.Context(), put(t, "a.nii", encode(h, binary.LittleEndian, voxels)))
		require.NoError(t, err, name)
		im.Free()
	}
}

// TestStraightens reads what SimpleITK accepts with axes that are not at right angles: the
// directions become the nearest ones that are. want is SimpleITK's.
func TestStraightens(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(h *header)
		want  [9]float64
		delta float64
	}{
		// Turned by 50 degrees in its plane and then by 30 out of it.
		"2-D, oblique": {func(h *header) {
			h.Dim, h.Pixdim = [8]int64{2, 4, 6}, [8]float64{1, 1, 1}
			h.Srow = [3][4]float64{{0.5566704, -0.6634139, 0.5}, {0.7660444, 0.6427876}, {-0.3213938, 0.3830222, 0.8660254}}
		}, [9]float64{-0.58785891, 0.71818323, 0, -0.80896348, -0.69585404, 0, 0, 0, 1}, 0.08},
		// Shear by 0.7 % that ITK overlooks, as it compares in the header's units.
		"metres": {func(h *header) {
			h.XyztUnits, h.QformCode = 1, 1
			h.Pixdim = [8]float64{1, 7e-4, 7e-4, 7e-4}
			h.Srow = [3][4]float64{{7e-4}, {0, 7e-4, 5e-6}, {0, 0, 7e-4}}
		}, [9]float64{-1, 0, 0, 0, -1, -0.0071426750, 0, 0, 0.9999745}, 0.004},
	} {
		h := plain()
		c.spoil(&h)
		im, err := Read(t.Context(), put(t, "a.nii", encode(h, binary.LittleEndian, voxels)))
		require.NoError(t, err, name)
		assert.InDeltaSlice(t, c.want[:], im.Direction[:], c.delta, name)
		assert.True(t, orthogonal(matrix(im.Direction), 1e-9), name)
		im.Free()
	}
}
