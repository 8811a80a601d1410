package nnunet

import (
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/nlpodyssey/gopickle/types"

	"github.com/libflare/libflare/segment/internal/fault"
)

// Checkpoint is a checkpoint_*.pth of nnU-Net
// (training/nnUNetTrainer/nnUNetTrainer.py, save_checkpoint). It keeps its
// file open; Close it. A Checkpoint may be read from several goroutines.
type Checkpoint struct {
	File          string
	TrainerName   string // class name, such as nnUNetTrainer
	Configuration string // name in the plans
	Fold          string // "0", "1", ..., "all", or empty where the file lacks it

	// MirrorAxes are the axes (0 is the first after the channels) along
	// which the network was trained to be mirrored; nil if mirroring is not
	// allowed.
	MirrorAxes []int

	// Weights holds the network's tensors by state-dict name, such as
	// encoder.stages.0.0.convs.0.conv.weight, without the prefixes of
	// DistributedDataParallel and torch.compile and without second names
	// of the same weights.
	Weights map[string]*Tensor

	closer io.Closer
}

// OpenCheckpoint reads the description of the checkpoint at path. Weights are
// read when they are asked for, the optimizer's state never. Nothing in the
// file is executed. Errors: NotFound, IO, Format (truncated, malformed, not a
// checkpoint), Unsupported (PyTorch's format before 1.6, TorchScript, big
// endian), Model (a key of nnU-Net is missing).
func OpenCheckpoint(path string) (*Checkpoint, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.File(path, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		f.Close()
		return nil, fault.New(fault.Format, "%s: not a regular file, expected a PyTorch checkpoint", path)
	}
	var c *Checkpoint
	if err == nil {
		c, err = readCheckpoint(f, info.Size(), path)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	c.closer = f
	return c, nil
}

// Close closes the file; the Weights can no longer be read.
func (c *Checkpoint) Close() error { return c.closer.Close() }

// readCheckpoint is OpenCheckpoint for the size bytes in r.
func readCheckpoint(r io.ReaderAt, size int64, path string) (*Checkpoint, error) {
	z, err := openTorchZip(r, size, path)
	if err != nil {
		return nil, err
	}
	root, err := unpickle(z.pickle)
	z.pickle = nil
	if err != nil {
		return nil, fault.New(fault.Format, "%s: data.pkl: %v", path, err)
	}
	top, ok := dict(root)
	if !ok {
		return nil, fault.New(fault.Format, "%s: holds a %s, expected a dict with nnU-Net's keys", path, pythonType(root))
	}
	c := &Checkpoint{File: path}
	if c.TrainerName, ok = top["trainer_name"].(string); !ok {
		return nil, missing(path, "trainer_name", "a text", top)
	}
	init, ok := dict(top["init_args"])
	if !ok {
		return nil, missing(path, "init_args", "a dict", top)
	}
	if c.Configuration, ok = init["configuration"].(string); !ok {
		return nil, missing(path, "init_args/configuration", "a text", init)
	}
	switch f := init["fold"].(type) {
	case string:
		c.Fold = f
	case int:
		c.Fold = strconv.Itoa(f)
	}
	if axes := top["inference_allowed_mirroring_axes"]; axes != nil {
		if c.MirrorAxes, ok = integers(axes); !ok {
			return nil, missing(path, "inference_allowed_mirroring_axes", "a tuple of 0, 1, 2", top)
		}
		seen := [3]bool{}
		for _, a := range c.MirrorAxes {
			if a < 0 || a > 2 || seen[a] {
				return nil, fault.New(fault.Format, "%s: key inference_allowed_mirroring_axes: found %.40v, expected different axes among 0, 1, 2", path, c.MirrorAxes)
			}
			seen[a] = true
		}
	}
	weights, ok := dict(top["network_weights"])
	if !ok {
		return nil, missing(path, "network_weights", "a dict", top)
	}
	return c, c.takeWeights(z, weights)
}

func (c *Checkpoint) takeWeights(z *torchZip, weights map[string]any) error {
	c.Weights = map[string]*Tensor{}
	for name, v := range weights {
		t, ok := v.(*Tensor)
		if !ok {
			if _, inert := v.(*inert); inert {
				return fault.New(fault.Unsupported, "%s: network_weights[%.120q] is not a tensor of a supported type", c.File, name)
			}
			return fault.New(fault.Format, "%s: network_weights[%.120q] is a %s, expected a tensor", c.File, name, pythonType(v))
		}
		copied := *t // one tensor may have several names
		copied.Name = plainName(name)
		c.Weights[copied.Name] = &copied
	}
	for name := range c.Weights {
		canonical := canonicalName(name)
		block, _, again := strings.Cut(name, ".all_modules.")
		again = again && c.Weights[canonicalName(block+".conv.weight")] != nil
		if again || canonical != name && c.Weights[canonical] != nil {
			delete(c.Weights, name)
		}
	}
	// Tensors that overlap could make a small file ask for much memory; in
	// nnU-Net's files no number belongs to two canonical names.
	var bytes int64
	for _, t := range c.Weights {
		if err := t.place(z); err != nil {
			return err
		}
		if bytes += int64(t.Len()) * t.DType.size(); bytes > 2*z.size {
			return fault.New(fault.Format, "%s: the weights overlap: together they are larger than the file of %d bytes", c.File, z.size)
		}
	}
	return nil
}

// plainName strips the prefixes that DistributedDataParallel (module.) and
// torch.compile (_orig_mod.) add.
func plainName(name string) string {
	for {
		short := strings.TrimPrefix(strings.TrimPrefix(name, "module."), "_orig_mod.")
		if short == name {
			return name
		}
		name = short
	}
}

// canonicalName returns the first name of weights that a state dict lists
// twice: the decoder holds the encoder as a member
// (building_blocks/unet_decoder.py), and a block of convolution, norm and
// activation holds them in all_modules again, the convolution first
// (building_blocks/simple_conv_blocks.py).
func canonicalName(name string) string {
	if rest, ok := strings.CutPrefix(name, "decoder.encoder."); ok {
		name = "encoder." + rest
	}
	before, rest, ok := strings.Cut(name, ".all_modules.")
	if !ok {
		return name
	}
	index, parameter, ok := strings.Cut(rest, ".")
	switch {
	case !ok:
		return name
	case index == "0":
		return before + ".conv." + parameter
	}
	return before + ".norm." + parameter
}

// dict returns the entries of a Python dict whose keys are texts.
func dict(v any) (map[string]any, bool) {
	out := map[string]any{}
	set := func(k, v any) {
		if s, ok := k.(string); ok {
			out[s] = v
		}
	}
	switch d := v.(type) {
	case *types.Dict:
		for _, e := range *d {
			set(e.Key, e.Value)
		}
	case *types.OrderedDict:
		for e := d.List.Front(); e != nil; e = e.Next() {
			entry := e.Value.(*types.OrderedDictEntry)
			set(entry.Key, entry.Value)
		}
	default:
		return nil, false
	}
	return out, true
}

// missing is the error for a key that is absent or of another type.
func missing(path, key, expected string, in map[string]any) error {
	last := key[strings.LastIndexByte(key, '/')+1:]
	if v, ok := in[last]; ok {
		return fault.New(fault.Format, "%s: key %s is a %s, expected %s", path, key, pythonType(v), expected)
	}
	return fault.New(fault.Model, "%s: key %s is missing; expected a checkpoint of nnU-Net v2", path, key)
}

// pythonType names a value's type for a message. It never prints the value,
// which may be cyclic.
func pythonType(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case *types.Dict, *types.OrderedDict:
		return "dict"
	case *types.List:
		return "list"
	case *types.Tuple:
		return "tuple"
	case *Tensor:
		return "tensor"
	case string:
		return "text"
	case int, float64, bool:
		return "number"
	case *inert:
		if len(v.name) <= 120 {
			return v.name
		}
	}
	return "value of another type"
}
