package nnunet

import (
	"archive/zip"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
)

// Training is what a checkpoint says of the training that it comes from, an entry for
// each epoch (training/logging/nnunet_logger.py).
type Training struct {
	Epochs                 int
	BestEMA                float64
	Loss, ValidationLoss   []float64
	Dice, EMA              []float64
	ClassDice              [][]float64
	LearningRates          []float64
	EpochStarts, EpochEnds []float64 // seconds since 1970
}

// NamedArray is a parameter by its state-dict name.
type NamedArray struct {
	Name   string
	Shape  []int
	Values []float32
}

// Export is a checkpoint to be written.
type Export struct {
	Plans, Dataset []byte // JSON texts
	Configuration  string
	Fold           string // "0", ..., "all"
	MirrorAxes     []int
	Parameters     []NamedArray // each once, by the first of its names
	Training       Training
}

// Write writes a checkpoint_*.pth that nnU-Net 2.8.1 predicts with and takes as
// pretrained weights (nnUNetTrainer.save_checkpoint): PyTorch's zip format. A network of
// nnU-Net holds its encoder twice, and the layers of each block twice; all names are
// written, for one storage. The optimizer's state is empty: nnU-Net cannot continue this
// training.
func (e *Export) Write(w io.Writer) error {
	var p pickler
	var failed error
	p.start()
	p.dict(func() {
		p.text("network_weights")
		p.ordered(func() {
			for i, a := range e.Parameters {
				for _, name := range allNames(a.Name) {
					p.text(name)
					p.tensor(strconv.Itoa(i), a.Shape)
				}
			}
		})
		p.text("optimizer_state")
		p.dict(func() {
			p.text("state")
			p.dict(func() {})
			p.text("param_groups")
			p.list(func() {})
		})
		p.text("grad_scaler_state")
		p.none()
		p.text("logging")
		p.dict(func() { e.Training.write(&p) })
		p.text("_best_ema")
		p.real(e.Training.BestEMA)
		p.text("current_epoch")
		p.integer(int64(e.Training.Epochs))
		p.text("init_args")
		p.dict(func() {
			p.text("plans")
			failed = p.json(e.Plans)
			p.text("configuration")
			p.text(e.Configuration)
			p.text("fold")
			if k, err := strconv.Atoi(e.Fold); err == nil {
				p.integer(int64(k))
			} else {
				p.text(e.Fold)
			}
			p.text("dataset_json")
			if err := p.json(e.Dataset); failed == nil {
				failed = err
			}
			p.text("device")
			p.call("torch", "device", func() { p.text("cpu") })
		})
		p.text("trainer_name")
		p.text("nnUNetTrainer")
		p.text("inference_allowed_mirroring_axes")
		if len(e.MirrorAxes) == 0 {
			p.none()
			return
		}
		p.tuple(func() {
			for _, a := range e.MirrorAxes {
				p.integer(int64(a))
			}
		})
	})
	p.stop()
	if failed != nil {
		return failed
	}
	return e.zip(w, p.Bytes())
}

// zip writes the files that PyTorch expects. Records begin at multiples of 64 bytes.
func (e *Export) zip(w io.Writer, pickle []byte) error {
	at := &counter{w: w}
	z := zip.NewWriter(at)
	add := func(name string, data []byte) error {
		name = "checkpoint/" + name
		const local = 30 // bytes of a local header without name and padding
		if err := z.Flush(); err != nil {
			return err
		}
		padding := (64 - (at.n+local+int64(len(name))+4)%64) % 64
		extra := append([]byte{'F', 'B', byte(padding), 0}, strings.Repeat("Z", int(padding))...)
		size := uint64(len(data))
		f, err := z.CreateRaw(&zip.FileHeader{Name: name, Method: zip.Store, Extra: extra,
			CRC32: crc32.ChecksumIEEE(data), CompressedSize64: size, UncompressedSize64: size})
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		return err
	}
	if err := add("data.pkl", pickle); err != nil {
		return err
	}
	if err := add("byteorder", []byte("little")); err != nil {
		return err
	}
	for i, a := range e.Parameters {
		n := 1
		for _, d := range a.Shape {
			n *= d
		}
		if n != len(a.Values) {
			return fault.New(fault.Internal, "parameter %s of shape %v has %d values", a.Name, a.Shape, len(a.Values))
		}
		if err := add("data/"+strconv.Itoa(i), cmem.Bytes(a.Values)); err != nil {
			return err
		}
	}
	if err := add("version", []byte("3\n")); err != nil {
		return err
	}
	return z.Close()
}

// counter counts the bytes written.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// allNames returns every name that a network of nnU-Net has for a parameter: the reverse
// of canonicalName.
func allNames(name string) []string {
	names := []string{name}
	for layer, place := range map[string]string{".conv.": ".all_modules.0.", ".norm.": ".all_modules.1."} {
		if at := strings.LastIndex(name, layer); at >= 0 {
			names = append(names, name[:at]+place+name[at+len(layer):])
		}
	}
	if strings.HasPrefix(name, "encoder.") {
		for _, n := range names {
			names = append(names, "decoder."+n)
		}
	}
	return names
}

func (t *Training) write(p *pickler) {
	list := func(key string, values []float64) {
		p.text(key)
		p.list(func() {
			for _, v := range values {
				p.real(v)
			}
		})
	}
	list("mean_fg_dice", t.Dice)
	list("ema_fg_dice", t.EMA)
	p.text("dice_per_class_or_region")
	p.list(func() {
		for _, classes := range t.ClassDice {
			p.list(func() {
				for _, v := range classes {
					p.real(v)
				}
			})
		}
	})
	list("train_losses", t.Loss)
	list("val_losses", t.ValidationLoss)
	list("lrs", t.LearningRates)
	list("epoch_start_timestamps", t.EpochStarts)
	list("epoch_end_timestamps", t.EpochEnds)
}
