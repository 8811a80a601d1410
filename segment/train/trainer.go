package train

import (
	"context"
	"encoding/json"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/onnx"
)

// Task is what a network is trained for.
type Task struct {
	Plans         *nnunet.Plans
	Dataset       *nnunet.Dataset
	Fingerprint   []byte // text of dataset_fingerprint.json, or nil; exported with the network
	Configuration string // name in the plans
	Fold          string // "0", "1", ..., "all"
}

// Options chooses how a training runs. The zero value is the default.
type Options struct {
	Device  string // as segment.OpenOptions
	Threads int    // bound on the threads of the network; 0: one per core
	Workers int    // threads that prepare batches; 0: as many as Threads
	Runtime string // ONNX Runtime library or its folder; "": search
	Fast    bool   // bfloat16 where the processor computes with it, TF32 on an NVIDIA GPU
}

// Trainer is a network in training: its parameters, the optimizer and the graph of a
// step. It is used by one goroutine at a time. Close it.
type Trainer struct {
	Task
	Settings
	Step *Step // buffers of a batch, parameters, gradients

	options       Options
	configuration *nnunet.Configuration
	architecture  *nnunet.Architecture
	optimizer     Optimizer
	state         State
}

// Check refuses what New would, without a device and the memory of a training. Errors:
// Argument (settings), Model, Unsupported (the plans, by name), and those of
// onnx.Training.Graph.
func (t Task) Check(s Settings) error {
	_, config, err := t.prepare(s)
	if err != nil {
		return err
	}
	_, _, err = config.training()
	return err
}

// New makes a trainer with new parameters, which are a function of the seed. Errors: those
// of Task.Check and NewStep.
func New(t Task, s Settings, o Options) (*Trainer, error) {
	k, config, err := t.prepare(s)
	if err != nil {
		return nil, err
	}
	k.options = o
	config.Device, config.Threads, config.Runtime, config.Fast = o.Device, o.Threads, o.Runtime, o.Fast
	if k.Step, err = NewStep(config); err != nil {
		return nil, err
	}
	k.Step.Parameters.Initialize(k.architecture, k.Seed)
	switch k.Optimizer {
	case "sgd":
		var sgd *SGD
		if sgd, err = NewSGD(k.Step); err == nil {
			sgd.Momentum, sgd.WeightDecay = k.Momentum, k.WeightDecay
			k.optimizer = sgd
		}
	case "adamw":
		var adam *AdamW
		if adam, err = NewAdamW(k.Step); err == nil {
			adam.WeightDecay = k.WeightDecay
			k.optimizer = adam
		}
	}
	if err != nil {
		k.Step.Close()
		return nil, err
	}
	k.state = State{Configuration: t.Configuration, Fold: t.Fold, Settings: k.Settings, Digest: k.digest()}
	return k, nil
}

// prepare returns a trainer without its step, which the Config describes.
func (t Task) prepare(s Settings) (*Trainer, Config, error) {
	if err := s.Check(); err != nil {
		return nil, Config{}, err
	}
	c, err := t.Plans.Configuration(t.Configuration)
	if err != nil {
		return nil, Config{}, err
	}
	arch, err := t.Plans.Architecture(t.Configuration)
	if err != nil {
		return nil, Config{}, err
	}
	if c.PreviousStage != "" {
		return nil, Config{}, fault.New(fault.Unsupported, "configuration %s is the second stage of a cascade: training it is not supported", c.Name)
	}
	if s.Patch != nil {
		if len(s.Patch) != len(c.PatchSize) || slices.Min(s.Patch) < 1 || slices.Max(s.Patch) > 4096 {
			return nil, Config{}, fault.New(fault.Argument, "patch %v: configuration %s needs %d numbers of 1 to 4096", s.Patch, c.Name, len(c.PatchSize))
		}
		c.PatchSize = s.Patch
	}
	if s.Batch == 0 {
		s.Batch = c.BatchSize
	}
	if s.Batch == 0 {
		return nil, Config{}, fault.New(fault.Model, "%s: configuration %s has no batch_size: choose one", t.Plans.File, c.Name)
	}
	s.NoMirroring = s.NoMirroring || c.NoMirroring
	k := &Trainer{Task: t, Settings: s, configuration: c, architecture: arch}
	config := Config{Arch: arch, Channels: t.Dataset.NumInputs(c), Heads: t.Dataset.NumHeads(), Patch: c.PatchSize, Batch: s.Batch,
		Loss: onnx.Loss{BatchDice: c.BatchDice, Ignore: max(0, t.Dataset.IgnoreLabel), Soft: s.Soft, Weighted: s.Weighted}, Dropout: s.Dropout, StochasticDepth: s.StochasticDepth}
	if t.Dataset.HasRegions() {
		for _, r := range t.Dataset.Regions() {
			config.Loss.Regions = append(config.Loss.Regions, r.Values)
		}
	}
	return k, config, nil
}

// Close frees the trainer.
func (t *Trainer) Close() {
	if t.optimizer != nil {
		t.optimizer.Close()
		t.Step.Close()
		t.optimizer = nil
	}
}

// Batch is what a step learns from, in the caller's memory; it is copied. Of Labels and
// Soft one is given, as the trainer's loss asks for (its Step has the other one nil).
type Batch struct {
	Images  []float32 // batch x channels x patch
	Labels  []float32 // batch x patch: whole numbers
	Soft    []float32 // batch x heads x patch: probabilities
	Weights []float32 // batch x patch; nil: all 1
}

// Take copies a batch into the step. Error: Argument (a part that is missing, not wanted
// or of another size).
func (t *Trainer) Take(b *Batch) error {
	for _, part := range []struct {
		name     string
		dst, src []float32
		optional bool
	}{{"images", t.Step.Images, b.Images, false}, {"labels", t.Step.Labels, b.Labels, false}, {"soft targets", t.Step.Soft, b.Soft, false}, {"weights", t.Step.Weights, b.Weights, true}} {
		if part.src == nil && part.optional {
			for i := range part.dst {
				part.dst[i] = 1
			}
			continue
		}
		if len(part.src) != len(part.dst) {
			return fault.New(fault.Argument, "a batch with %d numbers of %s, expected %d (batch %d, patch %v, %d channels, %d heads)",
				len(part.src), part.name, len(part.dst), t.Step.Batch, t.Step.Patch, t.Step.Channels, t.Step.Heads)
		}
		copy(part.dst, part.src)
	}
	return nil
}

// Train makes one step on the batch that the step holds: random masks, backward, clip,
// apply, at a learning rate. After an error the parameters are what they were. Errors:
// those of Backward, and Model for gradients that are not finite.
func (t *Trainer) Train(ctx context.Context, rate float64, step uint64) (Result, error) {
	t.Step.DrawMasks(t.Seed, step)
	r, err := t.Step.Backward(ctx, false)
	if err != nil {
		return r, err
	}
	return r, t.Apply(rate)
}

// Apply clips the gradients and applies them. Error: Model (gradients that are not finite;
// the parameters stay).
func (t *Trainer) Apply(rate float64) error {
	if norm := t.Step.ClipGradients(t.Clip); math.IsNaN(norm) || math.IsInf(norm, 0) {
		return fault.New(fault.Model, "the gradients are not finite (norm %g)", norm)
	}
	t.optimizer.Apply(rate)
	return nil
}

// MirrorAxes returns the patch's axes that the network is mirrored along.
func (t *Trainer) MirrorAxes() []int {
	return mirrorAxes(t.configuration, t.Settings)
}

func mirrorAxes(c *nnunet.Configuration, s Settings) []int {
	if s.NoMirroring {
		return nil
	}
	return []int{0, 1, 2}[:len(c.PatchSize)]
}

// named returns the parameters as plain arrays, which share the trainer's memory.
func (t *Trainer) named() (out []nnunet.NamedArray) {
	for _, p := range t.Step.Parameters.Tensors {
		out = append(out, nnunet.NamedArray{Name: p.Name, Shape: p.Shape, Values: p.Data})
	}
	return out
}

// optimizerArrays returns what the optimizer remembers.
func (t *Trainer) optimizerArrays() (out []nnunet.NamedArray) {
	for name, values := range t.optimizer.State() {
		out = append(out, nnunet.NamedArray{Name: optimizerPrefix + name, Shape: []int{len(values)}, Values: values})
	}
	slices.SortFunc(out, func(a, b nnunet.NamedArray) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Save writes a checkpoint from which Load goes on as if nothing had been: whole, or the
// file stays as it was.
func (t *Trainer) Save(path string) error {
	s := t.state
	if a, ok := t.optimizer.(*AdamW); ok {
		s.Optimizer, _ = json.Marshal(a.Steps)
	}
	return writeCheckpoint(path, &s, append(t.named(), t.optimizerArrays()...))
}

// Load reads a checkpoint of the same task and settings. Errors: those of readCheckpoint,
// Model (another task, other settings or plans); the parameters are undefined after some.
func (t *Trainer) Load(path string) error {
	memory := map[string][]float32{}
	for _, a := range append(t.named(), t.optimizerArrays()...) {
		memory[a.Name] = a.Values
	}
	found := 0
	s, err := readCheckpoint(path, func(s *State, a arrayName) ([]float32, error) {
		if s.Digest != t.state.Digest {
			return nil, t.differs(path, s)
		}
		dst, ok := memory[a.Name]
		if !ok {
			return nil, fault.New(fault.Model, "%s: holds %q, which this network does not have", path, a.Name)
		}
		found++
		return dst, nil
	})
	if err != nil {
		return err
	}
	if found != len(memory) {
		return fault.New(fault.Model, "%s: holds %d arrays, expected %d (is it a best checkpoint, without the optimizer's state?)", path, found, len(memory))
	}
	if a, ok := t.optimizer.(*AdamW); ok {
		if err := json.Unmarshal(s.Optimizer, &a.Steps); err != nil {
			return fault.New(fault.Format, "%s: the optimizer's number of steps: %v", path, err)
		}
	}
	t.state = *s
	return nil
}

// differs says how a checkpoint's training is another one.
func (t *Trainer) differs(path string, s *State) error {
	have, want := map[string]any{}, map[string]any{}
	for value, m := range map[*Settings]map[string]any{&s.Settings: have, &t.Settings: want} {
		text, _ := json.Marshal(value)
		_ = json.Unmarshal(text, &m)
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if !reflect.DeepEqual(have[key], want[key]) {
			return fault.New(fault.Model, "%s: was trained with %s %v, not %v: go on with the settings that it began with, or train anew in another folder", path, key, have[key], want[key])
		}
	}
	return fault.New(fault.Model, "%s: belongs to a training of configuration %s, fold %s, with other plans, cases or splits", path, s.Configuration, s.Fold)
}
