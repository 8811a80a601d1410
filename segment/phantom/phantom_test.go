package phantom

import (
	"bytes"
	"encoding/json"
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/volume"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func generate(t *testing.T, p Params) (ct, labels *volume.Volume) {
	t.Helper()
	ct, labels, err := Generate(p)
	require.NoError(t, err)
	t.Cleanup(ct.Free)
	t.Cleanup(labels.Free)
	return ct, labels
}

// millilitres returns the volume of every label.
func millilitres(v *volume.Volume) (ml [14]float64) {
	for _, l := range v.Data {
		ml[l] += v.Spacing[0] * v.Spacing[1] * v.Spacing[2] / 1000
	}
	return ml
}

func TestGenerateIsReplayable(t *testing.T) {
	p := Sample(3, 1, Small)
	assert.Equal(t, p, Sample(3, 1, Small))
	ct, labels := generate(t, p)

	old := runtime.GOMAXPROCS(1)
	one, oneLabels := generate(t, p)
	runtime.GOMAXPROCS(5)
	five, fiveLabels := generate(t, p)
	runtime.GOMAXPROCS(old)
	for _, other := range []*volume.Volume{one, five} {
		assert.True(t, bytes.Equal(ct.Data, other.Data), "CT depends on the number of threads")
	}
	for _, other := range []*volume.Volume{oneLabels, fiveLabels} {
		assert.True(t, bytes.Equal(labels.Data, other.Data), "labels depend on the number of threads")
	}

	// Parameters are plain data: they survive being written down.
	text, err := json.Marshal(p)
	require.NoError(t, err)
	var q Params
	require.NoError(t, json.Unmarshal(text, &q))
	again, _ := generate(t, q)
	assert.True(t, bytes.Equal(ct.Data, again.Data), "CT differs after a round trip through JSON")
}

func TestPhantomsDiffer(t *testing.T) {
	a, _ := generate(t, Sample(3, 1, Small))
	for _, p := range []Params{Sample(3, 2, Small), Sample(4, 1, Small)} {
		b, _ := generate(t, p)
		assert.False(t, bytes.Equal(a.Data, b.Data))
	}
}

func TestGeometry(t *testing.T) {
	for i := range 200 {
		c, s := Sample(5, i, Clinical).Geometry, Sample(5, i, Small).Geometry
		require.NoError(t, c.Validate())
		assert.Equal(t, "LPS", c.Orientation())
		assert.Equal(t, []int{512, 512}, c.Size[:2])
		assert.True(t, c.Size[2] >= 130 && c.Size[2] <= 180, "%d slices", c.Size[2])
		assert.True(t, c.Spacing[0] >= 0.68 && c.Spacing[0] <= 0.85 && c.Spacing[0] == c.Spacing[1], "pixel %g", c.Spacing[0])
		assert.True(t, c.Spacing[2] >= 2 && c.Spacing[2] <= 2.5, "slice %g", c.Spacing[2])
		assert.Equal(t, [3]float64{3, 3, 3}, s.Spacing)
		for a := range 3 { // the same field of view, to a rounded voxel, from the same corner
			assert.InDelta(t, float64(c.Size[a])*c.Spacing[a], float64(s.Size[a])*3, 1.51)
			assert.InDelta(t, c.Origin[a]-c.Spacing[a]/2, s.Origin[a]-1.5, 0.01)
		}
	}
}

// TestOrgans renders 50 patients: every organ has a plausible volume, is where
// it belongs and has soft-tissue HU; some organs are missing somewhere.
func TestOrgans(t *testing.T) {
	// Plausible millilitres; the lower ends are low because the field of view cuts
	// through organs of some patients.
	limits := [14][2]float64{
		Liver: {400, 2700}, RightKidney: {30, 380}, Spleen: {20, 480}, Pancreas: {20, 140}, Aorta: {25, 280},
		InferiorVenaCava: {25, 280}, RightAdrenal: {2, 18}, LeftAdrenal: {2, 20}, Gallbladder: {4, 75},
		Esophagus: {0.3, 75}, Stomach: {90, 700}, Duodenum: {3, 150}, LeftKidney: {20, 380},
	}
	const n = 50
	var missing [14]int
	var sum [14]float64
	for i := range n {
		p := Sample(11, i, Small)
		ct, labels, err := Generate(p)
		require.NoError(t, err)
		ml := millilitres(labels)
		for l := Liver; l <= LeftKidney; l++ {
			if ml[l] == 0 {
				missing[l]++
				continue
			}
			sum[l] += ml[l]
			assert.True(t, ml[l] >= limits[l][0] && ml[l] <= limits[l][1], "phantom %d: %s has %.1f ml", i, Organs[l], ml[l])
		}
		checkPlaces(t, i, p, labels)
		checkHU(t, i, ct, labels)
		ct.Free()
		labels.Free()
	}
	assert.NotZero(t, missing[Gallbladder], "no patient without gallbladder")
	assert.NotZero(t, missing[RightKidney]+missing[LeftKidney], "no patient with one kidney")
	for l := Liver; l <= LeftKidney; l++ {
		assert.Less(t, missing[l], n/3, "%s is missing too often", Organs[l])
		t.Logf("%-20s missing %2d  mean %7.1f ml", Organs[l], missing[l], sum[l]/float64(n-missing[l]))
	}
	assert.InDelta(t, 1400, sum[Liver]/n, 350) // the textbook's liver has 1.4 litres
}

// checkPlaces holds the sides of the body: low x is the patient's right.
func checkPlaces(t *testing.T, i int, p Params, labels *volume.Volume) {
	t.Helper()
	var sum [14][3]float64
	var n [14]float64
	g := &labels.Geometry
	for v, l := range labels.Data {
		x := v % g.Size[0]
		y := v / g.Size[0] % g.Size[1]
		sum[l][0] += g.Origin[0] + float64(x)*g.Spacing[0] - p.Centre[0]
		sum[l][1] += g.Origin[1] + float64(y)*g.Spacing[1] - p.Centre[1]
		n[l]++
	}
	for _, l := range []uint8{Liver, RightKidney, RightAdrenal, Gallbladder, InferiorVenaCava} {
		assert.True(t, n[l] == 0 || sum[l][0]/n[l] < 0, "phantom %d: %s is on the left", i, Organs[l])
	}
	for _, l := range []uint8{Spleen, LeftKidney, LeftAdrenal, Stomach} {
		assert.True(t, n[l] == 0 || sum[l][0]/n[l] > 0, "phantom %d: %s is on the right", i, Organs[l])
	}
	for _, l := range []uint8{RightKidney, LeftKidney} {
		assert.True(t, n[l] == 0 || sum[l][1]/n[l] > sum[Stomach][1]/n[Stomach], "phantom %d: %s is in front of the stomach", i, Organs[l])
	}
}

func checkHU(t *testing.T, i int, ct, labels *volume.Volume) {
	t.Helper()
	hu := volume.As[int16](ct)
	var sum, n [14]float64
	lowest := 0.0
	for v, l := range labels.Data {
		sum[l] += float64(hu[v])
		n[l]++
		lowest = math.Min(lowest, float64(hu[v]))
	}
	for _, l := range []uint8{Liver, RightKidney, Spleen, Pancreas, Aorta, LeftKidney} {
		if n[l] > 0 {
			mean := sum[l] / n[l]
			assert.True(t, mean > 0 && mean < 330, "phantom %d: %s has %.0f HU", i, Organs[l], mean)
		}
	}
	assert.Equal(t, -1024.0, lowest, "phantom %d: air with noise reaches the lowest HU", i)
}

// TestSizesShowOnePatient compares a coarse and a fine rendering voxel by voxel
// at the fine voxels nearest to the coarse ones.
func TestSizesShowOnePatient(t *testing.T) {
	_, small := generate(t, Sample(6, 2, Small))
	_, fine := generate(t, Sample(6, 2, Clinical))
	var both, either int
	for v, l := range small.Data {
		at := 0
		rest := v
		stride := 1
		for a := range 3 {
			i := rest % small.Size[a]
			rest /= small.Size[a]
			mm := small.Origin[a] + 3*float64(i) - fine.Origin[a]
			at += stride * min(max(int(math.Round(mm/fine.Spacing[a])), 0), fine.Size[a]-1)
			stride *= fine.Size[a]
		}
		if l != 0 || fine.Data[at] != 0 {
			either++
			if l == fine.Data[at] {
				both++
			}
		}
	}
	// The nearest fine voxel is up to 1.25 mm away, which matters at surfaces.
	assert.Greater(t, float64(both)/float64(either), 0.92)
}

// TestBoxesHoldTheirSolids renders with boxes 40 mm wider than needed: nothing
// may change.
func TestBoxesHoldTheirSolids(t *testing.T) {
	for i := range 3 {
		p := Sample(8, i, Small)
		p.Roll = 0.2 * float64(i-1)
		for a := range 3 { // 6 mm: enough to see a cut, and fast
			p.Geometry.Size[a] /= 2
			p.Geometry.Spacing[a] = 6
		}
		n := p.Geometry.Voxels()
		var hu [2][]int16
		var labels [2][]uint8
		for wide := range 2 {
			sc := newScene(&p)
			for _, o := range sc.objects {
				for _, list := range [][]compiled{o.solids, o.carve} {
					for s := range list {
						for a := range 3 {
							list[s].from[a] -= 40 * float64(wide)
							list[s].to[a] += 40 * float64(wide)
						}
					}
				}
			}
			hu[wide], labels[wide] = make([]int16, n), make([]uint8, n)
			require.NoError(t, sc.render(hu[wide], labels[wide]))
		}
		assert.True(t, slices.Equal(hu[0], hu[1]) && slices.Equal(labels[0], labels[1]), "phantom %d", i)
	}
}

func TestGenerateFreesAndRefuses(t *testing.T) {
	before := cmem.Live()
	p := Sample(1, 0, Small)
	ct, labels, err := Generate(p)
	require.NoError(t, err)
	ct.Free()
	labels.Free()
	assert.Equal(t, before, cmem.Live())

	bad := p
	bad.Geometry.Size[1] = 0
	_, _, err = Generate(bad)
	assert.ErrorContains(t, err, "size along y is 0")
	bad = p
	bad.Geometry.Direction = [9]float64{0, 1, 0, 1, 0, 0, 0, 0, 1}
	_, _, err = Generate(bad)
	assert.ErrorContains(t, err, "identity direction")
	bad = p
	bad.Scale[1] = math.NaN()
	_, _, err = Generate(bad)
	assert.ErrorContains(t, err, "must be positive")
	assert.Equal(t, before, cmem.Live())
}

func BenchmarkClinical(b *testing.B) {
	p := Sample(1, 0, Clinical)
	for b.Loop() {
		ct, labels, err := Generate(p)
		if err != nil {
			b.Fatal(err)
		}
		ct.Free()
		labels.Free()
	}
}
