// Package onnxtest gives tests the golden networks of segment/onnx/testdata:
// small results folders of nnU-Net with the output that PyTorch computes.
package onnxtest

import (
	"fmt"
	"path/filepath"

	"github.com/libflare/libflare/segment/internal/npy"
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
	arch, err := f.Architecture()
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

// readNPY reads an array.
func readNPY(path string) (Array, error) {
	data, shape, err := npy.Read(path)
	return Array{Shape: shape, Data: data}, err
}
