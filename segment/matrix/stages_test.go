package matrix

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/engine"
	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/onnx"
	"github.com/libflare/libflare/segment/preprocess"
	"github.com/libflare/libflare/segment/resample"
	"github.com/libflare/libflare/segment/sliding"
	"github.com/libflare/libflare/segment/volume"
)

// stages is what the rooms hand on to each other, on the network's grid.
type stages struct {
	image  []float32 // channels x grid
	shape  []int     // of image
	tiles  [3][]int  // positions along each axis
	count  int       // tiles that ran
	logits []float32 // heads x grid
	grid   *preprocess.Case
}

func (s *stages) free() { s.grid.Close() }

// stagesOf walks the rooms by hand, as package segment does, and keeps what it hides.
func stagesOf(t *testing.T, bundle string, in, previous string, mirror bool, runtime string) *stages {
	t.Helper()
	data, err := os.ReadFile(bundle)
	require.NoError(t, err)
	model, err := onnx.Parse(data)
	require.NoError(t, err)
	meta := func(key string) []byte { v, _ := model.Meta(key); return []byte(v) }
	plans, err := nnunet.ParsePlans(meta("flare.plans"), bundle)
	require.NoError(t, err)
	c, err := plans.Configuration(string(meta("flare.configuration")))
	require.NoError(t, err)

	image, err := imageio.ReadCase(t.Context(), in, len(c.Normalization))
	require.NoError(t, err)
	defer image.Free()
	config := preprocess.Config{Transpose: plans.TransposeForward, Spacing: c.Spacing, Image: method(c.Data), Seg: method(c.Seg)}
	if strings.HasSuffix(plans.ImageReaderWriter, "WithReorient") {
		config.Orientation = "RAS"
	}
	for i, scheme := range c.Normalization {
		p := plans.Intensity[i]
		config.Channels = append(config.Channels, preprocess.Normalization{Scheme: preprocess.Scheme(scheme), Mask: c.UseMask[i],
			Lower: p.Percentile005, Upper: p.Percentile995, Mean: p.Mean, StdDev: p.Std})
	}
	var stage *volume.Volume
	if previous != "" {
		dataset, err := nnunet.ParseDataset(meta("flare.dataset"), bundle)
		require.NoError(t, err)
		config.Previous = dataset.Values()[1:]
		stage = read(t, previous).Volume
	}
	channels := image.Channels + len(config.Previous)
	s := &stages{}
	s.grid, err = preprocess.Open(image.Volume, stage, config, 2)
	require.NoError(t, err, "stage: image")
	require.NoError(t, s.grid.Begin(t.Context(), 0, s.grid.Shape[1]), "stage: image")
	s.shape = append([]int{channels}, s.grid.Shape[:]...)
	plane := s.grid.Shape[1] * s.grid.Shape[2]
	s.image = make([]float32, channels*s.grid.Shape[0]*plane)
	require.NoError(t, s.grid.Next(t.Context(), s.grid.Shape[0], func(channel, z int) []float32 {
		at := (channel*s.grid.Shape[0] + z) * plane
		return s.image[at : at+plane]
	}))
	for i, n := range s.grid.Shape {
		if j := i - (3 - len(c.PatchSize)); j >= 0 {
			s.tiles[i] = sliding.Positions(max(n, c.PatchSize[j]), c.PatchSize[j])
			continue
		}
		for z := range n {
			s.tiles[i] = append(s.tiles[i], z)
		}
	}

	session := sessionOf(t, model, channels, c.PatchSize, runtime)
	defer session.Close()
	voxels := s.grid.Shape[1] * s.grid.Shape[2]
	heads := len(session.Outputs[0])
	for _, n := range c.PatchSize {
		heads /= n
	}
	s.logits = make([]float32, heads*s.grid.Shape[0]*voxels)
	loaded := 0
	task := sliding.Task{
		Shape: s.grid.Shape, Channels: channels, Classes: heads, Patch: c.PatchSize, Threads: 2,
		Network: session, Inputs: session.Inputs, Outputs: session.Outputs,
		Load: func(_ context.Context, n int, dst func(channel, plane int) []float32) error {
			for channel := range channels {
				for i := range n {
					copy(dst(channel, i), s.image[(channel*s.grid.Shape[0]+loaded+i)*voxels:])
				}
			}
			loaded += n
			return nil
		},
		Plane: func(z int, logits []float32, stride int) error {
			for h := range heads {
				copy(s.logits[(h*s.grid.Shape[0]+z)*voxels:], logits[h*stride:][:voxels])
			}
			return nil
		},
		Tile: func(done, all int) error { s.count = done; return nil },
	}
	if mirror {
		require.NoError(t, json.Unmarshal(meta("flare.mirror_axes"), &task.Mirror))
	}
	require.NoError(t, task.Run(context.Background()), "stage: logits")
	return s
}

// sessionOf opens a bundle's folds.
func sessionOf(t *testing.T, model *onnx.Model, channels int, patch []int, runtime string) *engine.Session {
	t.Helper()
	var networks []engine.Network
	folds := model.Folds()
	for i := range max(1, len(folds)) {
		m := model
		if len(folds) > 1 {
			var err error
			m, err = model.ExtractFolds(folds[i : i+1])
			require.NoError(t, err)
		}
		data, err := cmem.Alloc[byte](m.Size())
		require.NoError(t, err)
		defer cmem.Free(data)
		require.NoError(t, m.MarshalTo(data))
		in, out := m.Graph.DataInputs()[0], m.Graph.Outputs[0]
		n := engine.Network{ONNX: data, Input: in.Name, InputShape: []int64{1, int64(channels)}, Output: out.Name, OutputShape: []int64{1, out.Dims[1].Value}}
		for _, p := range patch {
			n.InputShape, n.OutputShape = append(n.InputShape, int64(p)), append(n.OutputShape, int64(p))
		}
		networks = append(networks, n)
	}
	session, err := engine.Open(networks, engine.Options{Threads: 2, Runtime: runtime})
	require.NoError(t, err, "stage: logits")
	return session
}

func method(r nnunet.Resampling) resample.Method {
	return resample.Method{Function: resample.Function(r.Name), Order: r.Order, OrderZ: r.OrderZ, SeparateZ: r.ForceSeparateZ, Threshold: r.Threshold,
		Mode: resample.Mode(r.Mode), ModeZ: resample.Mode(r.AnisoAxisMode), MemEfficient: r.MemEfficient}
}
