package nnunet

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/testenv"
)

func loadJSON(t testing.TB, path string, dst any) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, dst))
}

func values(t testing.TB, w *Tensor) []float32 {
	t.Helper()
	dst := make([]float32, w.Len())
	require.NoError(t, w.Float32(dst))
	return dst
}

func TestCheckpointsAsPyTorchReadsThem(t *testing.T) {
	type tensor struct {
		Shape  []int
		DType  string
		Values []any // numbers; Python writes infinity as a bare word
	}
	var want map[string]struct {
		Trainer, Configuration, Fold string
		MirrorAxes                   []int `json:"mirror_axes"`
		Weights                      map[string]tensor
	}
	text, err := os.ReadFile("testdata/checkpoints.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(bytes.ReplaceAll(text, []byte("Infinity"), []byte(`"inf"`)), &want))
	require.Len(t, want, 4)
	for file, w := range want {
		c, err := OpenCheckpoint(filepath.Join("testdata", file))
		require.NoError(t, err)
		require.Equal(t, w.Trainer, c.TrainerName, file)
		require.Equal(t, w.Configuration, c.Configuration, file)
		require.Equal(t, w.Fold, c.Fold, file)
		require.Equal(t, w.MirrorAxes, c.MirrorAxes, file)
		if file != "prefixes.pth" {
			require.Len(t, c.Weights, len(w.Weights), file)
		}
		for name, x := range w.Weights {
			if file == "prefixes.pth" {
				name = canonicalName(plainName(name))
			}
			got := c.Weights[name]
			require.NotNil(t, got, name)
			require.Equal(t, x.Shape, got.Shape, name)
			require.Equal(t, DType(x.DType), got.DType, name)
			if got.DType == "int64" {
				err := got.Float32(make([]float32, 1))
				require.Equal(t, fault.Unsupported, fault.KindOf(err))
				continue
			}
			for i, v := range values(t, got) {
				if x.Values[i] == "inf" {
					require.True(t, math.IsInf(float64(v), 1))
				} else {
					require.Equal(t, float32(x.Values[i].(float64)), v, "%s[%d]", name, i)
				}
			}
		}
		require.NoError(t, c.Close())
	}
}

func TestPrefixesAndSecondNames(t *testing.T) {
	c, err := OpenCheckpoint("testdata/prefixes.pth")
	require.NoError(t, err)
	defer c.Close()
	var names []string
	for name, w := range c.Weights {
		require.Equal(t, name, w.Name)
		names = append(names, name)
	}
	slices.Sort(names)
	require.Equal(t, []string{"decoder.seg_layers.0.weight", "encoder.stages.0.0.convs.0.conv.bias",
		"encoder.stages.0.0.convs.0.conv.weight", "encoder.stages.0.0.convs.0.norm.weight"}, names)
}

func TestHippocampusWeights(t *testing.T) {
	var want map[string]struct {
		Shape    []int
		Sum, Abs float64
	}
	loadJSON(t, "testdata/hippocampus.json", &want)
	f, err := OpenFolder(testenv.Data(t, "nnunet_golden", "hippocampus", "model"), "")
	require.NoError(t, err)
	require.Equal(t, []string{"0"}, f.Folds)
	require.Equal(t, "3d_fullres", f.Configuration)
	c, err := f.OpenFold("0")
	require.NoError(t, err)
	defer c.Close()
	require.Equal(t, "nnUNetTrainer_20epochs", c.TrainerName)
	require.Equal(t, []int{0, 1, 2}, c.MirrorAxes)
	require.Len(t, c.Weights, len(want))
	for name, w := range want {
		got := c.Weights[name]
		require.NotNil(t, got, name)
		require.Equal(t, w.Shape, got.Shape)
		var sum, abs float64
		for _, v := range values(t, got) {
			sum += float64(v)
			abs += math.Abs(float64(v))
		}
		// float64 sums of at most 442368 numbers in another order.
		require.InDelta(t, w.Sum, sum, 1e-9*(1+w.Abs), name)
		require.InEpsilon(t, 1+w.Abs, 1+abs, 1e-9, name)
	}
}

// archive makes a torch archive of the given entries.
func archive(t testing.TB, entries map[string]string, method uint16) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, content := range entries {
		e, err := w.CreateHeader(&zip.FileHeader{Name: "x/" + name, Method: method})
		require.NoError(t, err)
		e.Write([]byte(content))
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

// pickled is a checkpoint with one tensor w, as opcodes of protocol 2: its
// parts are strings so that tests can replace some.
func pickled(tensor string) string {
	return "\x80\x02}(" +
		text("trainer_name") + text("T") +
		text("init_args") + "}(" + text("configuration") + text("2d") + "u" +
		text("network_weights") + "}(" + text("w") + tensor + "uu."
}

func text(s string) string {
	return "X" + string(binary.LittleEndian.AppendUint32(nil, uint32(len(s)))) + s
}

func number(v int) string {
	return "J" + string(binary.LittleEndian.AppendUint32(nil, uint32(v)))
}

// tensor gives the opcodes of a one-dimensional tensor.
func tensor(key string, offset, n, stride int) string {
	return "ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + "ctorch\nFloatStorage\n" + text(key) + text("cpu") +
		number(4) + "tQ" + number(offset) + number(n) + "\x85" + number(stride) + "\x85\x89}tR"
}

func open(b []byte) (*Checkpoint, error) {
	return readCheckpoint(bytes.NewReader(b), int64(len(b)), "hostile.pth")
}

func TestHostileCheckpoints(t *testing.T) {
	four := strings.Repeat("\x00\x00\x80\x3f", 4) // 1.0 as float32, four times
	good := archive(t, map[string]string{"data.pkl": pickled(tensor("0", 0, 4, 1)), "data/0": four}, zip.Store)
	c, err := open(good)
	require.NoError(t, err)
	require.Equal(t, []float32{1, 1, 1, 1}, values(t, c.Weights["w"]))

	with := func(pkl string) []byte {
		return archive(t, map[string]string{"data.pkl": pkl, "data/0": four}, zip.Store)
	}
	cyclic := "\x80\x02]q\x00h\x00ah\x00)\x81." // a list that holds itself, taken for a class
	cases := map[string]struct {
		data []byte
		kind fault.Kind
		says string
	}{
		"empty":            {nil, fault.Format, "empty"},
		"text":             {[]byte("hello world"), fault.Format, "not a PyTorch checkpoint"},
		"truncated":        {good[:len(good)-30], fault.Format, "truncated"},
		"zip bomb":         {archive(t, map[string]string{"data.pkl": strings.Repeat("N", 1<<20)}, zip.Deflate), fault.Format, "compressed"},
		"no pickle":        {archive(t, map[string]string{"data/0": four}, zip.Store), fault.Format, "data.pkl"},
		"big endian":       {archive(t, map[string]string{"data.pkl": "N.", "byteorder": "big"}, zip.Store), fault.Unsupported, "big"},
		"torchscript":      {archive(t, map[string]string{"data.pkl": "N.", "constants.pkl": "N."}, zip.Store), fault.Unsupported, "TorchScript"},
		"not a dict":       {with("\x80\x02]."), fault.Format, "holds a list"},
		"no keys":          {with("\x80\x02}."), fault.Model, "trainer_name"},
		"no stop":          {with("\x80\x02}"), fault.Format, "STOP"},
		"empty stack":      {with("\x80\x02."), fault.Format, "data.pkl"},
		"pop":              {with("\x80\x02000."), fault.Format, "data.pkl"},
		"cycle":            {with(cyclic), fault.Format, "data.pkl"},
		"long string":      {with("\x80\x02X\xff\xff\xff\x7f."), fault.Format, "too long"},
		"BINBYTES8":        {with("\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f."), fault.Format, "too long"},
		"BYTEARRAY8":       {with("\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x00."), fault.Format, "too long"},
		"LONG4":            {with("\x80\x02\x8b\xff\xff\xff\x7f."), fault.Format, "too long"},
		"LONG4 of digits":  {with("\x80\x02\x8b\x00\x00\x01\x00" + strings.Repeat("1", 1<<16) + "."), fault.Format, "too long"},
		"LONG1 of nothing": {with("\x80\x02\x8a\x00."), fault.Format, "too long or missing"},
		"digits":           {with("\x80\x02L" + strings.Repeat("1", 1<<16) + "L\n."), fault.Format, "too long"},
		"frame":            {with("\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x00."), fault.Format, "too long"},
		"opcode 255":       {with("\x80\x02\xff."), fault.Format, "0xff"},
		"extension":        {with("\x80\x02\x82\x01."), fault.Format, "0x82"},
		"endless":          {with("\x80\x02" + strings.Repeat("(", maxOps+1) + "."), fault.Format, "opcodes"},
		"huge pickle":      {with(strings.Repeat(" ", maxPickle+1)), fault.Format, "at most"},
		"unhashable key":   {with("\x80\x03ccollections\nOrderedDict\n)RC\x01aC\x01bs."), fault.Format, "malformed"},
		"missing storage":  {with(pickled(tensor("1", 0, 4, 1))), fault.Format, "data/1 is missing"},
		"too long":         {with(pickled(tensor("0", 0, 5, 1))), fault.Format, "exceed"},
		"beyond":           {with(pickled(tensor("0", 1, 4, 1))), fault.Format, "exceed"},
		"negative offset":  {with(pickled(tensor("0", -1, 4, 1))), fault.Format, "exceed"},
		"negative length":  {with(pickled(tensor("0", 0, -1, 1))), fault.Format, "exceed"},
		"negative stride":  {with(pickled(tensor("0", 3, 4, -1))), fault.Format, "exceed"},
		"wide stride":      {with(pickled(tensor("0", 0, 2, 1<<30))), fault.Format, "exceed"},
		"repeated":         {with(pickled(tensor("0", 0, 1<<30, 0))), fault.Format, "exceed"},
		"weight is a text": {with(pickled(text("no"))), fault.Format, "expected a tensor"},
		"weight is inert":  {with(pickled("cos\nsystem\n" + text("false") + "\x85R")), fault.Unsupported, "supported type"},
		"overlap":          {archive(t, map[string]string{"data.pkl": pickled(manyTensors(200)), "data/0": strings.Repeat(four, 1<<10)}, zip.Store), fault.Format, "overlap"},
	}
	for name, test := range cases {
		_, err := open(test.data)
		require.Error(t, err, name)
		require.Equal(t, test.kind, fault.KindOf(err), "%s: %v", name, err)
		require.Contains(t, err.Error(), test.says, name)
		require.Contains(t, err.Error(), "hostile.pth", name)
	}
}

// manyTensors gives a tensor of 4096 numbers and n more with their keys, all of
// one storage.
func manyTensors(n int) string {
	var b strings.Builder
	b.WriteString("ctorch._utils\n_rebuild_tensor_v2\nq\x00((" + text("storage") + "ctorch\nFloatStorage\n" + text("0") + text("cpu") +
		number(4096) + "tQq\x01K\x00M\x00\x10\x85q\x02K\x01\x85q\x03\x89}tR")
	for i := range n {
		b.WriteString("U\x02" + string([]byte{byte(i), 'w'}) + "h\x00(h\x01K\x00h\x02h\x03tR")
	}
	return b.String()
}

func TestCheckpointErrorsFromDisk(t *testing.T) {
	_, err := OpenCheckpoint("testdata/none.pth")
	require.Equal(t, fault.NotFound, fault.KindOf(err))
	require.Contains(t, err.Error(), "testdata/none.pth")
	_, err = OpenCheckpoint("testdata")
	require.Equal(t, fault.Format, fault.KindOf(err))
	_, err = OpenCheckpoint("testdata/legacy.pth")
	require.Equal(t, fault.Unsupported, fault.KindOf(err))
	require.Contains(t, err.Error(), "before 1.6")
}

func TestHalfToFloat(t *testing.T) {
	// From the table of examples in IEEE 754-2008's binary16.
	for bits, want := range map[uint16]float32{0x3c00: 1, 0xc000: -2, 0x7bff: 65504, 0x0001: 1.0 / (1 << 24),
		0x03ff: 1023.0 / (1 << 24), 0x0400: 1.0 / (1 << 14), 0x3555: 0.33325195, 0x8000: float32(math.Copysign(0, -1))} {
		require.Equal(t, math.Float32bits(want), math.Float32bits(halfToFloat(bits)), "%#04x", bits)
	}
	require.True(t, math.IsNaN(float64(halfToFloat(0x7e00))))
}

func FuzzCheckpoint(f *testing.F) {
	for _, name := range []string{"dtypes.pth", "numpy1.pth", "numpy2.pth", "prefixes.pth"} {
		b, err := os.ReadFile(filepath.Join("testdata", name))
		require.NoError(f, err)
		f.Add(b)
	}
	f.Add(archive(f, map[string]string{"data.pkl": pickled(tensor("0", 0, 4, 1)), "data/0": "0123456789abcdef"}, zip.Store))
	matrixSeeds(f, DefaultCheckpoint, func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := open(b)
		if err != nil {
			return
		}
		for _, w := range c.Weights {
			if w.Len() > len(b) {
				t.Fatalf("%s: %d elements in a file of %d bytes", w.Name, w.Len(), len(b))
			}
			w.Float32(make([]float32, w.Len()))
		}
	})
}

// FuzzPickle reaches deeper than FuzzCheckpoint: a mutated zip rarely opens.
func FuzzPickle(f *testing.F) {
	for _, name := range []string{"dtypes.pth", "numpy1.pth", "numpy2.pth", "prefixes.pth"} {
		z, err := zip.OpenReader(filepath.Join("testdata", name))
		require.NoError(f, err)
		for _, e := range z.File {
			if strings.HasSuffix(e.Name, "/data.pkl") {
				r, _ := e.Open()
				var b bytes.Buffer
				b.ReadFrom(r)
				f.Add(b.Bytes())
			}
		}
		z.Close()
	}
	f.Add([]byte(pickled(tensor("0", 0, 4, 1))))
	f.Fuzz(func(t *testing.T, b []byte) {
		open(archive(t, map[string]string{"data.pkl": string(b), "data/0": "0123456789abcdef"}, zip.Store))
	})
}
