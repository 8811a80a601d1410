package nnunet

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
)

// report gathers everything wrong in one file, so that a user sees all of it
// at once.
type report struct {
	file  string
	kind  fault.Kind
	lines []string
	more  int
}

// maxLines bounds a message; a hostile file could hold millions of problems.
const maxLines = 20

func (r *report) add(k fault.Kind, format string, args ...any) {
	// What is malformed or contradictory outweighs what is merely not
	// supported: it makes the other findings doubtful.
	if r.kind == 0 || r.kind == fault.Unsupported {
		r.kind = k
	}
	if len(r.lines) >= maxLines {
		r.more++
		return
	}
	// Two readers of one key may find the same.
	if line := fmt.Sprintf(format, args...); !slices.Contains(r.lines, line) {
		r.lines = append(r.lines, line)
	}
}

func (r *report) err() error {
	if len(r.lines) == 0 {
		return nil
	}
	s := strings.Join(r.lines, "; ")
	if r.more > 0 {
		s += fmt.Sprintf("; and %d more", r.more)
	}
	return fault.New(r.kind, "%s: %s", r.file, s)
}

// join gives the errors that are not nil as one, each naming its file; nil if
// there are none. Its kind is that of the first that is more than Unsupported.
func join(errs ...error) error {
	var kind fault.Kind
	var lines []string
	for _, err := range errs {
		if err == nil {
			continue
		}
		if kind == 0 || kind == fault.Unsupported {
			kind = fault.KindOf(err)
		}
		lines = append(lines, err.Error())
	}
	if lines == nil {
		return nil
	}
	return fault.New(kind, "%s", strings.Join(lines, "; "))
}

// object is one JSON object of a file. Its getters note a problem in rep and
// return a zero value when a key is missing or of another type. Keys are
// matched exactly, unlike encoding/json's struct fields.
type object struct {
	fields map[string]json.RawMessage
	where  string // begins a message: `configuration "2d": `
	rep    *report
}

// parseObject reads data as one JSON object.
func parseObject(data []byte, file string) (object, error) {
	rep := &report{file: file}
	fields := map[string]json.RawMessage{}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	err := json.Unmarshal(data, &fields)
	if err != nil {
		if fixed := withoutNaN(data); fixed != nil {
			clear(fields)
			err = json.Unmarshal(fixed, &fields)
		}
	}
	if err != nil {
		return object{}, fault.New(fault.Format, "%s: not a JSON object: %v", file, err)
	}
	if fields == nil {
		return object{}, fault.New(fault.Format, "%s: holds null, expected a JSON object", file)
	}
	return object{fields, "", rep}, nil
}

// withoutNaN returns data with the literals NaN, Infinity and -Infinity that
// Python's json module writes replaced by null, nil if there are none. A null
// then counts as a missing key where the number is needed.
func withoutNaN(data []byte) []byte {
	var out []byte
	last, inString := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case !inString && (c == 'N' || c == 'I' || c == '-'):
			for _, word := range []string{"NaN", "Infinity", "-Infinity"} {
				if bytes.HasPrefix(data[i:], []byte(word)) {
					out = append(append(out, data[last:i]...), "null"...)
					i += len(word) - 1
					last = i + 1
					break
				}
			}
		}
	}
	if out == nil {
		return nil
	}
	return append(out, data[last:]...)
}

// has says whether key is there with a value other than null.
func (o object) has(key string) bool {
	v, ok := o.fields[key]
	return ok && string(v) != "null"
}

func (o object) keys() []string {
	names := make([]string, 0, len(o.fields))
	for k := range o.fields {
		names = append(names, k)
	}
	sort.Strings(names)
	return names
}

// ordered returns the keys of the object at key in the file's order; of one that is there
// twice, as for Python, the place of the first counts (and the value of the last). The
// value at key is known to be an object.
func (o object) ordered(key string) (names []string) {
	dec := json.NewDecoder(bytes.NewReader(o.fields[key]))
	dec.Token() // the brace
	seen := map[string]bool{}
	for dec.More() {
		t, _ := dec.Token()
		name, ok := t.(string)
		if !ok || dec.Decode(new(json.RawMessage)) != nil {
			return names
		}
		if !seen[name] {
			names = append(names, name)
		}
		seen[name] = true
	}
	return names
}

// wrong notes that the value of key is not what was expected.
func (o object) wrong(k fault.Kind, key, expected string) {
	v, ok := o.fields[key]
	if !ok {
		o.rep.add(fault.Model, "%skey %q is missing, expected %s", o.where, key, expected)
		return
	}
	o.rep.add(k, "%skey %q: found %s, expected %s", o.where, key, short(v), expected)
}

// short gives a JSON value for a message: on one line and not too long.
func short(v []byte) string {
	var b bytes.Buffer
	if len(v) > 4096 || json.Compact(&b, v) != nil {
		b.Reset()
		b.Write(v[:min(len(v), 4096)])
	}
	s := b.String()
	if len(s) > 100 {
		s = strings.ToValidUTF8(s[:100], "") + "..."
	}
	return s
}

// get decodes key into dst; false and a note when it is missing or of another
// type.
func (o object) get(key string, dst any, expected string) bool {
	if !o.has(key) || json.Unmarshal(o.fields[key], dst) != nil {
		o.wrong(fault.Format, key, expected)
		return false
	}
	return true
}

func (o object) text(key string) (s string) {
	o.get(key, &s, "a text")
	return s
}

// optText returns "" when key is missing or null.
func (o object) optText(key string) string {
	if !o.has(key) {
		return ""
	}
	return o.text(key)
}

// optBool returns def when key is missing or null.
func (o object) optBool(key string, def bool) bool {
	if o.has(key) {
		o.get(key, &def, "true or false")
	}
	return def
}

// number returns a finite float64.
func (o object) number(key string) (f float64) {
	o.get(key, &f, "a number")
	return f
}

// integer returns a whole number from lo to hi.
func (o object) integer(key string, lo, hi int) int {
	v, ok := wholeNumber(o.fields[key], lo, hi)
	if !ok {
		o.wrong(fault.Format, key, fmt.Sprintf("a whole number from %d to %d", lo, hi))
	}
	return v
}

// integers returns a list of whole numbers from lo to hi. n is the length, or
// any from 1 to 1024 if n is 0.
func (o object) integers(key string, n, lo, hi int) []int {
	var raw []json.RawMessage
	var out []int
	ok := json.Unmarshal(o.fields[key], &raw) == nil && raw != nil && rightLength(len(raw), n)
	for i := 0; ok && i < len(raw); i++ {
		var v int
		v, ok = wholeNumber(raw[i], lo, hi)
		out = append(out, v)
	}
	if !ok {
		o.wrong(fault.Format, key, fmt.Sprintf("a list of %swhole numbers from %d to %d", count(n), lo, hi))
		return nil
	}
	return out
}

// integersOrOne is integers of length n, where one number stands for n equal
// ones.
func (o object) integersOrOne(key string, n, lo, hi int) []int {
	if v, ok := wholeNumber(o.fields[key], lo, hi); ok {
		return repeat(v, n)
	}
	return o.integers(key, n, lo, hi)
}

// tuples returns n lists of dims whole numbers each; a number stands for equal
// ones, at either level (building_blocks/helper.py, maybe_convert_scalar_to_list).
func (o object) tuples(key string, n, dims, lo, hi int) [][]int {
	expected := fmt.Sprintf("%d lists of %d whole numbers from %d to %d", n, dims, lo, hi)
	out := make([][]int, n)
	if v, ok := wholeNumber(o.fields[key], lo, hi); ok {
		for i := range out {
			out[i] = repeat(v, dims)
		}
		return out
	}
	var raw []json.RawMessage
	if json.Unmarshal(o.fields[key], &raw) != nil || len(raw) != n {
		o.wrong(fault.Format, key, expected)
		return nil
	}
	for i := range out {
		if v, ok := wholeNumber(raw[i], lo, hi); ok {
			out[i] = repeat(v, dims)
			continue
		}
		var inner []json.RawMessage
		ok := json.Unmarshal(raw[i], &inner) == nil && len(inner) == dims
		for j := 0; ok && j < dims; j++ {
			var v int
			v, ok = wholeNumber(inner[j], lo, hi)
			out[i] = append(out[i], v)
		}
		if !ok {
			o.wrong(fault.Format, key, expected)
			return nil
		}
	}
	return out
}

// positive returns n finite numbers above 0.
func (o object) positive(key string, n int) []float64 {
	var out []float64
	expected := fmt.Sprintf("a list of %d numbers above 0", n)
	if !o.get(key, &out, expected) {
		return nil
	}
	for _, v := range out {
		// NaN and infinity cannot come from JSON; denormals would overflow
		// in the quotients that the resampler makes.
		if v < 1e-6 || v > 1e6 {
			o.wrong(fault.Format, key, expected+" (0.000001 to 1000000)")
			return nil
		}
	}
	if len(out) != n {
		o.wrong(fault.Format, key, expected)
		return nil
	}
	return out
}

// child returns the object at key.
func (o object) child(key, where string) (object, bool) {
	c := object{where: where, rep: o.rep}
	if !o.get(key, &c.fields, "an object") {
		return c, false
	}
	return c, true
}

// wholeNumber accepts 3 and 3.0, as Python's json and numpy write either.
func wholeNumber(raw json.RawMessage, lo, hi int) (int, bool) {
	if len(raw) == 0 || string(raw) == "null" {
		return 0, false
	}
	var f float64
	if json.Unmarshal(raw, &f) != nil || f != math.Trunc(f) || f < float64(lo) || f > float64(hi) {
		return 0, false
	}
	return int(f), true
}

func repeat(v, n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = v
	}
	return out
}

func rightLength(have, want int) bool {
	if want == 0 {
		return have >= 1 && have <= 1024
	}
	return have == want
}

func count(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n) + " "
}
