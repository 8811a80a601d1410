package postprocess

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/npy"
	"github.com/libflare/libflare/segment/volume"
)

// labelMap makes a volume of z, y, x sizes.
func labelMap(t testing.TB, shape []int, d volume.DType) *volume.Volume {
	v, err := volume.New(volume.Geometry{Size: [3]int{shape[2], shape[1], shape[0]}, Spacing: [3]float64{1, 1, 1}, Direction: volume.Identity}, 1, d)
	require.NoError(t, err)
	t.Cleanup(v.Free)
	return v
}

func fill(v *volume.Volume, from []float32) {
	for i, x := range from {
		if v.DType == volume.Uint8 {
			volume.As[uint8](v)[i] = uint8(x)
		} else {
			volume.As[uint16](v)[i] = uint16(x)
		}
	}
}

// TestGoldens compares with nnU-Net's apply_postprocessing, for both types and
// for one slab and several.
func TestGoldens(t *testing.T) {
	text, err := os.ReadFile("testdata/cases.json")
	require.NoError(t, err)
	var cases map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(text, &cases))
	require.Len(t, cases, 12)
	live := cmem.Live()
	for name, raw := range cases {
		steps, err := Unmarshal(string(raw))
		require.NoError(t, err)
		in, shape, err := npy.Read(filepath.Join("testdata", name+".in.npy"))
		require.NoError(t, err)
		want, _, err := npy.Read(filepath.Join("testdata", name+".out.npy"))
		require.NoError(t, err)
		for _, d := range []volume.DType{volume.Uint8, volume.Uint16} {
			if d == volume.Uint8 && name == "wide" {
				continue
			}
			for _, threads := range []int{0, 1, 2, 7} {
				v, expected := labelMap(t, shape, d), labelMap(t, shape, d)
				fill(v, in)
				fill(expected, want)
				require.NoError(t, Apply(v, steps, threads))
				require.Equal(t, expected.Data, v.Data, "%s, %s, %d threads", name, d, threads)
				v.Free()
				expected.Free()
			}
		}
	}
	require.Equal(t, live, cmem.Live())
}

func TestApplyRefuses(t *testing.T) {
	v := labelMap(t, []int{2, 2, 2}, volume.Uint8)
	clear(v.Data)
	require.NoError(t, Apply(v, nil, 2))
	for _, s := range []Step{{Labels: []int{-1}}, {Labels: []int{65536}}, {Background: -1}, {Background: 256}} {
		require.Equal(t, fault.Argument, fault.KindOf(Apply(v, []Step{s}, 2)), "%v", s)
	}
	require.NoError(t, Apply(v, []Step{{Labels: []int{300, 1}}}, 2)) // which no uint8 holds
	require.Equal(t, fault.Argument, fault.KindOf(Apply(labelMap(t, []int{2, 2, 2}, volume.Float32), nil, 1)))
	v.Channels = 2
	require.Equal(t, fault.Argument, fault.KindOf(Apply(v, nil, 1)))
}

func TestRead(t *testing.T) {
	want := []Step{{Labels: []int{1, 2, 3}}, {Labels: []int{2, 3}}, {Labels: []int{3}}}
	for _, name := range []string{"postprocessing_2.pkl", "postprocessing_4.pkl", "postprocessing.json"} {
		steps, err := Read(filepath.Join("testdata", name))
		require.NoError(t, err, name)
		require.Equal(t, want, steps, name)
	}
	steps, err := Read("testdata/postprocessing_none.pkl")
	require.NoError(t, err)
	require.Equal(t, "[]", Marshal(steps))

	_, err = Read("testdata/postprocessing_foreign.pkl")
	require.Equal(t, fault.Unsupported, fault.KindOf(err))
	for _, s := range []string{"testdata/postprocessing_foreign.pkl", "json.dumps", `"connectivity"`} {
		require.ErrorContains(t, err, s)
	}
	_, err = Read("testdata/none.pkl")
	require.Equal(t, fault.NotFound, fault.KindOf(err))
	_, err = Read("testdata")
	require.Equal(t, fault.Format, fault.KindOf(err))
	for _, text := range []string{"", "{", "{}", "N.", "\x80\x04N.", "](.", `{"postprocessing_fns": ["f"], "postprocessing_kwargs": []}`,
		`{"postprocessing_fns": ["` + keepLargest + `"], "postprocessing_kwargs": [{}]}`,
		`{"postprocessing_fns": ["` + keepLargest + `"], "postprocessing_kwargs": [{"labels_or_regions": [[[1]]]}]}`,
		`{"postprocessing_fns": ["` + keepLargest + `"], "postprocessing_kwargs": [{"labels_or_regions": 1.5}]}`} {
		_, err := parse([]byte(text))
		require.Equal(t, fault.Format, fault.KindOf(err), "%q: %v", text, err)
	}
}

func TestJSON(t *testing.T) {
	steps := []Step{{Labels: []int{1, 2}, Background: 0}, {Labels: []int{7}, Background: 3}}
	text := Marshal(steps)
	require.Equal(t, `[{"keep_largest_component_of":[1,2],"background":0},{"keep_largest_component_of":[7],"background":3}]`, text)
	again, err := Unmarshal(text)
	require.NoError(t, err)
	require.Equal(t, steps, again)
	for _, bad := range []string{"", "{}", `[{"other": 1}]`, `[{"keep_largest_component_of": [-1]}]`, `[{"background": 70000}]`} {
		_, err := Unmarshal(bad)
		require.Equal(t, fault.Format, fault.KindOf(err), bad)
	}
}

func FuzzRead(f *testing.F) {
	for _, name := range []string{"postprocessing_2.pkl", "postprocessing_4.pkl", "postprocessing_foreign.pkl", "postprocessing.json"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		steps, err := parse(b)
		if err != nil {
			return
		}
		again, err := Unmarshal(Marshal(steps))
		if err != nil || len(again) != len(steps) {
			t.Fatalf("%v: %v", steps, err)
		}
	})
}

// BenchmarkAbdomen is a CT of 512 x 512 x 168 voxels with 13 organs, ellipsoids
// with specks about them, and one step for the foreground and one for each organ.
func BenchmarkAbdomen(b *testing.B) {
	const nx, ny, nz = 512, 512, 168
	v := labelMap(b, []int{nz, ny, nx}, volume.Uint8)
	rng := rand.New(rand.NewPCG(1, 2))
	original := make([]uint8, nx*ny*nz)
	steps := []Step{{}}
	for organ := range 13 {
		steps[0].Labels = append(steps[0].Labels, organ+1)
		steps = append(steps, Step{Labels: []int{organ + 1}})
		cx, cy, cz := 130+organ%4*80, 130+organ/4*80, 40+organ*7
		for z := max(0, cz-30); z < min(nz, cz+30); z++ {
			for y := cy - 60; y < cy+60; y++ {
				for x := cx - 60; x < cx+60; x++ {
					d := (x-cx)*(x-cx) + (y-cy)*(y-cy) + 4*(z-cz)*(z-cz)
					if d < 3000 || d < 3600 && rng.IntN(20) == 0 {
						original[(z*ny+y)*nx+x] = uint8(organ + 1)
					}
				}
			}
		}
	}
	for _, c := range []struct {
		name  string
		steps []Step
	}{{"foreground", steps[:1]}, {"each", steps}} {
		b.Run(c.name, func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				copy(v.Data, original)
				b.StartTimer()
				require.NoError(b, Apply(v, c.steps, 2))
			}
		})
	}
}
