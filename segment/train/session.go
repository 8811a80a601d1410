package train

import (
	"context"
	"os"
	"path/filepath"
	"slices"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/filelock"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/train/dataset"
	"github.com/libflare/libflare/segment/volume"
)

// SessionOptions says what a session trains: a model's network, or a new one.
type SessionOptions struct {
	Options
	Settings      Settings
	Model         string // bundle or results folder to begin with, or "" and: ...
	Plans         string // ... plans.json, or "" for that of Cache
	Dataset       string // ... dataset.json, or "" for that of Cache
	Configuration string // name in the plans; "": 3d_fullres, or Cache's
	Cache         string // folder of preprocessed cases to draw batches from, or ""
	Fold          string // of nnU-Net's splits of the cache's cases; "": all
}

// Session is a trainer with the cases that its batches come from, for programs that make
// the steps themselves. It is used by one goroutine at a time. Close it.
type Session struct {
	*Trainer
	Rate float64 // of Apply; first that of the settings

	cache   *dataset.Cache
	split   dataset.Split
	own     []*dataset.Case // made by AddCase
	sampler *sampler
	drawn   int  // number of the sampler's next batch
	filled  bool // the step holds a batch
}

// OpenSession opens what o names. Errors: Argument (what does not go together), and those
// of New, FineTune and dataset.Open.
func OpenSession(o SessionOptions) (_ *Session, err error) {
	s := &Session{Rate: o.Settings.LearningRate}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if o.Cache != "" {
		if s.cache, err = dataset.Open(o.Cache); err != nil {
			return nil, err
		}
		if o.Fold == "" {
			o.Fold = "all"
		}
		if s.split, err = dataset.SplitOf(o.Fold, s.cache.Cases, nil); err != nil {
			return nil, err
		}
	}
	switch {
	case o.Model != "" && (o.Plans != "" || o.Dataset != "" || o.Configuration != ""):
		return nil, fault.New(fault.Argument, "model %s is given and plans, dataset or configuration too: these are the model's", o.Model)
	case o.Model != "":
		s.Trainer, err = FineTune(o.Model, o.Settings, o.Options)
	default:
		var task *Task
		if task, err = o.task(s.cache); err == nil {
			s.Trainer, err = New(*task, o.Settings, o.Options)
		}
	}
	if err != nil {
		return nil, err
	}
	if s.cache != nil {
		if have := s.cache.Configuration.Name; have != s.Configuration {
			return nil, fault.New(fault.Model, "%s: holds cases preprocessed for configuration %s, the network is of %s", o.Cache, have, s.Configuration)
		}
		s.state.Digest = s.digest(s.cache.Digest(), s.split)
	}
	return s, nil
}

// task reads what a new network is for.
func (o *SessionOptions) task(cache *dataset.Cache) (*Task, error) {
	t := &Task{Configuration: o.Configuration, Fold: o.Fold}
	if t.Fold == "" {
		t.Fold = "all"
	}
	if (o.Plans == "") != (o.Dataset == "") || o.Plans == "" && cache == nil {
		return nil, fault.New(fault.Argument, "expected a model, or plans (plans.json) and dataset (dataset.json), or a cache that holds both")
	}
	if o.Plans == "" {
		t.Plans, t.Dataset, t.Fingerprint = cache.Plans, cache.Dataset, cache.Fingerprint
		if t.Configuration == "" {
			t.Configuration = cache.Configuration.Name
		}
		return t, nil
	}
	if t.Configuration == "" {
		t.Configuration = "3d_fullres"
	}
	var err error
	if t.Plans, err = nnunet.ReadPlans(o.Plans); err != nil {
		return nil, err
	}
	t.Dataset, err = nnunet.ReadDataset(o.Dataset)
	return t, err
}

// Close ends the session.
func (s *Session) Close() {
	s.stop()
	if s.Trainer != nil {
		s.Trainer.Close()
	}
	for _, k := range s.own {
		k.Free()
	}
	if s.cache != nil {
		s.cache.Close()
	}
}

// stop ends the sampler.
func (s *Session) stop() {
	if s.sampler != nil {
		s.sampler.close()
		s.sampler = nil
	}
}

// AddCase preprocesses an image with its labels, on one grid, and adds it to the cases
// that batches are drawn from; a name that was added before is replaced. Both volumes are
// only read. Errors: those of dataset.Prepare; the cases then stay as they were.
func (s *Session) AddCase(ctx context.Context, name string, image, labels *volume.Volume) error {
	k, err := dataset.Prepare(ctx, name, image, labels, s.Plans, s.Dataset, s.Configuration)
	if err != nil {
		return err
	}
	s.stop()
	if i := slices.IndexFunc(s.own, func(o *dataset.Case) bool { return o.Name == name }); i >= 0 {
		s.own[i].Free()
		s.own[i] = k
	} else {
		s.own = append(s.own, k)
	}
	return nil
}

// Cases returns the names of the cases that batches are drawn from.
func (s *Session) Cases() []string {
	names := slices.Clone(s.split.Train)
	for _, k := range s.own {
		names = append(names, k.Name)
	}
	return names
}

// data makes batches of the split's cases and the added ones. Without validation cases an
// epoch is judged on those of training.
func (s *Session) data() (*data, error) {
	cases, err := s.sources(s.cache, s.split)
	if err != nil {
		return nil, err
	}
	for _, k := range s.own {
		c, err := s.source(k)
		if err != nil {
			return nil, err
		}
		cases[training] = append(cases[training], c)
	}
	if len(cases[training]) == 0 {
		return nil, fault.New(fault.Argument, "there are no cases to draw a batch from: open the trainer with a cache, add a case, or give the batch")
	}
	if cases[validation] == nil {
		cases[validation] = cases[training]
	}
	return s.dataOf(cases)
}

// number is how many batches were learnt from.
func (s *Session) number() int { return s.state.Epoch*s.Iterations + s.state.Iteration }

// Input is a caller's batch, in the caller's memory; it is copied. Of Labels and Soft one
// is given, as the settings say.
type Input struct {
	Images  []float32 // batch x channels x patch
	Labels  any       // batch x patch whole numbers: []uint8, []int16, []uint16, []int32, []float32; or nil
	Soft    []float32 // batch x heads x patch: probabilities, or nil
	Weights []float32 // batch x patch, or nil: all 1
}

// fetch puts the caller's batch into the step, or with nil the next of the cases.
func (s *Session) fetch(ctx context.Context, in *Input) (cases []string, err error) {
	s.filled = false
	if in != nil {
		b := Batch{Images: in.Images, Soft: in.Soft, Weights: in.Weights}
		if b.Labels, err = s.labels(in.Labels); err == nil {
			err = s.Take(&b)
		}
		s.filled = err == nil
		return nil, err
	}
	if s.sampler != nil && s.drawn != s.number() {
		s.stop() // a call failed or a checkpoint was loaded meanwhile
	}
	if s.sampler == nil {
		d, err := s.data()
		if err != nil {
			return nil, err
		}
		if s.sampler, err = s.Trainer.sampler(d, s.number()); err != nil {
			return nil, err
		}
		s.drawn = s.number()
	}
	s.drawn++
	if cases, err = s.sampler.next(ctx); err != nil {
		s.stop()
		return nil, err
	}
	s.filled = true
	return cases, nil
}

// labels copies a caller's labels into the step, and refuses those that the dataset lacks.
func (s *Session) labels(given any) ([]float32, error) {
	values := s.Dataset.Values() // from 0 on without gaps, as the reader of dataset.json saw to
	if s.Dataset.IgnoreLabel >= 0 {
		values = append(values, s.Dataset.IgnoreLabel)
	}
	switch given := given.(type) {
	case nil:
		return nil, nil
	case []uint8:
		return copyLabels(s.Step.Labels, given, values)
	case []int16:
		return copyLabels(s.Step.Labels, given, values)
	case []uint16:
		return copyLabels(s.Step.Labels, given, values)
	case []int32:
		return copyLabels(s.Step.Labels, given, values)
	case []float32:
		return copyLabels(s.Step.Labels, given, values)
	}
	return nil, fault.New(fault.Argument, "labels of type %T, expected []uint8, []int16, []uint16, []int32 or []float32", given)
}

func copyLabels[T uint8 | int16 | uint16 | int32 | float32](dst []float32, src []T, values []int) ([]float32, error) {
	if len(src) != len(dst) {
		return nil, fault.New(fault.Argument, "a batch with %d labels, expected %d", len(src), len(dst))
	}
	known := float32(len(values))
	for i, v := range src {
		f := float32(v)
		if !(f >= 0 && f < known && f == float32(int32(f))) {
			return nil, fault.New(fault.Argument, "labels: element %d is %g, expected the labels 0 to %d of dataset.json", i, f, len(values)-1)
		}
		dst[i] = f
	}
	return dst, nil
}

// Backward computes the loss and gradients of the caller's batch, or with nil of the next
// of the cases; with add the gradients are added to those there. Errors: Argument, Model
// (with the cases' names), Cancelled; the gradients are then undefined.
func (s *Session) Backward(ctx context.Context, in *Input, add bool) (Result, error) {
	cases, err := s.fetch(ctx, in)
	if err != nil {
		return Result{}, err
	}
	s.Step.DrawMasks(s.Seed, uint64(s.number()))
	r, err := s.Step.Backward(ctx, add)
	if err != nil {
		return r, s.place(err, cases)
	}
	s.count(r)
	return r, nil
}

// Learn is Backward and Apply. After an error the parameters are what they were.
func (s *Session) Learn(ctx context.Context, in *Input) (Result, error) {
	cases, err := s.fetch(ctx, in)
	if err != nil {
		return Result{}, err
	}
	r, err := s.Train(ctx, s.Rate, uint64(s.number()))
	if err != nil {
		return r, s.place(err, cases)
	}
	s.count(r)
	return r, nil
}

// Forward computes the loss of the caller's batch, or with nil of the batch that the last
// call had, without dropout and gradients.
func (s *Session) Forward(ctx context.Context, in *Input) (Result, error) {
	if in != nil {
		if _, err := s.fetch(ctx, in); err != nil {
			return Result{}, err
		}
	}
	if !s.filled {
		return Result{}, fault.New(fault.Argument, "there was no batch before: give one")
	}
	return s.Step.Forward(ctx)
}

// place adds where a batch that cannot be learnt from came from.
func (s *Session) place(err error, cases []string) error {
	if fault.KindOf(err) != fault.Model {
		return err
	}
	if cases == nil {
		return fault.New(fault.Model, "step %d, the caller's batch: %w", s.number(), err)
	}
	return fault.New(fault.Model, "step %d, cases %v: %w", s.number(), cases, err)
}

// count notes that a batch was learnt from.
func (s *Session) count(r Result) {
	p := &s.state
	if p.Loss = append(p.Loss, r.Loss); p.Iteration+1 < s.Iterations {
		p.Iteration++
		return
	}
	p.Epoch, p.Iteration, p.Loss = p.Epoch+1, 0, nil
}

// Load is Trainer.Load.
func (s *Session) Load(path string) error {
	s.stop()
	return s.Trainer.Load(path)
}

// Run trains on the cases from where the session is to the last epoch, with nnU-Net's
// learning rates. With a folder, made if need be, it leaves there what Run leaves, but no
// validation of whole cases. Errors as of Run.
func (s *Session) Run(ctx context.Context, folder string, progress func(Progress)) error {
	d, err := s.data()
	if err != nil {
		return err
	}
	s.stop()
	if folder != "" {
		if err := os.MkdirAll(folder, 0o777); err != nil {
			return fault.File(folder, err)
		}
		held, err := filelock.Lock(filepath.Join(folder, lockFile), busy)
		if err != nil {
			return err
		}
		defer held.Close()
		if err := writeFiles(folder, s.Task, s.split); err != nil {
			return err
		}
	}
	return s.learn(ctx, d, folder, progress)
}
