package record

import (
	"bytes"
	"encoding/binary"
	"encoding/csv"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
)

func example(n int) (epochs []Epoch) {
	for i := range n {
		f := float64(i)
		epochs = append(epochs, Epoch{Number: i, Loss: 0.2 - 1.1*(1-math.Exp(-f/5)), ValidationLoss: 0.15 - 0.95*(1-math.Exp(-f/4)) + 0.02*math.Sin(f),
			Dice: 0.85*(1-math.Exp(-f/4)) + 0.03*math.Cos(2*f), EMA: 0.85 * (1 - math.Exp(-f/6)), ClassDice: []float64{0.5, 0.25},
			LearningRate: 0.01 * math.Pow(1-f/float64(n), 0.9), Start: 1e9 + 88*f, End: 1e9 + 88*f + 80 + 3*math.Sin(f), StepSeconds: 0.3, Waited: 0.01})
	}
	return epochs
}

func TestWrite(t *testing.T) {
	for _, n := range []int{0, 1, 20} {
		folder := t.TempDir()
		require.NoError(t, Write(folder, example(n)))
		f, err := os.Open(filepath.Join(folder, "progress.csv"))
		require.NoError(t, err)
		rows, err := csv.NewReader(f).ReadAll()
		require.NoError(t, err)
		assert.Len(t, rows, n+1)
		if n > 0 {
			assert.Equal(t, "pseudo_dice_2", rows[0][10])
			assert.Equal(t, "0.25", rows[n][10])
		}
		data, err := os.ReadFile(filepath.Join(folder, "progress.png"))
		require.NoError(t, err)
		img, err := png.Decode(bytes.NewReader(data))
		require.NoError(t, err)
		assert.Equal(t, plotWidth, img.Bounds().Dx())
		// The lines are there: some hundred pixels in the colour of the training loss.
		count := 0
		for y := range plotHeight {
			for x := left; x < plotWidth-right; x++ {
				if r, g, b, _ := img.At(x, y).RGBA(); y > top && r>>8 == 31 && g>>8 == 89 && b>>8 == 180 {
					count++
				}
			}
		}
		assert.Equal(t, n > 1, count > 100)
	}
	bad := example(3)
	bad[1].Loss, bad[2].Dice = math.NaN(), math.Inf(1)
	assert.NoError(t, PNG(&bytes.Buffer{}, bad))
}

// TestEvents reads the file back by the format's definition.
func TestEvents(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, Events(&b, example(3)))
	data := b.Bytes()
	var steps []uint64
	for n := 0; len(data) > 0; n++ {
		size := binary.LittleEndian.Uint64(data)
		assert.Equal(t, masked(data[:8]), binary.LittleEndian.Uint32(data[8:]))
		message := data[12 : 12+size]
		assert.Equal(t, masked(message), binary.LittleEndian.Uint32(data[12+size:]))
		data = data[16+size:]
		for len(message) > 0 {
			field, kind, k := protowire.ConsumeTag(message)
			require.Positive(t, k)
			message = message[k:]
			if field == 2 {
				v, _ := protowire.ConsumeVarint(message)
				steps = append(steps, v)
			}
			k = protowire.ConsumeFieldValue(field, kind, message)
			require.Positive(t, k)
			message = message[k:]
		}
	}
	assert.Equal(t, []uint64{0, 1, 2}, steps)
	// crc32c("123456789") is 0xe3069283; rotated and shifted as TensorFlow does.
	c := uint32(0xe3069283)
	assert.Equal(t, (c>>15|c<<17)+0xa282ead8, masked([]byte("123456789")))
}
