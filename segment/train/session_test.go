package train

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/testenv"
	"github.com/libflare/libflare/segment/volume"
)

// smallFiles writes plans.json and dataset.json of smallCache's kind.
func smallFiles(t *testing.T) (plans, dataset string) {
	folder := t.TempDir()
	plans, dataset = filepath.Join(folder, "plans.json"), filepath.Join(folder, "dataset.json")
	require.NoError(t, os.WriteFile(plans, smallPlans(t, []int{16, 16, 16}, []int{4, 8}).Raw, 0o600))
	require.NoError(t, os.WriteFile(dataset, []byte(`{"channel_names": {"0": "MRI"}, "labels": {"background": 0, "bright": 1, "dark": 2}, "file_ending": ".nii.gz"}`), 0o600))
	return plans, dataset
}

func openSession(t *testing.T, o SessionOptions, change func(*Settings)) *Session {
	t.Helper()
	o.Settings = Default()
	if change != nil {
		change(&o.Settings)
	}
	o.Options = Options{Device: "ort", Threads: 2, Workers: 2, Runtime: testenv.Runtime(t)}
	s, err := OpenSession(o)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

// ballCase is a bright ball in noise, of label 1, and its labels.
func ballCase(t *testing.T, seed uint32) (image, labels *volume.Volume) {
	t.Helper()
	g := volume.Geometry{Size: [3]int{20, 22, 24}, Spacing: [3]float64{1, 1, 1}, Direction: volume.Identity}
	voxels, classes := make([]float32, g.Voxels()), make([]uint8, g.Voxels())
	noise := seed
	for i := range voxels {
		x, y, z := i%20-10, i/20%22-11, i/20/22-12
		noise = noise*1664525 + 1013904223
		if voxels[i] = 100 + float32(noise>>24)/16; x*x+y*y+z*z < 30 {
			voxels[i], classes[i] = voxels[i]+60, 1
		}
	}
	image, err := volume.Wrap(g, 1, volume.Float32, cmem.Bytes(voxels))
	require.NoError(t, err)
	labels, err = volume.Wrap(g, 1, volume.Uint8, classes)
	require.NoError(t, err)
	return image, labels
}

func randomInput(s *Session, batch int) *Input {
	in := &Input{Images: make([]float32, batch*len(s.Step.Images)/s.Step.Batch)}
	labels := make([]int16, batch*len(s.Step.Labels)/s.Step.Batch)
	noise := uint32(7)
	for i := range labels {
		noise = noise*1664525 + 1013904223
		labels[i] = int16(noise >> 30 % 3)
		in.Images[i] = float32(labels[i]) + float32(noise>>16&255)/256
	}
	in.Labels = labels
	return in
}

// TestSessionHalves: gradients of two halves of a batch, added or averaged, are those of
// the whole batch.
func TestSessionHalves(t *testing.T) {
	plans, d := smallFiles(t)
	whole := openSession(t, SessionOptions{Plans: plans, Dataset: d}, func(s *Settings) { s.Batch = 4 })
	half := openSession(t, SessionOptions{Plans: plans, Dataset: d}, func(s *Settings) { s.Batch = 2 })
	assert.Equal(t, whole.Step.Parameters.Values, half.Step.Parameters.Values)
	in := randomInput(whole, 4)
	r, err := whole.Backward(t.Context(), in, false)
	require.NoError(t, err)
	loss, n, m := 0.0, len(half.Step.Images), len(half.Step.Labels)
	for i := range 2 {
		part, err := half.Backward(t.Context(), &Input{Images: in.Images[i*n : (i+1)*n], Labels: in.Labels.([]int16)[i*m : (i+1)*m]}, i > 0)
		require.NoError(t, err)
		loss += part.Loss / 2
	}
	assert.InDelta(t, r.Loss, loss, 1e-5)
	assert.NotZero(t, r.Loss)
	largest, differ := 0.0, 0.0
	for i, g := range whole.Step.Gradients.Values {
		largest = max(largest, math.Abs(float64(g)))
		differ = max(differ, math.Abs(float64(g-half.Step.Gradients.Values[i]/2)))
	}
	assert.Less(t, differ, 1e-4*largest)
}

// TestSessionCases: steps on a case in memory lower its loss, the sampler gives what it
// gave after a checkpoint was loaded, and a model is trained on.
func TestSessionCases(t *testing.T) {
	plans, d := smallFiles(t)
	live := cmem.Live()
	t.Run("", func(t *testing.T) {
		s := openSession(t, SessionOptions{Plans: plans, Dataset: d}, func(s *Settings) { s.Iterations, s.Momentum, s.Dropout = 5, 0.9, 0.1 })
		_, err := s.Learn(t.Context(), nil)
		assert.Equal(t, fault.Argument, fault.KindOf(err), "%v", err)
		_, err = s.Forward(t.Context(), nil)
		assert.ErrorContains(t, err, "no batch before")
		for _, name := range []string{"a", "b", "a"} {
			image, labels := ballCase(t, 5)
			require.NoError(t, s.AddCase(t.Context(), name, image, labels))
		}
		assert.Equal(t, []string{"a", "b"}, s.Cases())
		first, err := s.Learn(t.Context(), nil)
		require.NoError(t, err)
		for range 20 {
			_, err = s.Learn(t.Context(), nil)
			require.NoError(t, err)
		}
		last, err := s.Forward(t.Context(), nil)
		require.NoError(t, err)
		assert.Less(t, last.Loss, first.Loss-0.2)

		path := filepath.Join(t.TempDir(), "x.flare")
		require.NoError(t, s.Save(path))
		step := func() []float32 {
			_, err := s.Learn(t.Context(), nil)
			require.NoError(t, err)
			return slices.Clone(s.Step.Parameters.Values)
		}
		want := step()
		require.NoError(t, s.Load(path))
		assert.Equal(t, want, step())

		bundle := filepath.Join(t.TempDir(), "model.onnx")
		require.NoError(t, s.Export(bundle))
		more := openSession(t, SessionOptions{Model: bundle}, func(s *Settings) { s.Patch = []int{8, 16, 8} })
		assert.Equal(t, []int{8, 16, 8}, more.Describe().PatchSize)
		image, labels := ballCase(t, 6)
		require.NoError(t, more.AddCase(t.Context(), "c", image, labels))
		_, err = more.Learn(t.Context(), nil)
		require.NoError(t, err)
	})
	assert.Equal(t, live, cmem.Live())
}

func TestSessionRun(t *testing.T) {
	cache := smallCache(t, 4)
	s := openSession(t, SessionOptions{Cache: cache.Path}, func(s *Settings) { s.Epochs, s.Iterations, s.ValidationIterations = 2, 4, 1 })
	image, labels := ballCase(t, 5)
	require.NoError(t, s.AddCase(t.Context(), "mine", image, labels))
	_, err := s.Learn(t.Context(), nil)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	folder := filepath.Join(t.TempDir(), "run")
	err = s.Run(ctx, folder, func(Progress) { stop() })
	assert.Equal(t, fault.Cancelled, fault.KindOf(err), "%v", err)
	phases := map[string]int{}
	require.NoError(t, s.Run(t.Context(), folder, func(p Progress) { phases[p.Phase]++ }))
	assert.Positive(t, phases["validate"])
	for _, name := range []string{"model.onnx", "checkpoint.flare", "checkpoint_best.flare", "progress.csv", "plans.json"} {
		assert.FileExists(t, filepath.Join(folder, name))
	}
}

func TestSessionRefusals(t *testing.T) {
	plans, d := smallFiles(t)
	for _, o := range []SessionOptions{{}, {Plans: plans}, {Model: "x.onnx", Plans: plans, Dataset: d}} {
		o.Settings = Default()
		_, err := OpenSession(o)
		assert.Equal(t, fault.Argument, fault.KindOf(err), "%v", err)
	}
	s := openSession(t, SessionOptions{Plans: plans, Dataset: d}, nil)
	before := slices.Clone(s.Step.Parameters.Values)
	in := randomInput(s, 2)
	labels := in.Labels.([]int16)
	bad := slices.Clone(labels)
	bad[9] = 3
	images := slices.Clone(in.Images)
	images[5] = float32(math.NaN())
	for text, in := range map[string]*Input{
		"element 9 is 3, expected the labels 0 to 2":  {Images: in.Images, Labels: bad},
		"with 8191 labels, expected 8192":             {Images: in.Images, Labels: labels[1:]},
		"with 8191 numbers of images, expected 8192":  {Images: in.Images[1:], Labels: labels},
		"with 0 numbers of labels":                    {Images: in.Images},
		"soft targets":                                {Images: in.Images, Labels: labels, Soft: []float32{1}},
		"of type []float64":                           {Images: in.Images, Labels: []float64{1}},
		"step 0, the caller's batch: the loss is NaN": {Images: images, Labels: labels},
	} {
		_, err := s.Learn(t.Context(), in)
		assert.ErrorContains(t, err, text)
		assert.Contains(t, []fault.Kind{fault.Argument, fault.Model}, fault.KindOf(err))
		assert.Equal(t, before, s.Step.Parameters.Values)
	}
	image, classes := ballCase(t, 5)
	classes.Data[11] = 9
	assert.ErrorContains(t, s.AddCase(t.Context(), "z", image, classes), "z (labels): a voxel is 9, dataset.json has only the labels 0 1 2")
	classes.Data[11] = 0
	volume.As[float32](image)[3] = float32(math.Inf(1))
	assert.ErrorContains(t, s.AddCase(t.Context(), "z", image, classes), "1 voxels are NaN or infinite")
	assert.Empty(t, s.Cases())
}
