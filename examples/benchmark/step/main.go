// Command step makes training steps for step.py, one for each line that it reads:
//
//	step PLANS BATCH exact|fast THREADS
//
// It trains the configuration 3d_fullres of PLANS on noise, with three classes. It prints
// a JSON object when it is ready and one for each step, in seconds: step is forward, loss
// and backward, apply is clipping and SGD.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"strconv"
	"time"

	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/onnx"
	"github.com/libflare/libflare/segment/train"
)

func main() {
	log.SetFlags(0)
	if err := run(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("usage: step PLANS BATCH exact|fast THREADS")
	}
	begin := time.Now()
	s, err := open(args)
	if err != nil {
		return err
	}
	defer s.Close()
	o, err := train.NewSGD(s)
	if err != nil {
		return err
	}
	defer o.Close()
	random := rand.New(rand.NewPCG(1, 2))
	for i := range s.Images {
		s.Images[i] = float32(random.NormFloat64())
	}
	for i := range s.Labels {
		s.Labels[i] = float32(random.IntN(s.Heads))
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(map[string]any{"open": time.Since(begin).Seconds(), "device": s.Device, "precision": s.Precision}); err != nil {
		return err
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		begin := time.Now()
		r, err := s.Backward(context.Background(), false)
		if err != nil {
			return err
		}
		step := time.Since(begin)
		s.ClipGradients(12)
		o.Apply(0.01)
		apply := time.Since(begin) - step
		if err := out.Encode(map[string]any{"loss": r.Loss, "step": step.Seconds(), "apply": apply.Seconds()}); err != nil {
			return err
		}
	}
	return nil
}

// open prepares the step that the arguments describe, with new parameters.
func open(args []string) (*train.Step, error) {
	const configuration = "3d_fullres"
	text, err := os.ReadFile(args[0])
	if err != nil {
		return nil, err
	}
	plans, err := nnunet.ParsePlans(text, args[0])
	if err != nil {
		return nil, err
	}
	arch, err := plans.Architecture(configuration)
	if err != nil {
		return nil, err
	}
	c, err := plans.Configuration(configuration)
	if err != nil {
		return nil, err
	}
	batch, err := strconv.Atoi(args[1])
	if err != nil {
		return nil, err
	}
	threads, err := strconv.Atoi(args[3])
	if err != nil {
		return nil, err
	}
	s, err := train.NewStep(train.Config{Arch: arch, Channels: 1, Heads: 3, Patch: c.PatchSize, Batch: batch,
		Loss: onnx.Loss{BatchDice: c.BatchDice}, Threads: threads, Fast: args[2] == "fast"})
	if err != nil {
		return nil, err
	}
	s.Parameters.Initialize(arch, 1)
	return s, nil
}
