package student

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/libflare/libflare/segment/internal/fault"
)

// files.json knows the files that go into a run by their content, so that data that was moved,
// copied or fetched again, with other times of change, counts as what it was.

// seenFile is one of its files. One that has the content of an earlier one of its name counts
// with that one's time.
type seenFile struct {
	Name     string `json:"name"` // set/case/number/file, whatever the folder
	Size     int64  `json:"size"`
	Modified int64  `json:"modified"` // ns since 1970
	SHA256   string `json:"sha256"`
}

// identity digests names and files (the first of each list is a name) of a set by size and
// content, of which the time of change tells where it is known. Errors: those of os.Stat,
// Cancelled. A file that cannot be read counts by its time: who needs it says so.
func (r *runner) identity(set string, files [][]string) (string, error) {
	type one struct {
		Name           string
		Size, Modified int64
	}
	path := r.path("files.json")
	var seen []seenFile
	if text, err := os.ReadFile(path); err != nil || json.Unmarshal(text, &seen) != nil {
		seen = nil
	}
	before := len(seen)
	sums, first := map[seenFile]string{}, map[seenFile]int64{} // by all but the content, by all but the time
	know := func(f seenFile) {
		sums[seenFile{f.Name, f.Size, f.Modified, ""}] = f.SHA256
		f, at := seenFile{f.Name, f.Size, 0, f.SHA256}, f.Modified
		if _, there := first[f]; !there {
			first[f] = at
		}
	}
	for _, f := range seen {
		know(f)
	}
	var all [][]one
	var failed error
	r.now = "files"
	for n, list := range files {
		row := []one{{Name: list[0]}}
		for i, file := range list[1:] {
			info, err := os.Stat(file)
			if err != nil {
				return "", fault.File(file, err)
			}
			base := filepath.Base(file)
			f := seenFile{Name: fmt.Sprintf("%s/%s/%d/%s", set, list[0], i, base), Size: info.Size(), Modified: info.ModTime().UnixNano()}
			sum, there := sums[f]
			if !there {
				if failed = r.ctx.Err(); failed != nil {
					break
				}
				r.tell(float64(n)/float64(len(files)), "%s", base)
				if sum, err = fileDigest(file); err == nil {
					f.SHA256, there = sum, true
					seen = append(seen, f)
					know(f)
				}
			}
			if there {
				f.Modified = first[seenFile{f.Name, f.Size, 0, sum}]
			}
			row = append(row, one{base, f.Size, f.Modified})
		}
		all = append(all, row)
	}
	if len(seen) > before {
		if err := r.write(path, marshal(seen)); err != nil {
			return "", err
		}
	}
	if failed != nil {
		return "", fault.New(fault.Cancelled, "cancelled while the files were read for the first time")
	}
	return digest(all), nil
}
