package onnx

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/libflare/libflare/segment/internal/cmem"
)

// tape notes, while a network is appended to a graph, how the gradient of each of its
// operators is computed; backward then appends the gradients in reverse order:
// reverse-mode differentiation. Each operator's gradient stands beside its forward.
//
// Values are float32 of known shape, batch first, channels second.
type tape struct {
	g          *Graph
	target     Target
	gradient   bool      // whether backward will follow
	weights    []float64 // of the loss at each scale, the full resolution first
	drops      map[MaskKind]bool
	masks      []Mask
	parameters []Parameter
	shapes     map[string][]int    // of the values of the forward pass
	pairs      map[string][]string // values that are joined along the channels: see concat
	steps      []func()            // each appends the gradient of one operator
	gradients  map[string]string   // of the loss by a value, as far as it has been summed up
	constants  map[string]string   // names of constants by their content
	names      map[string]int
}

func newTape(g *Graph, target Target) *tape {
	return &tape{g: g, target: target, shapes: map[string][]int{}, pairs: map[string][]string{}, gradients: map[string]string{},
		constants: map[string]string{}, names: map[string]int{}}
}

// op appends an operator with one output, which it returns. Names that have been given
// already get a number.
func (t *tape) op(op, name string, inputs []string, attributes ...*Attribute) string {
	t.names[name]++
	if n := t.names[name]; n > 1 {
		name = fmt.Sprintf("%s#%d", name, n)
	}
	t.g.Nodes = append(t.g.Nodes, &Node{Name: name, OpType: op, Inputs: inputs, Outputs: []string{name}, Attributes: attributes})
	return name
}

// note says that y, of the given shape, has been computed and how its gradient dy
// goes on to what it was computed from.
func (t *tape) note(y string, shape []int, back func(dy string)) string {
	t.shapes[y] = shape
	t.steps = append(t.steps, func() {
		if dy := t.gradients[y]; dy != "" {
			back(dy)
		}
	})
	return y
}

// add adds dv to the gradient of v.
func (t *tape) add(v, dv string) {
	if before := t.gradients[v]; before != "" {
		dv = t.op("Add", v+"/sum", []string{before, dv})
	}
	t.gradients[v] = dv
}

// flows reports whether anything before v needs its gradient: the image does not.
func (t *tape) flows(v string) bool { return v != InputName }

// backward appends the gradients of everything noted.
func (t *tape) backward() {
	for _, step := range slices.Backward(t.steps) {
		step()
	}
}

// int64s returns the name of a constant vector of whole numbers.
func (t *tape) int64s(v ...int) string {
	return t.constant(fmt.Sprint("int64", v), func(name string) *Tensor {
		var raw []byte
		for _, n := range v {
			raw = binary.LittleEndian.AppendUint64(raw, uint64(n))
		}
		return &Tensor{Name: name, Type: Int64, Dims: []int64{int64(len(v))}, Raw: raw}
	})
}

// floats returns the name of a constant of the given shape.
func (t *tape) floats(shape []int, v ...float32) string {
	return t.constant(fmt.Sprint("float", shape, v), func(name string) *Tensor {
		raw := slices.Clone(cmem.Bytes(v))
		return &Tensor{Name: name, Type: Float, Dims: int64s(shape), Raw: raw}
	})
}

// constant returns the name of a constant that holds what content says, and appends it
// when it is asked for the first time.
func (t *tape) constant(content string, make func(name string) *Tensor) string {
	name := t.constants[content]
	if name == "" {
		name = fmt.Sprintf("constant.%d", len(t.constants))
		t.constants[content] = name
		t.g.Initializers = append(t.g.Initializers, make(name))
	}
	return name
}

// scalar returns the name of a constant number, of one axis.
func (t *tape) scalar(v float64) string { return t.floats([]int{1}, float32(v)) }

// late returns the name of a number that is known only when the loss is: what is
// multiplied by it is computed in the backward pass. Of constants runtimes would compute
// it in the forward pass, together with what is done there to the same values, and keep
// it. It has as many axes as the images: OpenVINO changes the layout of its partner
// otherwise. Where the loss is NaN, so are the gradients.
func (t *tape) late(v float64) string {
	content := fmt.Sprint("late", v)
	if t.constants[content] == "" {
		nothing := t.mul("late/nothing", LossName, t.scalar(0))
		t.constants[content] = t.reshape("late/axes", t.plus("late", nothing, t.scalar(v)), ones(len(t.shapes[InputName]))...)
	}
	return t.constants[content]
}

// reshape, transpose and slice are the operators of these names.

func (t *tape) reshape(name, x string, shape ...int) string {
	return t.op("Reshape", name, []string{x, t.int64s(shape...)})
}

func (t *tape) transpose(name, x string, perm ...int) string {
	return t.op("Transpose", name, []string{x}, ints("perm", perm))
}

// slice takes count[i] values, steps[i] apart, from starts[i] on along axes[i].
func (t *tape) slice(name, x string, axes, starts, count, steps []int) string {
	ends := make([]int, len(axes))
	for i := range ends {
		ends[i] = starts[i] + (count[i]-1)*steps[i] + 1
	}
	return t.op("Slice", name, []string{x, t.int64s(starts...), t.int64s(ends...), t.int64s(axes...), t.int64s(steps...)})
}

// sum adds up along axes, which stay with size 1 if keep is set.
func (t *tape) sum(name, x string, keep bool, axes ...int) string {
	k := int64(0)
	if keep {
		k = 1
	}
	return t.op("ReduceSum", name, []string{x, t.int64s(axes...)}, integer("keepdims", k))
}

// overVoxels adds up x (n x c x size, of the given shape) over its voxels and multiplies
// by factor: n x c x 1. Layers of the first of their axes come first: OpenVINO adds number
// to number in float32, which for all voxels at once costs accuracy: 1e-5 for 90,000. It
// would make one operator of two that are the same.
func (t *tape) overVoxels(name, x string, factor float64, shape []int) string {
	layers := t.op("ReduceMean", name+"/layers", []string{x}, ints("axes", span(3, len(shape))), integer("keepdims", 1))
	return t.mul(name, t.sum(name+"/sum", layers, true, 2), t.scalar(factor*float64(product(shape[3:]))))
}

// rename makes a value an output of the graph.
func (t *tape) rename(from, to string) { t.g.rename(from, to) }

// clip limits x to lo..hi.
func (t *tape) clip(name, x string, lo, hi float64) string {
	return t.op("Clip", name, []string{x, t.floats(nil, float32(lo)), t.floats(nil, float32(hi))})
}

func (t *tape) mul(name, a, b string) string  { return t.op("Mul", name, []string{a, b}) }
func (t *tape) plus(name, a, b string) string { return t.op("Add", name, []string{a, b}) }

// span lists the numbers from a to b-1.
func span(a, b int) []int {
	var out []int
	for i := a; i < b; i++ {
		out = append(out, i)
	}
	return out
}

func product(v []int) int {
	n := 1
	for _, d := range v {
		n *= d
	}
	return n
}
