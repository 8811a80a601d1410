package engine

import (
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/onnx"
)

// halfDevice is the device whose fast mode is a graph of float16.
var halfDevice = CUDA

// HalfOn gives another device CUDA's fast mode, until back is called: so tests, which have
// no GPU, see what becomes of graphs and logits of float16.
func HalfOn(device string) (back func()) {
	before := halfDevice
	halfDevice = device
	return func() { halfDevice = before }
}

// halve returns the networks in float16; nil, and a note, where one cannot be so, for
// all share their outputs.
func (s *Session) halve(networks []Network) (halves []*onnx.Model, err error) {
	for _, n := range networks {
		m, err := onnx.Parse(n.ONNX)
		if err != nil {
			return nil, err
		}
		half, notes, err := m.Half()
		if fault.KindOf(err) == fault.Unsupported {
			s.note("fast mode cannot take fp16 for this network: %v", err)
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for _, note := range notes {
			s.note("%s", note)
		}
		halves = append(halves, half)
	}
	return halves, nil
}

// addHalf is add for a network in float16, which exists encoded for that time only.
func (s *Session) addHalf(n Network, half *onnx.Model, c *cache, o Options) (err error) {
	if n.ONNX, err = cmem.Alloc[byte](half.Size()); err != nil {
		return err
	}
	defer cmem.Free(n.ONNX)
	if err := half.MarshalTo(n.ONNX); err != nil {
		return err
	}
	n.Output = half.Graph.Outputs[0].Name
	if err := s.add(n, c, o); err != nil {
		return err
	}
	s.Precision = fp16
	return nil
}
