package record

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// Events writes the epochs as TensorBoard's event file: TFRecords (tensorflow/core/lib/io/
// record_writer.cc) of Event messages (tensorflow/core/util/event.proto) with one scalar
// summary for each value.
func Events(w io.Writer, epochs []Epoch) error {
	start := 0.0
	if len(epochs) > 0 {
		start = epochs[0].Start
	}
	// Event: 1 wall_time (double), 2 step (int64), 3 file_version (text), 5 summary.
	first := protowire.AppendFixed64(protowire.AppendTag(nil, 1, protowire.Fixed64Type), math.Float64bits(start))
	first = protowire.AppendString(protowire.AppendTag(first, 3, protowire.BytesType), "brain.Event:2")
	if err := frame(w, first); err != nil {
		return err
	}
	for _, e := range epochs {
		// Summary: repeated 1 Value { 1 tag (text), 2 simple_value (float) }.
		var summary []byte
		scalar := func(tag string, v float64) {
			value := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), tag)
			value = protowire.AppendFixed32(protowire.AppendTag(value, 2, protowire.Fixed32Type), math.Float32bits(float32(v)))
			summary = protowire.AppendBytes(protowire.AppendTag(summary, 1, protowire.BytesType), value)
		}
		scalar("loss/train", e.Loss)
		scalar("loss/validation", e.ValidationLoss)
		scalar("dice/pseudo", e.Dice)
		scalar("dice/pseudo_ema", e.EMA)
		for i, d := range e.ClassDice {
			scalar(fmt.Sprintf("dice/class_%d", i+1), d)
		}
		scalar("learning_rate", e.LearningRate)
		scalar("seconds_per_step", e.StepSeconds)
		scalar("waited", e.Waited)
		event := protowire.AppendFixed64(protowire.AppendTag(nil, 1, protowire.Fixed64Type), math.Float64bits(e.End))
		event = protowire.AppendVarint(protowire.AppendTag(event, 2, protowire.VarintType), uint64(e.Number))
		event = protowire.AppendBytes(protowire.AppendTag(event, 5, protowire.BytesType), summary)
		if err := frame(w, event); err != nil {
			return err
		}
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// masked is the checksum of a TFRecord.
func masked(data []byte) uint32 {
	c := crc32.Checksum(data, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

// frame writes one TFRecord: length, its checksum, data, their checksum.
func frame(w io.Writer, data []byte) error {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(data)))
	b = binary.LittleEndian.AppendUint32(b, masked(b))
	b = append(b, data...)
	_, err := w.Write(binary.LittleEndian.AppendUint32(b, masked(data)))
	return err
}
