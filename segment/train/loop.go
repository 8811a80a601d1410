package train

import (
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/train/record"
)

// Progress is how far a training is.
type Progress struct {
	Phase        string // train, validate (an epoch's pseudo Dice) or evaluate (whole cases)
	Epoch        int    // from 0
	Epochs       int
	Done, Total  int     // steps of the phase; cases of evaluate
	Loss         float64 // mean of the epoch so far; NaN before the first step
	LearningRate float64
	Dice, EMA    float64 // pseudo Dice of the last epoch, and its moving average; NaN before
	StepSeconds  float64 // of a training step, mean of the epoch so far
	Left         float64 // seconds until the end, about; NaN where not known yet
	Waited       float64 // fraction of the epoch's time that the network waited for data
}

// interval is the least time between two calls of a progress function.
const interval = 50 * time.Millisecond

// loop is a training under way.
type loop struct {
	*Trainer
	data     *data
	queue    *queue
	epochEnd func() error // after each epoch
	best     func() error // when the moving average is better than ever
	progress func(Progress)

	told    time.Time
	started time.Time // of the epoch
	steps   int       // of this epoch and process
	waited  time.Duration
	busy    time.Duration // in training steps, waiting included
}

// jobs returns the batches from the state on.
func (l *loop) jobs() func() (job, bool) {
	epoch, i := l.state.Epoch, l.state.Iteration
	return func() (job, bool) {
		if i == l.Iterations+l.ValidationIterations {
			epoch, i = epoch+1, 0
		}
		if epoch >= l.Epochs {
			return job{}, false
		}
		j := job{training, epoch*l.Iterations + i}
		if i >= l.Iterations {
			j = job{validation, epoch*l.ValidationIterations + i - l.Iterations}
		}
		i++
		return j, true
	}
}

// run trains from the state on to the last epoch. After an error the state and the
// parameters are those after the last good step, except where saying so.
func (l *loop) run(ctx context.Context) error {
	var err error
	if l.queue, err = l.data.start(l.workers(), l.jobs()); err != nil {
		return err
	}
	defer l.queue.close()
	for l.state.Epoch < l.Epochs {
		if err := l.epoch(ctx); err != nil {
			return err
		}
	}
	return nil
}

// epoch trains, validates, and closes the epoch.
func (l *loop) epoch(ctx context.Context) error {
	s := &l.state
	l.started, l.steps, l.waited, l.busy = time.Now(), 0, 0, 0
	rate := PolyRate(l.LearningRate, s.Epoch, l.Epochs)
	for s.Iteration < l.Iterations {
		begin := time.Now()
		b, err := l.take(ctx)
		if err != nil {
			return err
		}
		step := s.Epoch*l.Iterations + s.Iteration
		r, err := l.Train(ctx, rate, uint64(step))
		cases := strings.Join(slices.Compact(slices.Sorted(slices.Values(b.cases))), ", ")
		l.queue.done(b)
		if fault.KindOf(err) == fault.Model {
			return fault.New(fault.Model, "epoch %d, step %d, cases %s: %w", s.Epoch, step, cases, err)
		} else if err != nil {
			return err
		}
		s.Loss = append(s.Loss, r.Loss)
		s.Iteration++
		l.steps++
		l.busy += time.Since(begin)
		l.tell("train", s.Iteration, l.Iterations, rate)
	}
	e, err := l.validate(ctx, rate)
	if err != nil {
		return err
	}
	return l.close(e)
}

// take waits for the next batch and copies it into the step.
func (l *loop) take(ctx context.Context) (*slot, error) {
	begin := time.Now()
	b, err := l.queue.next(ctx)
	l.waited += time.Since(begin)
	if err != nil {
		return nil, err
	}
	l.put(b)
	return b, nil
}

// validate computes an epoch's validation loss and pseudo Dice: of all voxels of its
// batches together (nnUNetTrainer.on_validation_epoch_end).
func (l *loop) validate(ctx context.Context, rate float64) (record.Epoch, error) {
	s := &l.state
	e := record.Epoch{Number: s.Epoch, LearningRate: rate, Loss: mean(s.Loss), Start: seconds(l.started)}
	if l.steps > 0 {
		e.StepSeconds = l.busy.Seconds() / float64(l.steps)
		e.Waited = l.waited.Seconds() / l.busy.Seconds()
	}
	heads := l.Step.Heads
	tp, fp, fn := make([]float64, heads), make([]float64, heads), make([]float64, heads)
	for i := range l.ValidationIterations {
		b, err := l.take(ctx)
		if err != nil {
			return e, err
		}
		r, err := l.Step.Forward(ctx)
		cases := strings.Join(b.cases, ", ")
		l.queue.done(b)
		if fault.KindOf(err) == fault.Model {
			return e, fault.New(fault.Model, "epoch %d, validation, cases %s: %w", s.Epoch, cases, err)
		} else if err != nil {
			return e, err
		}
		e.ValidationLoss += r.Loss / float64(l.ValidationIterations)
		for h := range heads {
			tp[h], fp[h], fn[h] = tp[h]+r.TP[h], fp[h]+r.FP[h], fn[h]+r.FN[h]
		}
		l.tell("validate", i+1, l.ValidationIterations, rate)
	}
	first := 1 // without the background
	if l.Dataset.HasRegions() {
		first = 0
	}
	sum, n := 0.0, 0.0
	for h := first; h < heads; h++ {
		dice := 2 * tp[h] / (2*tp[h] + fp[h] + fn[h])
		if math.IsNaN(dice) { // neither predicted nor there
			e.ClassDice = append(e.ClassDice, 0)
			continue
		}
		e.ClassDice = append(e.ClassDice, dice)
		sum, n = sum+dice, n+1
	}
	if n > 0 {
		e.Dice = sum / n
	}
	e.EMA = e.Dice
	if k := len(s.Epochs); k > 0 {
		e.EMA = 0.9*s.Epochs[k-1].EMA + 0.1*e.Dice
	}
	return e, nil
}

// close adds an epoch to the state.
func (l *loop) close(e record.Epoch) error {
	s := &l.state
	e.End = seconds(time.Now())
	s.Epochs = append(s.Epochs, e)
	s.Epoch, s.Iteration, s.Loss = s.Epoch+1, 0, nil
	if s.BestEMA == nil || e.EMA > *s.BestEMA {
		ema := e.EMA
		s.BestEMA = &ema
		if err := l.best(); err != nil {
			return err
		}
	}
	return l.epochEnd()
}

// tell calls the progress function, not too often.
func (l *loop) tell(phase string, done, total int, rate float64) {
	if l.progress == nil || time.Since(l.told) < interval && done < total {
		return
	}
	l.told = time.Now()
	s := &l.state
	p := Progress{Phase: phase, Epoch: s.Epoch, Epochs: l.Epochs, Done: done, Total: total, Loss: mean(s.Loss), LearningRate: rate,
		Dice: math.NaN(), EMA: math.NaN(), Left: math.NaN()}
	if k := len(s.Epochs); k > 0 {
		p.Dice, p.EMA = s.Epochs[k-1].Dice, s.Epochs[k-1].EMA
	}
	if l.steps > 0 {
		p.StepSeconds = l.busy.Seconds() / float64(l.steps)
		p.Waited = l.waited.Seconds() / max(1e-9, time.Since(l.started).Seconds())
		steps := float64((l.Epochs-s.Epoch)*l.Iterations - s.Iteration)
		// A validation batch costs about a third of a step: forward only.
		p.Left = p.StepSeconds * (steps + float64((l.Epochs-s.Epoch)*l.ValidationIterations)/3)
	}
	l.progress(p)
}

func mean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
