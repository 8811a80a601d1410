package main

import (
	"os"
	"path/filepath"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/imageio"
)

// spare refuses outputs that are a file that is read, or another output: hours later it
// would be too late.
func (c *segmentCommand) spare(cases []job, folder bool) error {
	read := known{}
	for _, k := range cases {
		files, err := []string{k.in}, error(nil)
		if !folder {
			if files, err = imageio.CaseFiles(k.in); err != nil {
				return err
			}
		}
		read.add(append(files, k.previous)...)
	}
	if folder { // with the further channels of all cases
		files, err := os.ReadDir(c.In)
		if err != nil {
			return fileError(err)
		}
		for _, f := range files {
			read.add(filepath.Join(c.In, f.Name()))
		}
	}
	read.add(c.Model)

	written := known{}
	for _, k := range cases {
		for _, output := range [][2]string{{"labels", k.out}, {"report", k.report}} {
			what, path := output[0], output[1]
			if path == "" {
				continue
			}
			if file := read.find(path); file != "" {
				return segment.Errorf(segment.ErrArgument, "%s would be overwritten by the %s %s", file, what, path)
			}
			if file := written.find(path); file != "" {
				return segment.Errorf(segment.ErrArgument, "%s would be overwritten by the %s of another case, %s", file, what, path)
			}
			written.add(path)
		}
	}
	for _, option := range [][2]string{{"--probabilities", c.Probabilities}, {"--stats", c.Stats}} {
		name, path := option[0], option[1]
		if path == "" {
			continue
		}
		file := read.find(path)
		for _, k := range cases {
			for _, other := range []string{k.out, k.report} {
				if file == "" && other != "" && imageio.Same(other, path) {
					file = other
				}
			}
		}
		if file == "" && isFolder(c.Model) && exists(path) && imageio.Within(path, c.Model) {
			file = path
		}
		if file != "" {
			return segment.Errorf(segment.ErrArgument, "%s would be overwritten by %s", file, name)
		}
	}
	if c.Stats != "" && c.Probabilities != "" && imageio.Same(c.Stats, c.Probabilities) {
		return segment.Errorf(segment.ErrArgument, "%s: --stats would be overwritten by --probabilities", c.Stats)
	}
	return nil
}

// known are files that exist, by whatever names.
type known []struct {
	path string
	info os.FileInfo
}

// add adds the files that exist.
func (k *known) add(paths ...string) {
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil {
			*k = append(*k, struct {
				path string
				info os.FileInfo
			}{path, info})
		}
	}
}

// find returns the name that path's file is known by, "" if it is not.
func (k known) find(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	for _, file := range k {
		if os.SameFile(file.info, info) {
			return file.path
		}
	}
	return ""
}
