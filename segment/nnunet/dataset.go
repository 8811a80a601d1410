package nnunet

import (
	"bytes"
	"fmt"
	"slices"
	"sort"
	"strconv"

	"github.com/libflare/libflare/segment/internal/fault"
)

// Dataset is a dataset.json: the channels that go in and the labels that come
// out (utilities/label_handling/label_handling.py, LabelManager).
type Dataset struct {
	File        string   // for messages
	Raw         []byte   // the JSON text as read
	Name        string   // empty where the file lacks it
	Channels    []string // names, in the order of the network's input
	Labels      []Label  // in the file's order, without "ignore"
	FileEnding  string   // such as .nii.gz, empty where the file lacks it
	NumTraining int      // 0 where the file lacks it

	// RegionsClassOrder is the label value that each region writes, in the
	// order of the network's outputs; nil without regions.
	RegionsClassOrder []int

	// IgnoreLabel is the value of "ignore" in training labels, -1 without.
	IgnoreLabel int
}

// Label is one entry of "labels": a single value, or a region of several.
type Label struct {
	Name   string
	Values []int // at least one
}

// maxLabel is the highest label value: what a 16-bit label map holds.
const maxLabel = 65535

// ParseDataset reads the text of a dataset.json; path is only named in
// messages. Dataset keeps data. Errors: Format (not JSON, wrong type or value),
// Model (a key is missing, labels contradict each other or are not
// consecutive), as nnU-Net refuses them.
func ParseDataset(data []byte, path string) (*Dataset, error) {
	o, err := parseObject(data, path)
	if err != nil {
		return nil, err
	}
	d := &Dataset{File: path, Raw: data, Name: o.optText("name"), FileEnding: o.optText("file_ending"), IgnoreLabel: -1}
	if n, ok := wholeNumber(o.fields["numTraining"], 0, 1<<31-1); ok {
		d.NumTraining = n
	}
	d.parseChannels(o)
	d.parseLabels(o)
	if o.has("regions_class_order") {
		d.RegionsClassOrder = o.integers("regions_class_order", 0, 0, maxLabel)
	}
	if len(o.rep.lines) == 0 {
		d.check(o)
	}
	if err := o.rep.err(); err != nil {
		return nil, err
	}
	if !d.HasRegions() {
		d.RegionsClassOrder = nil // nnU-Net ignores it, too
	}
	return d, nil
}

// parseChannels reads channel_names, or modality as files of nnU-Net v1 and
// early v2 call it. Its keys are "0", "1", ...
func (d *Dataset) parseChannels(o object) {
	key := "channel_names"
	if o.has("modality") { // which nnU-Net looks for first
		key = "modality"
	}
	c, ok := o.child(key, key+": ")
	if !ok {
		return
	}
	type channel struct {
		number int
		name   string
	}
	var channels []channel
	for _, k := range c.keys() {
		n, err := strconv.Atoi(k)
		if err != nil || n < 0 || n >= maxChannels {
			o.rep.add(fault.Format, "key %q: found channel %.40q, expected a number from 0 to %d", key, k, maxChannels-1)
			continue
		}
		channels = append(channels, channel{n, c.text(k)})
	}
	sort.SliceStable(channels, func(i, j int) bool { return channels[i].number < channels[j].number })
	for _, ch := range channels {
		d.Channels = append(d.Channels, ch.name)
	}
	if len(c.fields) == 0 {
		o.wrong(fault.Format, key, "at least one channel")
	}
}

// parseLabels reads labels in the file's order: it is the order of the
// network's outputs where there are regions.
func (d *Dataset) parseLabels(o object) {
	raw, ok := o.child("labels", "labels: ")
	if !ok {
		return
	}
	for _, name := range o.ordered("labels") {
		var values []int
		if one, ok := wholeNumber(raw.fields[name], 0, maxLabel); ok {
			values = []int{one}
		} else if raw.fields[name][0] != '[' {
			raw.wrong(fault.Format, name, fmt.Sprintf("a whole number from 0 to %d, or for a region a list of them", maxLabel))
			continue
		} else if values = raw.integers(name, 0, 0, maxLabel); values == nil {
			continue
		}
		if name != "ignore" {
			d.Labels = append(d.Labels, Label{name, values})
		} else if d.IgnoreLabel = values[0]; len(values) > 1 || raw.fields[name][0] == '[' {
			raw.wrong(fault.Format, name, "one whole number")
		}
	}
}

// check refuses what LabelManager and verify_dataset_integrity refuse.
func (d *Dataset) check(o object) {
	background := slices.IndexFunc(d.Labels, func(l Label) bool { return l.Name == "background" })
	if background < 0 {
		o.rep.add(fault.Model, "key \"labels\" lacks \"background\": 0")
	} else if v := d.Labels[background].Values; len(v) != 1 || v[0] != 0 {
		o.rep.add(fault.Model, "key \"labels\": background is %v, expected 0", v)
	}
	all := d.Values()
	for i, v := range all {
		if v == i {
			continue
		}
		if i > 0 { // else background is wrong, as said above
			o.rep.add(fault.Model, "key \"labels\": values must be consecutive from 0, but %d is followed by %d", i-1, v)
		}
		break
	}
	if d.IgnoreLabel >= 0 && d.IgnoreLabel != len(all) {
		o.rep.add(fault.Model, "key \"labels\": ignore is %d, expected %d, one above the highest label", d.IgnoreLabel, len(all))
	}
	if !d.HasRegions() {
		return
	}
	if n := len(d.Regions()); len(d.RegionsClassOrder) != n {
		o.rep.add(fault.Model, "key \"regions_class_order\" has %d values, expected one for each of the %d regions", len(d.RegionsClassOrder), n)
	}
}

// HasRegions says whether the network predicts overlapping regions, each with
// a sigmoid, rather than exclusive labels.
func (d *Dataset) HasRegions() bool {
	return slices.ContainsFunc(d.Labels, func(l Label) bool { return len(l.Values) > 1 })
}

// Values returns all label values in ascending order, 0 included, "ignore" not
// (LabelManager.all_labels).
func (d *Dataset) Values() []int {
	var all []int
	for _, l := range d.Labels {
		all = append(all, l.Values...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Regions returns the labels and regions other than background, in the order
// of the network's outputs (LabelManager.foreground_regions).
func (d *Dataset) Regions() []Label {
	var out []Label
	for _, l := range d.Labels {
		if slices.Max(l.Values) > 0 {
			out = append(out, l)
		}
	}
	return out
}

// NumHeads returns the number of the network's output channels: one per label
// value, or one per region (LabelManager.num_segmentation_heads).
func (d *Dataset) NumHeads() int {
	if d.HasRegions() {
		return len(d.Regions())
	}
	return len(d.Values())
}

// NumInputs returns the number of the network's input channels: the image's,
// and for a cascade's second stage one per foreground label of the first
// (label_handling.py, determine_num_input_channels).
func (d *Dataset) NumInputs(c *Configuration) int {
	n := len(d.Channels)
	if c.PreviousStage != "" {
		n += len(d.Values()) - 1
	}
	return n
}

// GenericDataset stands in for a missing dataset.json: channels "0", "1", ...,
// background and labels "label_1" to "label_<classes-1>". Its Raw is a
// dataset.json of the same content. channels must be 1 to 1024, classes 2 to
// 65536.
func GenericDataset(channels, classes int) (*Dataset, error) {
	if channels < 1 || channels > maxChannels || classes < 2 || classes > maxLabel+1 {
		return nil, fault.New(fault.Model, "a network of %d input and %d output channels is not one of nnU-Net: expected 1 to %d and 2 to %d",
			channels, classes, maxChannels, maxLabel+1)
	}
	var b bytes.Buffer
	b.WriteString(`{"channel_names": {`)
	for i := range channels {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, `"%d": "%d"`, i, i)
	}
	b.WriteString(`}, "labels": {"background": 0`)
	for i := 1; i < classes; i++ {
		fmt.Fprintf(&b, `, "label_%d": %d`, i, i)
	}
	b.WriteString(`}}`)
	return ParseDataset(b.Bytes(), "generic dataset")
}
