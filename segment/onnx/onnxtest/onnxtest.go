// Package onnxtest gives tests the golden networks of segment/onnx/testdata:
// small results folders of nnU-Net with the output that PyTorch computes.
package onnxtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/onnx"
)

// Case is one golden network.
type Case struct {
	Name   string
	Folder string // a results folder: plans.json, dataset.json, fold_*/checkpoint_final.pth
	Input  Array  // 1 x channels x patch
	Output Array  // 1 x heads x patch: the mean of all folds' logits, computed in float64
}

// Array is an array in C order.
type Array struct {
	Shape []int
	Data  []float32
}

// Cases reads all cases below dir, the path of segment/onnx/testdata.
func Cases(dir string) ([]Case, error) {
	inputs, err := filepath.Glob(filepath.Join(dir, "*", "input.npy"))
	if err != nil {
		return nil, err
	}
	var cases []Case
	for _, in := range inputs {
		c := Case{Folder: filepath.Dir(in)}
		c.Name = filepath.Base(c.Folder)
		if c.Input, err = readNPY(in); err != nil {
			return nil, err
		}
		if c.Output, err = readNPY(filepath.Join(c.Folder, "output.npy")); err != nil {
			return nil, err
		}
		cases = append(cases, c)
	}
	if len(cases) == 0 {
		return nil, fmt.Errorf("%s: there are no */input.npy", dir)
	}
	return cases, nil
}

// Build returns the encoded ONNX model of all folds of a results folder.
func Build(folder string) ([]byte, error) {
	f, err := nnunet.OpenFolder(folder, "")
	if err != nil {
		return nil, err
	}
	c, err := f.Plans.Configuration(f.Configuration)
	if err != nil {
		return nil, err
	}
	arch, err := f.Plans.Architecture(f.Configuration)
	if err != nil {
		return nil, err
	}
	var folds []onnx.FoldWeights
	for _, name := range f.Folds {
		ckpt, err := f.OpenFold(name)
		if err != nil {
			return nil, err
		}
		defer ckpt.Close()
		folds = append(folds, onnx.FoldWeights{Name: name, Weights: onnx.CheckpointWeights(ckpt)})
	}
	m, err := onnx.Network(arch, f.Dataset.NumInputs(c), f.Dataset.NumHeads(), c.PatchSize, folds)
	if err != nil {
		return nil, err
	}
	return m.Marshal()
}

var npyShape = regexp.MustCompile(`'descr': '<f4', 'fortran_order': False, 'shape': \(([0-9, ]*)\)`)

// readNPY reads a version 1 file of float32 in C order.
func readNPY(path string) (Array, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Array{}, err
	}
	bad := fmt.Errorf("%s: not an npy file of version 1 with float32 in C order", path)
	if len(b) < 10 || !bytes.HasPrefix(b, []byte("\x93NUMPY\x01")) {
		return Array{}, bad
	}
	start := 10 + int(binary.LittleEndian.Uint16(b[8:]))
	if start > len(b) {
		return Array{}, bad
	}
	header := npyShape.FindSubmatch(b[10:start])
	if header == nil {
		return Array{}, bad
	}
	a, n := Array{}, 1
	for _, s := range strings.FieldsFunc(string(header[1]), func(r rune) bool { return r == ',' || r == ' ' }) {
		d, err := strconv.Atoi(s)
		if err != nil {
			return Array{}, bad
		}
		a.Shape = append(a.Shape, d)
		n *= d
	}
	if len(b)-start != 4*n {
		return Array{}, bad
	}
	a.Data = make([]float32, n)
	_, err = binary.Decode(b[start:], binary.LittleEndian, a.Data)
	return a, err
}
