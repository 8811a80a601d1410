package train

import (
	"math"

	"gonum.org/v1/gonum/blas/blas32"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/parallel"
	"github.com/libflare/libflare/segment/onnx"
)

// Optimizer changes parameters by their gradients.
type Optimizer interface {
	// Apply makes one step at a learning rate. The gradients are undefined afterwards.
	// Tensors of onnx.GradientNone stay as they are.
	Apply(rate float64)

	// State returns what the optimizer remembers between steps, by name, in C memory of
	// the optimizer: to be saved, and to be set when a training is resumed.
	State() map[string][]float32

	Close()
}

// chunk is how many numbers are worked on at a time, so that what an operation has
// touched is still in the processor's first cache when the next one comes.
const chunk = 2048

// piece is a part of a tensor: the same range of all buffers with the parameters' layout.
type piece struct{ from, to int }

// optimizer is what all of them have.
type optimizer struct {
	parameters, gradients []float32
	pieces                []piece
	threads               int
}

func newOptimizer(s *Step) optimizer {
	o := optimizer{parameters: s.Parameters.Values, gradients: s.Gradients.Values, threads: s.backward.Threads}
	at := 0
	for _, t := range s.Parameters.Tensors {
		if t.Gradient != onnx.GradientNone {
			for from := 0; from < len(t.Data); from += chunk {
				o.pieces = append(o.pieces, piece{at + from, at + min(from+chunk, len(t.Data))})
			}
		}
		at += aligned(len(t.Data))
	}
	return o
}

// each calls body for all pieces on several threads, a block of them at a time.
func (o *optimizer) each(body func(from, to int)) {
	const block = 64
	parallel.For((len(o.pieces)+block-1)/block, o.threads, func(_, i int) error {
		for _, p := range o.pieces[i*block : min((i+1)*block, len(o.pieces))] {
			body(p.from, p.to)
		}
		return nil
	})
}

// SGD is stochastic gradient descent with momentum, Nesterov's, and weight decay, as
// torch.optim.SGD computes it: d = gradient + decay parameter, v = momentum v + d,
// parameter -= rate (d + momentum v).
type SGD struct {
	Momentum, WeightDecay float64

	optimizer
	velocity []float32
}

// NewSGD returns nnU-Net's optimizer, with momentum 0.99 and weight decay 3e-5, for the
// parameters of s. It must be closed before s. Error: Memory.
func NewSGD(s *Step) (*SGD, error) {
	v, err := cmem.AllocZero[float32](len(s.Parameters.Values))
	return &SGD{Momentum: 0.99, WeightDecay: 3e-5, optimizer: newOptimizer(s), velocity: v}, err
}

// Apply implements Optimizer.
func (o *SGD) Apply(rate float64) {
	o.each(func(from, to int) {
		p, d, v := vector(o.parameters, from, to), vector(o.gradients, from, to), vector(o.velocity, from, to)
		blas32.Axpy(float32(o.WeightDecay), p, d)
		blas32.Scal(float32(o.Momentum), v)
		blas32.Axpy(1, d, v)
		blas32.Axpy(float32(-rate), d, p)
		blas32.Axpy(float32(-rate*o.Momentum), v, p)
	})
}

// State implements Optimizer: the velocity, called momentum_buffer in PyTorch.
func (o *SGD) State() map[string][]float32 {
	return map[string][]float32{"momentum_buffer": o.velocity}
}

// Close frees the state.
func (o *SGD) Close() {
	cmem.Free(o.velocity)
	o.velocity = nil
}

// AdamW is Adam with decoupled weight decay, as torch.optim.AdamW computes it.
type AdamW struct {
	Beta1, Beta2, Eps, WeightDecay float64
	Steps                          int // made so far: set it with the state when a training is resumed

	optimizer
	mean, square []float32
}

// NewAdamW returns AdamW with PyTorch's defaults for the parameters of s. It must be
// closed before s. Error: Memory.
func NewAdamW(s *Step) (*AdamW, error) {
	o := &AdamW{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8, WeightDecay: 1e-2, optimizer: newOptimizer(s)}
	var err error
	if o.mean, err = cmem.AllocZero[float32](len(s.Parameters.Values)); err == nil {
		o.square, err = cmem.AllocZero[float32](len(s.Parameters.Values))
	}
	if err != nil {
		o.Close()
		return nil, err
	}
	return o, nil
}

// Apply implements Optimizer.
func (o *AdamW) Apply(rate float64) {
	o.Steps++
	correction := math.Sqrt(1 - math.Pow(o.Beta2, float64(o.Steps)))
	size := float32(rate / (1 - math.Pow(o.Beta1, float64(o.Steps))))
	scale, eps := float32(1/correction), float32(o.Eps)
	b1, b2 := float32(1-o.Beta1), float32(1-o.Beta2)
	o.each(func(from, to int) {
		blas32.Scal(float32(1-rate*o.WeightDecay), vector(o.parameters, from, to))
		p, d, m, v := o.parameters[from:to], o.gradients[from:to], o.mean[from:to], o.square[from:to]
		for i, g := range d {
			m[i] += b1 * (g - m[i])
			v[i] += b2 * (g*g - v[i])
			p[i] -= size * m[i] / (float32(math.Sqrt(float64(v[i])))*scale + eps)
		}
	})
}

// State implements Optimizer: running means of the gradients and of their squares.
func (o *AdamW) State() map[string][]float32 {
	return map[string][]float32{"exp_avg": o.mean, "exp_avg_sq": o.square}
}

// Close frees the state.
func (o *AdamW) Close() {
	cmem.Free(o.mean)
	cmem.Free(o.square)
	o.mean, o.square = nil, nil
}

// ClipGradients scales the gradients of s down to a norm of at most limit, as
// torch.nn.utils.clip_grad_norm_ does, and returns the norm that they had. nnU-Net's
// limit is 12. A gradient that is NaN or infinite makes the norm so, and nothing is
// scaled.
func (s *Step) ClipGradients(limit float64) (norm float64) {
	values, threads := s.Gradients.Values, s.backward.Threads
	// Partial sums are of fixed parts, so that the norm does not depend on the threads.
	const part = 32 * chunk
	sums := make([]float64, (len(values)+part-1)/part)
	parallel.For(len(sums), threads, func(_, i int) error {
		v := vector(values, i*part, min((i+1)*part, len(values)))
		sums[i] = blas32.DDot(v, v)
		return nil
	})
	for _, sum := range sums {
		norm += sum
	}
	norm = math.Sqrt(norm)
	if factor := limit / (norm + 1e-6); factor > 0 && factor < 1 {
		parallel.For(len(sums), threads, func(_, i int) error {
			blas32.Scal(float32(factor), vector(values, i*part, min((i+1)*part, len(values))))
			return nil
		})
	}
	return norm
}

// PolyRate is nnU-Net's learning rate in an epoch, counted from 0, of a training of so
// many epochs (nnunetv2/training/lr_scheduler/polylr.py): initial (1 - epoch / epochs)^0.9.
// nnU-Net's initial rate is 0.01.
func PolyRate(initial float64, epoch, epochs int) float64 {
	return initial * math.Pow(1-float64(epoch)/float64(epochs), 0.9)
}

// accumulate adds more to sum.
func accumulate(sum, more []float32, threads int) {
	const part = 32 * chunk
	parallel.For((len(sum)+part-1)/part, threads, func(_, i int) error {
		from, to := i*part, min((i+1)*part, len(sum))
		blas32.Axpy(1, vector(more, from, to), vector(sum, from, to))
		return nil
	})
}

// vector is the part of a buffer from from to to.
func vector(buffer []float32, from, to int) blas32.Vector {
	return blas32.Vector{N: to - from, Inc: 1, Data: buffer[from:to]}
}
