package student

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/nnunet"
)

// studentCase is a case that the student is trained on.
type studentCase struct {
	name   string
	images []string // by channel, or one file with all
	label  string
	weight string // of the voxels, or ""
}

// writeDataset makes a raw dataset in nnU-Net's layout, of links to files that lie
// elsewhere. The ignored label is added to dataset.json where ignore is true and it has
// none. Errors: Model (a file whose ending is not the dataset's), IO.
func writeDataset(folder string, d *nnunet.Dataset, ignore bool, cases []studentCase) error {
	for _, sub := range []string{"imagesTr", "labelsTr"} {
		if err := os.MkdirAll(filepath.Join(folder, sub), 0o777); err != nil {
			return fault.File(folder, err)
		}
	}
	for _, c := range cases {
		for i, image := range c.images {
			if err := link(image, filepath.Join(folder, "imagesTr", fmt.Sprintf("%s_%04d%s", c.name, i, d.FileEnding)), d.FileEnding); err != nil {
				return err
			}
		}
		if err := link(c.label, filepath.Join(folder, "labelsTr", c.name+d.FileEnding), d.FileEnding); err != nil {
			return err
		}
		if c.weight != "" {
			if err := os.MkdirAll(filepath.Join(folder, "weightsTr"), 0o777); err != nil {
				return fault.File(folder, err)
			}
			if err := link(c.weight, filepath.Join(folder, "weightsTr", c.name+d.FileEnding), d.FileEnding); err != nil {
				return err
			}
		}
	}
	text, err := datasetJSON(d, ignore, len(cases))
	if err != nil {
		return err
	}
	return imageio.WriteFileAtomic(filepath.Join(folder, "dataset.json"), func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

// link puts a file in another place: by a symbolic link, a hard link, or a copy, whichever
// the file system can. A link that is there is kept.
func link(from, to, ending string) error {
	if !strings.HasSuffix(from, ending) {
		return fault.New(fault.Model, "%s: the labelled dataset's files end in %s: convert it", from, ending)
	}
	from, err := filepath.Abs(from)
	if err != nil {
		return fault.File(from, err)
	}
	if imageio.Same(from, to) {
		return nil
	}
	if err := os.RemoveAll(to); err != nil {
		return fault.File(to, err)
	}
	if os.Symlink(from, to) == nil || os.Link(from, to) == nil {
		return nil
	}
	in, err := os.Open(from)
	if err != nil {
		return fault.File(from, err)
	}
	defer in.Close()
	if err := imageio.WriteFileAtomic(to, func(w io.Writer) error { _, err := io.Copy(w, in); return err }); err != nil {
		return err
	}
	info, err := in.Stat()
	if err == nil {
		err = os.Chtimes(to, info.ModTime(), info.ModTime()) // by which caches know it
	}
	if err != nil {
		return fault.File(to, err)
	}
	return nil
}

// datasetJSON returns the text of a dataset.json of d's channels and labels, in their order,
// which counts where there are regions.
func datasetJSON(d *nnunet.Dataset, ignore bool, cases int) ([]byte, error) {
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
	fmt.Fprintf(&b, "    \"numTraining\": %d,\n    \"file_ending\": %s\n}\n", cases, text(d.FileEnding))
	return b.Bytes(), nil
}

func marshalLine(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // texts and numbers
	}
	return text
}
