package nnunet

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
)

// RawDataset is a dataset as users hand it to nnU-Net: a folder with dataset.json,
// imagesTr/CASE_0000.nii.gz (_0001 for the next channel, ...), labelsTr/CASE.nii.gz and, which
// is no part of nnU-Net and may be left out for any case, weightsTr/CASE.nii.gz; or
// dataset.json lists the files under the key "dataset" (utilities/utils.py,
// get_filenames_of_train_images_and_targets), weights as "weight" beside nnU-Net's "label".
type RawDataset struct {
	Name    string // the folder's, such as Dataset004_Hippocampus
	Folder  string
	Dataset *Dataset
	Cases   []RawCase // by name, or in the order of the key "dataset"
}

// RawCase is one training case.
type RawCase struct {
	Name   string
	Images []string // a file for each channel, or one that holds all of them
	Label  string
	Weight string // how much each voxel counts in training: uint8, 255 is 1; "": all are 1
}

// ReadDataset reads a dataset.json. Errors: NotFound, IO, and those of ParseDataset.
func ReadDataset(path string) (*Dataset, error) {
	text, err := ReadJSON(path)
	if err != nil {
		return nil, err
	}
	return ParseDataset(text, path)
}

// ReadPlans reads a plans.json. Errors: NotFound, IO, and those of ParsePlans.
func ReadPlans(path string) (*Plans, error) {
	text, err := ReadJSON(path)
	if err != nil {
		return nil, err
	}
	return ParsePlans(text, path)
}

// OpenRawDataset reads dataset.json and finds the files of every case; it does not open
// them. Errors, all that is found in one message: NotFound (a folder, dataset.json), those
// of ParseDataset, Model (no case, a missing label or channel, a file whose name has no
// channel, another number of cases than numTraining).
func OpenRawDataset(folder string) (*RawDataset, error) {
	absolute, err := filepath.Abs(folder)
	if err != nil {
		return nil, fault.New(fault.IO, "%s: %w", folder, err)
	}
	if _, err := os.Stat(folder); err != nil {
		return nil, fault.File(folder, err)
	}
	d, err := ReadDataset(filepath.Join(folder, "dataset.json"))
	if err != nil {
		return nil, err
	}
	r := &RawDataset{Name: filepath.Base(absolute), Folder: folder, Dataset: d}
	o, err := parseObject(d.Raw, d.File)
	if err != nil {
		return nil, err
	}
	if d.FileEnding == "" {
		o.wrong(fault.Model, "file_ending", "a text such as .nii.gz")
	} else if o.has("dataset") {
		r.listed(o)
	} else if err := r.find(o.rep); err != nil {
		return nil, err
	}
	if n := len(r.Cases); len(o.rep.lines) == 0 && n == 0 {
		o.rep.add(fault.Model, "there is no training case: expected files such as imagesTr/CASE_0000%s", d.FileEnding)
	} else if len(o.rep.lines) == 0 && d.NumTraining != 0 && d.NumTraining != n {
		o.rep.add(fault.Model, "numTraining is %d, but there are %d cases", d.NumTraining, n)
	}
	if err := o.rep.err(); err != nil {
		return nil, err
	}
	return r, nil
}

// listed takes the cases from the key "dataset".
func (r *RawDataset) listed(o object) {
	cases, ok := o.child("dataset", "dataset: ")
	if !ok {
		return
	}
	for _, name := range o.ordered("dataset") {
		c, ok := cases.child(name, fmt.Sprintf("dataset %.80q: ", name))
		if !ok {
			continue
		}
		var images []string
		c.get("images", &images, "a list of files")
		label := c.text("label")
		if len(images) != len(r.Dataset.Channels) && len(images) != 1 {
			c.wrong(fault.Model, "images", fmt.Sprintf("%d files, one for each channel, or one that holds all", len(r.Dataset.Channels)))
		}
		for i := range images {
			images[i] = r.resolve(images[i], o.rep)
		}
		k := RawCase{Name: name, Images: images, Label: r.resolve(label, o.rep)}
		if c.has("weight") {
			k.Weight = r.resolve(c.text("weight"), o.rep)
		}
		r.Cases = append(r.Cases, k)
	}
}

// resolve returns the place of a listed file: below the dataset's folder unless absolute,
// with environment variables that exist filled in, as nnU-Net does.
func (r *RawDataset) resolve(path string, rep *report) string {
	path = os.Expand(path, func(name string) string {
		if v, ok := os.LookupEnv(name); ok {
			return v
		}
		return "$" + name
	})
	if !filepath.IsAbs(path) {
		path = filepath.Join(r.Folder, path)
	}
	if info, err := os.Stat(path); err != nil || info.IsDir() {
		rep.add(fault.Model, "key \"dataset\" lists %s: no such file", path)
	}
	return path
}

// find takes the cases from imagesTr and labelsTr.
func (r *RawDataset) find(rep *report) error {
	ending := r.Dataset.FileEnding
	images, labels := filepath.Join(r.Folder, "imagesTr"), filepath.Join(r.Folder, "labelsTr")
	found, err := namesIn(images, ending)
	if err != nil {
		return err
	}
	labelled, err := namesIn(labels, ending)
	if err != nil {
		return err
	}
	channels := map[string][]string{} // of each case
	for _, file := range found {
		stem := strings.TrimSuffix(file, ending)
		cut := len(stem) - len("_0000")
		if cut < 0 || stem[cut] != '_' || strings.Trim(stem[cut+1:], "0123456789") != "" {
			rep.add(fault.Model, "imagesTr/%s: the name lacks a channel, expected CASE_0000%s", file, ending)
			continue
		}
		channels[stem[:cut]] = append(channels[stem[:cut]], file)
	}
	for _, name := range slices.Sorted(maps.Keys(channels)) {
		c := RawCase{Name: name, Label: filepath.Join(labels, name+ending)}
		n := len(r.Dataset.Channels)
		for i, file := range channels[name] { // sorted
			if expected := fmt.Sprintf("%s_%04d%s", name, i, ending); i >= n {
				rep.add(fault.Model, "imagesTr/%s: dataset.json has %d channels, numbered from 0000", file, n)
			} else if file != expected {
				rep.add(fault.Model, "imagesTr/%s is missing: the case has %s", expected, nameList(channels[name]))
				break
			}
			c.Images = append(c.Images, filepath.Join(images, file))
		}
		if have := len(c.Images); have > 1 && have < n { // one may hold all
			rep.add(fault.Model, "imagesTr/%s_%04d%s is missing: dataset.json has %d channels", name, have, ending, n)
		}
		if !slices.Contains(labelled, name+ending) {
			rep.add(fault.Model, "labelsTr/%s%s is missing", name, ending)
		}
		if weight := filepath.Join(r.Folder, "weightsTr", name+ending); exists(weight) {
			c.Weight = weight
		}
		r.Cases = append(r.Cases, c)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// namesIn returns the names in a folder that end in ending, sorted.
func namesIn(folder, ending string) (names []string, err error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, fault.File(folder, err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ending) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
