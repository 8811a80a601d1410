// Package record writes down how a training goes: progress.csv, an event file for
// TensorBoard, and progress.png.
package record

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/libflare/libflare/segment/imageio"
)

// Epoch is what one epoch gave. Lists of an entry for each class or region are of the
// foreground.
type Epoch struct {
	Number         int       `json:"epoch"` // from 0
	Loss           float64   `json:"train_loss"`
	ValidationLoss float64   `json:"val_loss"`
	Dice           float64   `json:"pseudo_dice"`     // mean over classes
	EMA            float64   `json:"ema_pseudo_dice"` // moving average
	ClassDice      []float64 `json:"pseudo_dice_per_class"`
	LearningRate   float64   `json:"learning_rate"`
	Start          float64   `json:"start"` // seconds since 1970
	End            float64   `json:"end"`
	StepSeconds    float64   `json:"seconds_per_step"` // of a training step
	Waited         float64   `json:"waited"`           // fraction of the time that the network waited for data
}

// Write writes progress.csv, events.out.tfevents.flare and progress.png of the epochs so
// far to a folder, each whole or not at all.
func Write(folder string, epochs []Epoch) error {
	var b imageio.Batch
	defer b.Discard()
	for name, write := range map[string]func(io.Writer, []Epoch) error{
		"progress.csv": CSV, "events.out.tfevents.flare": Events, "progress.png": PNG,
	} {
		if err := b.Add(filepath.Join(folder, name), func(w io.Writer) error { return write(w, epochs) }); err != nil {
			return err
		}
	}
	return b.Commit()
}

// CSV writes a table with a row for each epoch.
func CSV(w io.Writer, epochs []Epoch) error {
	var b strings.Builder
	b.WriteString("epoch,train_loss,val_loss,pseudo_dice,ema_pseudo_dice,learning_rate,seconds,seconds_per_step,waited")
	if len(epochs) > 0 {
		for i := range epochs[0].ClassDice {
			fmt.Fprintf(&b, ",pseudo_dice_%d", i+1)
		}
	}
	b.WriteString("\n")
	for _, e := range epochs {
		fmt.Fprintf(&b, "%d,%.6g,%.6g,%.6g,%.6g,%.6g,%.3f,%.6g,%.4f", e.Number, e.Loss, e.ValidationLoss, e.Dice, e.EMA, e.LearningRate, e.End-e.Start, e.StepSeconds, e.Waited)
		for _, d := range e.ClassDice {
			fmt.Fprintf(&b, ",%.6g", d)
		}
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
