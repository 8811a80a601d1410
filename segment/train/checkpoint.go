package train

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"hash"
	"io"
	"os"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/train/record"
)

// A checkpoint file is
//
//	8 bytes   "flareckp"
//	uint32    format; uint32 length of the text
//	text      JSON of State; spaces up to a multiple of 64 bytes from the start
//	float32   all arrays, in the order of State.Arrays
//	32 bytes  SHA-256 of all before
//
// little-endian.
const (
	checkpointMagic  = "flareckp"
	checkpointFormat = 1
	maxStateText     = 256 << 20
)

// State is what a checkpoint says besides its arrays. There is no random state but the
// settings' seed: every random number is a function of it and the step.
type State struct {
	Configuration string    `json:"configuration"`
	Fold          string    `json:"fold"`
	Digest        string    `json:"digest"` // of plans, cases and settings: what must not differ to go on
	Settings      Settings  `json:"settings"`
	Epoch         int       `json:"epoch"`     // that runs, or is next
	Iteration     int       `json:"iteration"` // steps of it that are done
	Loss          []float64 `json:"losses"`    // of those
	BestEMA       *float64  `json:"best_ema"`  // of an epoch's pseudo Dice; nil before the first

	Epochs []record.Epoch `json:"epochs"` // that are done

	Optimizer json.RawMessage `json:"optimizer,omitempty"` // what it keeps besides arrays
	Arrays    []arrayName     `json:"arrays"`
}

// arrayName is an array of a checkpoint.
type arrayName struct {
	Name  string `json:"name"`
	Shape []int  `json:"shape"`
}

// optimizerPrefix begins the names of the optimizer's arrays.
const optimizerPrefix = "optimizer/"

// writeCheckpoint writes a checkpoint, whole or not at all.
func writeCheckpoint(path string, s *State, arrays []nnunet.NamedArray) error {
	s.Arrays = nil
	for _, a := range arrays {
		s.Arrays = append(s.Arrays, arrayName{a.Name, a.Shape})
	}
	text, err := json.Marshal(s)
	if err != nil {
		return fault.New(fault.Internal, "checkpoint: %w", err)
	}
	text = append(text, bytes.Repeat([]byte(" "), (64-(16+len(text))%64)%64)...)
	return imageio.WriteFileAtomic(path, func(w io.Writer) error {
		sum := sha256.New()
		w = io.MultiWriter(w, sum)
		head := binary.LittleEndian.AppendUint32([]byte(checkpointMagic), checkpointFormat)
		head = binary.LittleEndian.AppendUint32(head, uint32(len(text)))
		for _, part := range [][]byte{head, text} {
			if _, err := w.Write(part); err != nil {
				return err
			}
		}
		for _, a := range arrays {
			if _, err := w.Write(cmem.Bytes(a.Values)); err != nil {
				return err
			}
		}
		_, err := w.Write(sum.Sum(nil))
		return err
	})
}

// readCheckpoint reads a checkpoint. into gives the memory for an array, or nil to skip
// it; it is called once for each, before anything is known to be whole, so what it holds
// after an error means nothing. Errors: NotFound, IO, Format (truncated, damaged, another
// kind of file), Unsupported (another version's), and those of into.
func readCheckpoint(path string, into func(s *State, a arrayName) ([]float32, error)) (*State, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.File(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fault.File(path, err)
	}
	r := &checkpointReader{f: f, path: path, left: info.Size(), sum: sha256.New()}
	head := make([]byte, 16)
	if !info.Mode().IsRegular() || r.read(head) != nil || string(head[:8]) != checkpointMagic {
		return nil, fault.New(fault.Format, "%s: not a checkpoint of libflare", path)
	}
	if v := binary.LittleEndian.Uint32(head[8:]); v != checkpointFormat {
		return nil, fault.New(fault.Unsupported, "%s: a checkpoint of format %d, this library reads format %d", path, v, checkpointFormat)
	}
	n := int64(binary.LittleEndian.Uint32(head[12:]))
	if n > r.left || n > maxStateText {
		return nil, r.truncated()
	}
	text := make([]byte, n)
	if err := r.read(text); err != nil {
		return nil, err
	}
	s := &State{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fault.New(fault.Format, "%s: damaged: %v", path, err)
	}
	buffer := make([]byte, 1<<20)
	for _, a := range s.Arrays {
		size := int64(4)
		for _, d := range a.Shape {
			if d < 0 || int64(d) > r.left || d > 0 && size > r.left/int64(d) {
				return nil, r.truncated()
			}
			size *= int64(d)
		}
		dst, err := into(s, a)
		if err != nil {
			return nil, err
		}
		if dst != nil && int64(len(dst))*4 != size {
			return nil, fault.New(fault.Model, "%s: %s has shape %v, expected %d numbers", path, a.Name, a.Shape, len(dst))
		}
		if dst != nil {
			err = r.read(cmem.Bytes(dst))
		}
		for skip := size; dst == nil && skip > 0 && err == nil; {
			k := min(skip, int64(len(buffer)))
			err = r.read(buffer[:k])
			skip -= k
		}
		if err != nil {
			return nil, err
		}
	}
	want := r.sum.Sum(nil)
	found := make([]byte, len(want))
	if err := r.read(found); err != nil {
		return nil, err
	}
	if !bytes.Equal(want, found) || r.left != 0 {
		return nil, fault.New(fault.Format, "%s: damaged: its checksum is not that of its content", path)
	}
	return s, nil
}

// checkpointReader reads a file whose size is known.
type checkpointReader struct {
	f    *os.File
	path string
	left int64
	sum  hash.Hash
}

func (r *checkpointReader) truncated() error {
	return fault.New(fault.Format, "%s: truncated or damaged", r.path)
}

func (r *checkpointReader) read(b []byte) error {
	if int64(len(b)) > r.left {
		return r.truncated()
	}
	if _, err := io.ReadFull(r.f, b); err != nil {
		return fault.File(r.path, err)
	}
	r.left -= int64(len(b))
	r.sum.Write(b)
	return nil
}
