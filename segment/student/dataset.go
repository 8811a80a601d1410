package student

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/nnunet"
)

// dataset writes round_N/dataset/dataset.json, by which nnU-Net and OpenRawDataset find the
// cases that a student is trained on where their files lie now, whatever their endings, and
// returns the dataset. What is trained does not depend on places: its own text has none.
func (r *runner) dataset(folder string, cases []nnunet.RawCase) (*nnunet.RawDataset, error) {
	folder = r.path(folder, "dataset")
	file := filepath.Join(folder, "dataset.json")
	ignore := r.PseudoLabels.IgnoreBelow > 0
	cases, err := absolute(cases)
	if err != nil {
		return nil, err
	}
	text, err := datasetJSON(r.raw.Dataset, ignore, cases, true)
	if err != nil {
		return nil, err
	}
	if err := r.write(file, text); err != nil {
		return nil, err
	}
	if text, err = datasetJSON(r.raw.Dataset, ignore, cases, false); err != nil {
		return nil, err
	}
	d, err := nnunet.ParseDataset(text, file)
	if err != nil {
		return nil, err
	}
	return &nnunet.RawDataset{Name: filepath.Base(folder), Folder: folder, Dataset: d, Cases: cases}, nil
}

// absolute returns cases with absolute paths.
func absolute(cases []nnunet.RawCase) ([]nnunet.RawCase, error) {
	all := slices.Clone(cases)
	for i := range all {
		c := &all[i]
		c.Images = slices.Clone(c.Images)
		files := []*string{&c.Label, &c.Weight}
		for k := range c.Images {
			files = append(files, &c.Images[k])
		}
		for _, f := range files {
			if *f == "" {
				continue
			}
			path, err := filepath.Abs(*f)
			if err != nil {
				return nil, fault.File(*f, err)
			}
			*f = path
		}
	}
	return all, nil
}

// datasetJSON returns the text of a dataset.json of d's channels and labels, in their order,
// which counts where there are regions. The ignored label is added where ignore is true and d
// has none. With list the text names the files of the cases.
func datasetJSON(d *nnunet.Dataset, ignore bool, cases []nnunet.RawCase, list bool) ([]byte, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(d.Raw, &raw); err != nil {
		return nil, fault.New(fault.Format, "%s: %v", d.File, err)
	}
	var b bytes.Buffer
	text := func(v any) string { return strings.TrimSpace(string(marshalLine(v))) }
	b.WriteString("{\n    \"channel_names\": {")
	for i, name := range d.Channels {
		fmt.Fprintf(&b, "%s%q: %s", strings.Repeat(", ", min(i, 1)), strconv.Itoa(i), text(name))
	}
	b.WriteString("},\n    \"labels\": {")
	for i, l := range d.Labels {
		value := text(l.Values)
		if len(l.Values) == 1 {
			value = text(l.Values[0])
		}
		fmt.Fprintf(&b, "%s%s: %s", strings.Repeat(", ", min(i, 1)), text(l.Name), value)
	}
	if value := ignoreLabel(d); d.IgnoreLabel >= 0 || ignore {
		fmt.Fprintf(&b, ", \"ignore\": %d", value)
	}
	b.WriteString("},\n")
	for _, key := range []string{"regions_class_order", "overwrite_image_reader_writer", "name"} {
		if v := raw[key]; v != nil {
			fmt.Fprintf(&b, "    %q: %s,\n", key, v)
		}
	}
	if list {
		b.WriteString("    \"dataset\": {")
		for i, c := range cases {
			fmt.Fprintf(&b, "%s\n        %s: {\"images\": %s, \"label\": %s", strings.Repeat(",", min(i, 1)), text(c.Name), text(c.Images), text(c.Label))
			if c.Weight != "" {
				fmt.Fprintf(&b, ", \"weight\": %s", text(c.Weight))
			}
			b.WriteString("}")
		}
		b.WriteString("\n    },\n")
	}
	fmt.Fprintf(&b, "    \"numTraining\": %d,\n    \"file_ending\": %s\n}\n", len(cases), text(d.FileEnding))
	return b.Bytes(), nil
}

func marshalLine(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // texts and numbers
	}
	return text
}
