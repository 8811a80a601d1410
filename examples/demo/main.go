// Command demo shows what libflare does: it segments a synthetic abdominal CT, or
// a given one, prints a table, and writes the labels and a picture of them.
//
//	demo OUT_DIR MODEL [CT.nii.gz]
//
// build.sh demo runs it.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"image/png"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"text/tabwriter"

	"github.com/libflare/libflare/examples/demo/views"
	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/evaluate"
	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/phantom"
)

// seed of the demo's patient. The network is trained on other seeds, so it has not
// seen this one.
const seed = 2025

func main() {
	if len(os.Args) != 3 && len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: demo OUT_DIR MODEL [CT.nii.gz]")
		os.Exit(int(segment.ErrArgument))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(int(segment.KindOf(err)))
	}
}

func run(ctx context.Context, dir, modelPath string, given []string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return segment.Errorf(segment.ErrIO, "%w", err)
	}
	ct, reference := filepath.Join(dir, "ct.nii.gz"), filepath.Join(dir, "reference.nii.gz")
	labels, picture := filepath.Join(dir, "labels.nii.gz"), filepath.Join(dir, "view.png")
	if len(given) == 1 {
		ct, reference = given[0], ""
	} else {
		fmt.Println("making   a synthetic CT,", ct)
		if err := makePatient(ctx, ct, reference); err != nil {
			return err
		}
	}

	fmt.Println("opening ", modelPath)
	model, err := segment.Open(ctx, modelPath, segment.OpenOptions{})
	if err != nil {
		return err
	}
	defer model.Close()
	fmt.Println("making  ", labels)
	stats, err := model.SegmentFile(ctx, ct, labels, segment.Options{})
	if err != nil {
		return err
	}

	names := []string{}
	for _, l := range model.Describe().Labels {
		for len(names) <= l.Value {
			names = append(names, fmt.Sprint("label ", len(names)))
		}
		names[l.Value] = l.Name
	}
	if err := draw(ctx, picture, ct, labels, names); err != nil {
		return err
	}
	fmt.Printf("drawn    %s\n\n", picture)
	if err := printOrgans(ctx, labels, reference, names); err != nil {
		return err
	}
	s := stats.Seconds
	fmt.Printf("\nseconds: open %.1f, read %.1f, preprocess %.1f, network %.1f (%d tiles), export %.1f, write %.1f; together %.1f\n",
		s.Open, s.Read, s.Preprocess, s.Network, stats.Tiles, s.Export, s.Write, s.Open+s.Total)
	fmt.Printf("peak memory %.2f GB; %s, %s, %d threads\n", float64(stats.PeakMemory)/1e9, stats.Device, stats.Precision, stats.Threads)
	return nil
}

// makePatient writes a phantom of clinical size and its labels.
func makePatient(ctx context.Context, ct, reference string) error {
	image, truth, err := phantom.Generate(phantom.Sample(seed, 0, phantom.Clinical))
	if err != nil {
		return err
	}
	defer image.Free()
	defer truth.Free()
	return errors.Join(imageio.Write(ctx, ct, image), imageio.Write(ctx, reference, truth))
}

// draw writes three views of the CT with the labels in colour.
func draw(ctx context.Context, file, ctFile, labelFile string, names []string) error {
	ct, err := imageio.Read(ctx, ctFile)
	if err != nil {
		return err
	}
	defer ct.Free()
	labels, err := imageio.Read(ctx, labelFile)
	if err != nil {
		return err
	}
	defer labels.Free()
	picture, err := views.Render(ct.Volume, labels.Volume, views.Options{Names: names})
	if err != nil {
		return err
	}
	return imageio.WriteFileAtomic(file, func(w io.Writer) error { return png.Encode(w, picture) })
}

// printOrgans prints the volume of every organ, and its DSC where there is a
// reference.
func printOrgans(ctx context.Context, labelFile, referenceFile string, names []string) error {
	labels, err := imageio.Read(ctx, labelFile)
	if err != nil {
		return err
	}
	defer labels.Free()
	reference, err := imageio.Read(ctx, cmp.Or(referenceFile, labelFile))
	if err != nil {
		return err
	}
	defer reference.Free()
	overlaps, err := evaluate.Dice(labels.Volume, reference.Volume, len(names))
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	if referenceFile == "" {
		fmt.Fprintf(w, "ml\t  organ\n")
	} else {
		fmt.Fprintf(w, "DSC\tml\ttrue ml\t  organ\n")
	}
	for i, o := range overlaps[1:] {
		if referenceFile == "" {
			fmt.Fprintf(w, "%.1f\t  %s\n", o.Prediction, names[i+1])
		} else {
			fmt.Fprintf(w, "%.3f\t%.1f\t%.1f\t  %s\n", o.DSC, o.Prediction, o.Reference, names[i+1])
		}
	}
	if referenceFile != "" {
		fmt.Fprintf(w, "%.3f\t\t\t  mean\n", evaluate.MeanDSC(overlaps))
	}
	return w.Flush()
}
