package evaluate

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/volume"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// grid is n voxels in a row, 2 x 2.5 x 4 mm each: 0.02 ml.
func grid(n int) volume.Geometry {
	return volume.Geometry{Size: [3]int{n, 1, 1}, Spacing: [3]float64{2, 2.5, 4}, Direction: volume.Identity}
}

func labels(t *testing.T, values ...uint8) *volume.Volume {
	t.Helper()
	v, err := volume.Wrap(grid(len(values)), 1, volume.Uint8, values)
	require.NoError(t, err)
	return v
}

func TestDiceByHand(t *testing.T) {
	p := labels(t, 0, 1, 1, 1, 2, 2, 0, 4)
	r := labels(t, 0, 1, 1, 2, 2, 0, 0, 0)
	o, err := Dice(p, r, 6)
	require.NoError(t, err)
	require.Len(t, o, 6)
	assert.InDelta(t, 2*2/(2+4.0), o[0].DSC, 1e-15)
	assert.InDelta(t, 2*2/(3+2.0), o[1].DSC, 1e-15)
	assert.InDelta(t, 2*1/(2+2.0), o[2].DSC, 1e-15)
	assert.Equal(t, 1.0, o[3].DSC, "empty in both")
	assert.Equal(t, 0.0, o[4].DSC, "empty in the reference")
	assert.InDelta(t, 3*0.02, o[1].Prediction, 1e-15)
	assert.InDelta(t, 2*0.02, o[1].Reference, 1e-15)
	assert.InDelta(t, (0.8+0.5+1+0+1)/5, MeanDSC(o), 1e-15)
	assert.True(t, math.IsNaN(MeanDSC(o[:1])))

	back, err := Dice(r, p, 6)
	require.NoError(t, err)
	assert.Equal(t, 0.0, back[4].DSC, "empty in the prediction")
	assert.Equal(t, o[1].DSC, back[1].DSC)
}

// TestDiceIsTheF1Score compares with F1 = 2 precision recall / (precision +
// recall), computed label by label from the definitions.
func TestDiceIsTheF1Score(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	a, b := make([]uint8, 5000), make([]uint8, 5000)
	for i := range a {
		a[i], b[i] = uint8(rng.IntN(5)), uint8(rng.IntN(5))
		if rng.IntN(2) == 0 {
			b[i] = a[i]
		}
	}
	o, err := Dice(labels(t, a...), labels(t, b...), 5)
	require.NoError(t, err)
	for l := range uint8(5) {
		var tp, fp, fn float64
		for i := range a {
			switch {
			case a[i] == l && b[i] == l:
				tp++
			case a[i] == l:
				fp++
			case b[i] == l:
				fn++
			}
		}
		precision, recall := tp/(tp+fp), tp/(tp+fn)
		assert.InDelta(t, 2*precision*recall/(precision+recall), o[l].DSC, 1e-12)
	}
}

func TestDiceOfOtherTypes(t *testing.T) {
	values := []int32{0, 1, 300, 300}
	wide, err := volume.Wrap(grid(4), 1, volume.Int32, cmem.Bytes(values))
	require.NoError(t, err)
	for d, data := range map[volume.DType][]byte{
		volume.Uint16: cmem.Bytes([]uint16{0, 1, 300, 0}),
		volume.Int16:  cmem.Bytes([]int16{0, 1, 300, 0}),
		volume.Int32:  cmem.Bytes([]int32{0, 1, 300, 0}),
	} {
		v, err := volume.Wrap(grid(4), 1, d, data)
		require.NoError(t, err)
		for _, pair := range [][2]*volume.Volume{{v, wide}, {wide, v}} {
			o, err := Dice(pair[0], pair[1], 301)
			require.NoError(t, err)
			assert.InDelta(t, 2.0/3, o[300].DSC, 1e-15, "%s", d)
		}
	}
}

func TestDiceRefuses(t *testing.T) {
	good := labels(t, 0, 1, 2)
	refused := func(want string, a, b *volume.Volume, n int) {
		t.Helper()
		_, err := Dice(a, b, n)
		assert.ErrorContains(t, err, want)
		assert.Equal(t, fault.Argument, fault.KindOf(err))
	}
	refused("differ in size", good, labels(t, 0, 1), 3)
	refused("the value 2, which is none of the labels 0 to 1", good, good, 2)
	refused("cannot compare 0 labels", good, good, 0)

	moved := *good
	moved.Origin[1] = 0.5
	refused("differ in origin", good, &moved, 3)
	moved = *good
	moved.Spacing[2] = 4.1
	refused("differ in spacing", good, &moved, 3)
	moved = *good
	moved.Direction[0] = -1
	refused("differ in direction", good, &moved, 3)
	moved = *good
	moved.Channels = 2
	refused("one channel", good, &moved, 3)

	floats, err := volume.Wrap(grid(3), 1, volume.Float32, make([]byte, 12))
	require.NoError(t, err)
	refused("not float32", floats, good, 3)
	refused("not float32", good, floats, 3)
	negative, err := volume.Wrap(grid(3), 1, volume.Int16, cmem.Bytes([]int16{0, -1, 0}))
	require.NoError(t, err)
	refused("the value -1", negative, good, 3)
}

// TestSameGridForgivesFloat32 is about headers that keep geometry in float32.
func TestSameGridForgivesFloat32(t *testing.T) {
	a := volume.Geometry{Size: [3]int{9, 9, 9}, Spacing: [3]float64{0.7123456789, 0.7123456789, 2.1}, Origin: [3]float64{-181.5123456, -190.1, -1234.56789}, Direction: volume.Identity}
	b := a
	for i := range 3 {
		b.Spacing[i], b.Origin[i] = float64(float32(a.Spacing[i])), float64(float32(a.Origin[i]))
	}
	assert.NoError(t, SameGrid(&a, &b))
}
