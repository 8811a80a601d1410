package segment

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/onnx"
	"github.com/libflare/libflare/segment/volume"
)

// The statistics have the organs of the label map, those that were looked for, and the
// report shows them with what model made them.
func TestOrgansAndReport(t *testing.T) {
	dir := t.TempDir()
	bundle := filepath.Join(dir, "модель & <b>.onnx")
	require.NoError(t, Convert(t.Context(), filepath.Join(dir, "m.onnx"), ConvertOptions{Folder: tiny}))
	hostile(t, filepath.Join(dir, "m.onnx"), bundle)
	require.NoError(t, os.Remove(filepath.Join(dir, "m.onnx")))
	m := open(t, bundle, OpenOptions{})
	image := noiseImage(t, geometry(30, 22, 18), 1)
	in, out, page := filepath.Join(dir, "größe.nii"), filepath.Join(dir, "out.nii"), filepath.Join(dir, "報告.html")
	require.NoError(t, imageio.Write(t.Context(), in, image))
	stats, err := m.SegmentFile(t.Context(), in, out, Options{ReportFile: page})
	require.NoError(t, err)
	labels, err := imageio.Read(t.Context(), out)
	require.NoError(t, err)
	defer labels.Free()

	require.Len(t, stats.Organs, 2)
	for i, o := range stats.Organs {
		n, sum := 0, 0.0
		for k, l := range labels.Data {
			if int(l) == i+1 {
				n++
				sum += float64(volume.As[int16](image)[k])
			}
		}
		require.NotZero(t, n)
		assert.Equal(t, m.Describe().Labels[i+1], Label{o.Name, o.Label})
		assert.Equal(t, n, o.Voxels)
		assert.InDelta(t, float64(n)/1000, o.Volume, 1e-9)
		assert.InDelta(t, sum/float64(n), o.Mean[0], 1e-9)
	}
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	model, err := os.ReadFile(bundle)
	require.NoError(t, err)
	for _, want := range []string{fmt.Sprintf("%x", sha256.Sum256(model)), "größe.nii", "модель &amp; &lt;b&gt;.onnx", "30 × 22 × 18, int16", "LPS",
		"8 × 16 × 16 voxels", "CC-BY &lt;script&gt;", "libflare " + Version} {
		assert.True(t, strings.Contains(string(text), want), want)
	}
	assert.Equal(t, 5, strings.Count(string(text), "<script"), "the page's own")

	// In memory, and bounded: only what was looked for can be missing.
	map8 := newLabels(t, image.Geometry)
	stats, err = m.Segment(t.Context(), image, map8, Options{ROI: []int{2}, Box: Box{Hi: [3]int{4, 4, 4}}})
	require.NoError(t, err)
	require.Len(t, stats.Organs, 1)
	assert.Equal(t, 2, stats.Organs[0].Label)
	assert.LessOrEqual(t, stats.Organs[0].Box[3], 4)
}

// hostile copies a bundle with a dataset.json whose texts would run as scripts.
func hostile(t *testing.T, from, to string) {
	data, err := os.ReadFile(from)
	require.NoError(t, err)
	model, err := onnx.Parse(data)
	require.NoError(t, err)
	text, _ := model.Meta(metaDataset)
	var dataset map[string]any
	require.NoError(t, json.Unmarshal([]byte(text), &dataset))
	dataset["licence"] = "CC-BY <script>"
	dataset["name"] = "</script><script>alert(1)</script>"
	dataset["labels"] = map[string]int{"background": 0, "</script><img src=x onerror=alert(1)>": 1, "b'\"</td>": 2}
	changed, err := json.Marshal(dataset)
	require.NoError(t, err)
	model.SetMeta(metaDataset, string(changed))
	b, err := marshal(model)
	require.NoError(t, err)
	defer cmem.Free(b)
	require.NoError(t, os.WriteFile(to, b, 0o666))
}

// Reports of what is not one CT of one network: folders, regions, lists, several channels, 2-D.
func TestReportsOfEveryKind(t *testing.T) {
	dir := t.TempDir()
	list := writeList(t, `{"flare_list": 1, "combine": "parts", "models": [
		{"path": "`+absolute(t, tiny)+`", "labels": {"organ2": 300, "organ1": 7}},
		{"path": "`+absolute(t, "onnx/testdata/residual3d")+`", "labels": {"organ1": 9}}]}`)
	for name, c := range map[string]struct {
		model    string
		channels int
		size     [3]int
		want     []string
	}{
		"folder, 2-D network": {flat, 1, [3]int{30, 22, 3}, []string{"fold_0/checkpoint_final.pth: "}},
		"2-D image":           {flat, 1, [3]int{30, 22, 1}, []string{"figcaption>axial"}},
		"two channels":        {pair, 2, [3]int{30, 22, 3}, []string{"of the first channel"}},
		"list":                {list, 1, [3]int{30, 22, 18}, []string{"combined as", "residual3d"}},
	} {
		t.Run(name, func(t *testing.T) {
			m := open(t, c.model, OpenOptions{})
			in, page := filepath.Join(dir, "in.nii"), filepath.Join(dir, "page.HTM")
			require.NoError(t, imageio.Write(t.Context(), in, noiseImage(t, geometry(c.size[0], c.size[1], c.size[2]), c.channels)))
			stats, err := m.SegmentFile(t.Context(), in, filepath.Join(dir, "out.nii"), Options{ReportFile: page})
			require.NoError(t, err)
			assert.Len(t, stats.Organs, len(m.Describe().Labels)-1)
			text, err := os.ReadFile(page)
			require.NoError(t, err)
			for _, want := range append(c.want, "SHA-256") {
				assert.True(t, strings.Contains(string(text), want), want)
			}
			for _, o := range stats.Organs {
				assert.True(t, o.Voxels == 0 || len(o.Mean) == c.channels)
			}
		})
	}
}

// A report takes no other file's place, and where it cannot be written nothing is.
func TestReportSparesOthers(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	m, in := open(t, tiny, OpenOptions{}), writeImage(t, at("in.nii"))
	require.NoError(t, os.Symlink("in.nii", at("in.html")))
	require.NoError(t, os.Symlink("out.nii", at("out.html")))
	require.NoError(t, os.Mkdir(at("folder.html"), 0o777))
	before := names(t, dir)
	live := cmem.Live()
	for _, c := range []struct {
		page string
		kind Kind
		text string
	}{
		{at("in.html"), ErrArgument, "an input"},
		{at("out.html"), ErrArgument, "two outputs in one file"},
		{at("page.nii"), ErrArgument, "ends in .html"},
		{at("absent/page.html"), ErrNotFound, "does not exist"},
		{at("folder.html"), ErrIO, "folder"},
		{"/proc/page.html", ErrNotFound, "/proc/page.html"},
	} {
		read := false
		_, err := m.SegmentFile(t.Context(), in, at("out.nii"), Options{ReportFile: c.page, Progress: func(string, float64) { read = true }})
		assert.Equal(t, c.kind, KindOf(err), "%v", err)
		assert.ErrorContains(t, err, c.text)
		assert.False(t, read, "nothing is read before that is known")
	}
	assert.Equal(t, before, names(t, dir))
	assert.Equal(t, live, cmem.Live())
}
