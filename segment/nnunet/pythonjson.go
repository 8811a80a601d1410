package nnunet

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// pythonFloat is a number that JSON holds as Python's json module writes it: 1.0, 1e-05.
type pythonFloat float64

// MarshalJSON gives Python's repr: the shortest digits that read back as the same number,
// with an exponent below 1e-4 and from 1e16 on.
func (f pythonFloat) MarshalJSON() ([]byte, error) {
	s := strconv.FormatFloat(float64(f), 'e', -1, 64)
	e, _ := strconv.Atoi(s[strings.IndexByte(s, 'e')+1:])
	if -4 <= e && e < 16 {
		if s = strconv.FormatFloat(float64(f), 'f', -1, 64); !strings.ContainsRune(s, '.') {
			s += ".0"
		}
	}
	return []byte(s), nil
}

// pythonFloats converts a list.
func pythonFloats(values []float64) []pythonFloat {
	out := make([]pythonFloat, len(values))
	for i, v := range values {
		out[i] = pythonFloat(v)
	}
	return out
}

// pythonJSON returns v as json.dump(v, indent=4) writes it.
func pythonJSON(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "    ")
	if err := e.Encode(v); err != nil { // of a number that is NaN or infinite: the readers let none through
		panic(err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
