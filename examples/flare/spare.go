package main

import (
	"cmp"
	"os"
	"path/filepath"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/imageio"
)

// spare refuses outputs that are a file that is read, or another output: hours later it
// would be too late.
func (c *segmentCommand) spare(cases []job, folder bool) error {
	var read imageio.FileSet
	for _, k := range cases {
		files, err := []string{k.in}, error(nil)
		if !folder {
			if files, err = imageio.CaseFiles(k.in); err != nil {
				return err
			}
		}
		read.Add(append(files, k.previous)...)
	}
	if folder { // with the further channels of all cases
		files, err := os.ReadDir(c.In)
		if err != nil {
			return fileError(err)
		}
		for _, f := range files {
			read.Add(filepath.Join(c.In, f.Name()))
		}
	}
	read.Add(c.Model)

	var written imageio.FileSet
	for _, k := range cases {
		for _, output := range [][2]string{{"labels", k.out}, {"report", k.report}} {
			what, path := output[0], output[1]
			if path == "" {
				continue
			}
			if file := read.Find(path); file != "" {
				return segment.Errorf(segment.ErrArgument, "%s would be overwritten by the %s %s", file, what, path)
			}
			if file := written.Find(path); file != "" {
				return segment.Errorf(segment.ErrArgument, "%s would be overwritten by the %s of another case, %s", file, what, path)
			}
			written.Add(path)
		}
	}
	for _, option := range [][2]string{{"--probabilities", c.Probabilities}, {"--stats", c.Stats}} {
		name, path := option[0], option[1]
		if path == "" {
			continue
		}
		file := cmp.Or(read.Find(path), written.Find(path))
		if file == "" && isFolder(c.Model) && exists(path) && imageio.Within(path, c.Model) {
			file = path
		}
		if file != "" {
			return segment.Errorf(segment.ErrArgument, "%s would be overwritten by %s", file, name)
		}
		written.Add(path)
	}
	return nil
}
