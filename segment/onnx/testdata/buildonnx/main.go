// Command buildonnx writes the ONNX model of an nnU-Net results folder, for the
// scripts of the folder above:
//
//	go run ./segment/onnx/testdata/buildonnx FOLDER OUT.onnx [FOLD ...]
//
// With folds named, the model is first built of all folds, and these are then
// taken out of it.
package main

import (
	"fmt"
	"os"

	"github.com/libflare/libflare/segment/onnx"
	"github.com/libflare/libflare/segment/onnx/onnxtest"
)

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(folder, out string, folds []string) error {
	b, err := onnxtest.Build(folder)
	if err != nil {
		return err
	}
	if len(folds) > 0 {
		m, err := onnx.Parse(b)
		if err != nil {
			return err
		}
		if m, err = m.ExtractFolds(folds); err != nil {
			return err
		}
		if b, err = m.Marshal(); err != nil {
			return err
		}
	}
	return os.WriteFile(out, b, 0o644)
}
