package cmem

import (
	"bytes"
	"math"
	"os"
	"path"
	"strconv"
)

// Available returns how many bytes the process can still use before the system runs out,
// or its control group does: free memory, swap and what the page cache gives up. ok is
// false where the system does not tell (other than Linux).
func Available() (free int64, ok bool) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, false
	}
	memory, ok := field(text, "MemAvailable:")
	if !ok {
		return 0, false
	}
	swap, _ := field(text, "SwapFree:")
	return min((memory+swap)<<10, inGroup()), true
}

// inGroup is Available by the limit of the control group (version 2) alone.
func inGroup() int64 {
	unlimited := int64(math.MaxInt64)
	text, _ := os.ReadFile("/proc/self/cgroup")
	_, group, found := bytes.Cut(bytes.TrimSpace(text), []byte("0::"))
	if !found {
		return unlimited
	}
	free := unlimited
	for dir := path.Join("/sys/fs/cgroup", string(group)); len(dir) >= len("/sys/fs/cgroup"); dir = path.Dir(dir) {
		limit, ok1 := number(dir + "/memory.max") // "max" is no number: no limit here
		used, ok2 := number(dir + "/memory.current")
		if !ok1 || !ok2 {
			continue
		}
		text, _ := os.ReadFile(dir + "/memory.stat")
		cache, _ := field(text, "inactive_file ")
		free = min(free, max(0, limit-used+cache))
	}
	return free
}

// field returns the number behind the line's name in a text of lines.
func field(text []byte, name string) (int64, bool) {
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok {
			if words := bytes.Fields(rest); len(words) > 0 {
				n, err := strconv.ParseInt(string(words[0]), 10, 64)
				return n, err == nil
			}
		}
	}
	return 0, false
}

func number(file string) (int64, bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	return n, err == nil
}
