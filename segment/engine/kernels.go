package engine

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
)

// sealName is the file that an entry of compiled kernels ends with: a line with the
// SHA-256 and the name of every other file. Without it, or with another, the entry is
// not used: what OpenVINO compiles carries no check sums of its own.
const sealName = "seal"

// kernelKey names the entry for a model's key: what is compiled depends on the device,
// the precision and the runtime, too.
func kernelKey(key, device string, fast bool) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %t %s", key, device, fast, Version()))
	return fmt.Sprintf("%x", sum[:16])
}

// kernels lends run a folder for what OpenVINO compiles, filled with what the entry key
// holds, and keeps what OpenVINO has put there. The folder is run's own, as OpenVINO
// writes in place; the files in it are links to the entry's. Errors are run's; note says
// why nothing was kept.
func (c *cache) kernels(key string, run func(dir string) error) (note string, err error) {
	entry := filepath.Join(c.dir, key+".kernels")
	c.sweep()
	dir, err := os.MkdirTemp(c.dir, filepath.Base(entry)+".tmp-*")
	if err != nil {
		return err.Error(), run("")
	}
	defer os.RemoveAll(dir)
	before, sealed := readSeal(entry)
	for name := range before {
		if sealed && os.Link(filepath.Join(entry, name), filepath.Join(dir, name)) != nil {
			sealed = false
		}
	}
	if !sealed {
		if err := emptied(dir); err != nil {
			return err.Error(), run("")
		}
	}
	if err := run(dir); err != nil {
		return "", err
	}
	after, err := sums(dir)
	if err != nil {
		return err.Error(), nil
	}
	if len(after) == 0 || sealed && bytes.Equal(sealOf(after), sealOf(before)) {
		return "", nil
	}
	if err := os.WriteFile(filepath.Join(dir, sealName), sealOf(after), 0o644); err != nil {
		return err.Error(), nil
	}
	// OpenVINO does not tell whether the disk was full when it wrote.
	if err := roomLeft(dir); err != nil {
		return err.Error(), nil
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err.Error(), nil
	}
	os.RemoveAll(entry)
	if err := os.Rename(dir, entry); err != nil && !os.IsExist(err) {
		return err.Error(), nil // where it exists, another process was faster
	}
	return "", nil
}

// readSeal returns the check sums of an entry and whether it is whole.
func readSeal(entry string) (map[string]string, bool) {
	seal, err := os.ReadFile(filepath.Join(entry, sealName))
	if err != nil {
		return nil, false
	}
	have, err := sums(entry)
	if err != nil {
		return nil, false
	}
	return have, bytes.Equal(seal, sealOf(have))
}

// sums returns the SHA-256 of every file of a folder but the seal.
func sums(dir string) (map[string]string, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, file := range files {
		if file.Name() == sealName {
			continue
		}
		if !file.Type().IsRegular() {
			return nil, fmt.Errorf("%s is not a regular file", filepath.Join(dir, file.Name()))
		}
		f, err := os.Open(filepath.Join(dir, file.Name()))
		if err != nil {
			return nil, err
		}
		hash := sha256.New()
		_, err = io.Copy(hash, f)
		f.Close()
		if err != nil {
			return nil, err
		}
		out[file.Name()] = fmt.Sprintf("%x", hash.Sum(nil))
	}
	return out, nil
}

func sealOf(sums map[string]string) []byte {
	var lines []string
	for name, sum := range sums {
		lines = append(lines, sum+"  "+name+"\n")
	}
	sort.Strings(lines)
	var out bytes.Buffer
	for _, line := range lines {
		out.WriteString(line)
	}
	return out.Bytes()
}

// roomLeft fails where a folder has no room for another megabyte.
func roomLeft(dir string) error {
	path := filepath.Join(dir, "room")
	err := os.WriteFile(path, make([]byte, 1<<20), 0o600)
	if e := os.Remove(path); err == nil {
		err = e
	}
	return err
}

func emptied(dir string) error {
	files, err := os.ReadDir(dir)
	for _, file := range files {
		if err == nil {
			err = os.Remove(filepath.Join(dir, file.Name()))
		}
	}
	return err
}
