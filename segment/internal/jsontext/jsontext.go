// Package jsontext writes the library's own JSON files.
package jsontext

import (
	"bytes"
	"encoding/json"
)

// Indented gives a value as JSON of many lines, which ends with a newline; characters of HTML
// stay as they are. It panics on what JSON cannot hold, such as numbers that are not finite.
func Indented(v any, indent string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return b.Bytes()
}
