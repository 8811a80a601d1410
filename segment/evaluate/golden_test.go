package evaluate

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/libflare/libflare/segment/volume"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// golden is an entry of testdata/cases.json.gz, which testdata/make_goldens.py explains.
type golden struct {
	Name      string
	Size      [3]int
	Spacing   [3]float64
	Tolerance float64
	Plain     map[string][5]*float64
	FLARE21   [][2]*float64
	FLARE22   [][2]*float64
	FLARE23   [][2]*float64

	prediction, reference *volume.Volume
}

func unzipped(t testing.TB, path string) []byte {
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	require.NoError(t, err)
	b, err := io.ReadAll(z)
	require.NoError(t, err)
	return b
}

func goldens(t testing.TB) []golden {
	var cases []golden
	require.NoError(t, json.Unmarshal(unzipped(t, "testdata/cases.json.gz"), &cases))
	voxels := unzipped(t, "testdata/maps.gz")
	for i := range cases {
		g := &cases[i]
		geometry := volume.Geometry{Size: g.Size, Spacing: g.Spacing, Direction: volume.Identity}
		for _, v := range []**volume.Volume{&g.prediction, &g.reference} {
			var err error
			*v, err = volume.Wrap(geometry, 1, volume.Uint8, voxels[:geometry.Voxels()])
			require.NoError(t, err)
			voxels = voxels[geometry.Voxels():]
		}
	}
	require.Empty(t, voxels)
	return cases
}

// value is a golden's number; NaN where it has none.
func goldenValue(x *float64) float64 {
	if x == nil {
		return math.NaN()
	}
	return *x
}

// TestPlainAgreesWithSurfaceDistance is about all labels that both maps have: DSC and NSD to 4
// decimals, distances to 1e-9.
func TestPlainAgreesWithSurfaceDistance(t *testing.T) {
	compared := 0
	for _, g := range goldens(t) {
		r, err := Volumes(context.Background(), g.prediction, g.reference, Options{Tolerance: g.Tolerance, Threads: 2})
		require.NoError(t, err)
		for _, s := range r.Cases[0].Scores {
			want, both := g.Plain[strconv.Itoa(s.Label)]
			if !both {
				assert.Zero(t, s.DSC, "%s label %d", g.Name, s.Label)
				assert.Zero(t, s.NSD)
				assert.True(t, math.IsNaN(float64(s.ASSD)) && math.IsNaN(float64(s.HD)) && math.IsNaN(float64(s.HD95)))
				continue
			}
			compared++
			for k, got := range []Number{s.DSC, s.NSD} {
				assert.Equal(t, math.RoundToEven(goldenValue(want[k])*1e4), math.RoundToEven(float64(got)*1e4), "%s label %d, score %d", g.Name, s.Label, k)
				assert.InDelta(t, goldenValue(want[k]), float64(got), 1e-12)
			}
			for k, got := range []Number{s.ASSD, s.HD, s.HD95} {
				assert.InDelta(t, goldenValue(want[2+k]), float64(got), 1e-9, "%s label %d, distance %d", g.Name, s.Label, k)
			}
		}
	}
	assert.Greater(t, compared, 1000)
}

// TestFLAREAgreesWithTheChallenges is about the challenges' own scripts: all organs of all cases,
// to the last of their 4 decimals.
func TestFLAREAgreesWithTheChallenges(t *testing.T) {
	compared, failing := 0, 0
	for _, g := range goldens(t) {
		for rules, want := range map[Rules][][2]*float64{FLARE21: g.FLARE21, FLARE22: g.FLARE22, FLARE23: g.FLARE23} {
			r, err := Volumes(context.Background(), g.prediction, g.reference, Options{Rules: rules, Threads: 1})
			require.NoError(t, err)
			scores := r.Cases[0].Scores
			if want == nil { // the script stops at a reference in a single slice
				failing++
				none := false
				for _, s := range scores {
					none = none || !s.DSC.defined() && !s.NSD.defined()
				}
				assert.True(t, none, "%s %s", g.Name, rules)
				assert.Contains(t, strings.Join(r.Cases[0].Notes, "\n"), "and it has one: slice")
				continue
			}
			require.Len(t, scores, len(want))
			for i, s := range scores {
				compared++
				if rules == FLARE21 { // which does not round
					s.DSC, s.NSD = round4(s.DSC), round4(s.NSD)
				}
				for k, got := range []Number{s.DSC, s.NSD} {
					expected := Number(goldenValue(want[i][k]))
					if rules == FLARE21 {
						expected = round4(expected)
					}
					assert.Equal(t, expected, got, "%s %s organ %d, score %d", g.Name, rules, i+1, k)
				}
			}
		}
	}
	assert.Greater(t, compared, 15000)
	assert.Equal(t, 2*41, failing)
}
