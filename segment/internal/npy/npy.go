// Package npy reads numpy's .npy files, for tests against goldens, and makes their headers.
package npy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
)

var header = regexp.MustCompile(`'descr': '([<|]\w\d)', 'fortran_order': False, 'shape': \(([^)]*)\)`)

// Read returns the values of a little-endian, C-ordered .npy file of type f4, f8,
// i2, i4, i8, u1 or u2 as float32, and its shape. The format is that of
// numpy.lib.format, version 1.
func Read(path string) ([]float32, []int, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	if len(data) < 10 || !bytes.HasPrefix(data, []byte("\x93NUMPY\x01")) {
		return nil, nil, fmt.Errorf("%s: not a .npy file of version 1", path)
	}
	end := 10 + int(binary.LittleEndian.Uint16(data[8:]))
	if end > len(data) {
		return nil, nil, fmt.Errorf("%s: truncated", path)
	}
	m := header.FindStringSubmatch(string(data[10:end]))
	if m == nil {
		return nil, nil, fmt.Errorf("%s: header %q is not supported", path, data[10:end])
	}
	n, shape := 1, []int{}
	for _, s := range strings.Split(m[2], ",") {
		if s = strings.TrimSpace(s); s != "" {
			d, err := strconv.Atoi(s)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: shape %q", path, m[2])
			}
			shape, n = append(shape, d), n*d
		}
	}
	size := int(m[1][2] - '0')
	data = data[end:]
	if len(data) != n*size {
		return nil, nil, fmt.Errorf("%s: %d bytes of data, expected %d", path, len(data), n*size)
	}
	values := make([]float32, n)
	for i := range values {
		d := data[i*size:]
		switch m[1][1:] {
		case "f4":
			values[i] = math.Float32frombits(binary.LittleEndian.Uint32(d))
		case "f8":
			values[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(d)))
		case "i2":
			values[i] = float32(int16(binary.LittleEndian.Uint16(d)))
		case "i4":
			values[i] = float32(int32(binary.LittleEndian.Uint32(d)))
		case "i8":
			values[i] = float32(int64(binary.LittleEndian.Uint64(d)))
		case "u2":
			values[i] = float32(binary.LittleEndian.Uint16(d))
		case "u1":
			values[i] = float32(d[0])
		default:
			return nil, nil, fmt.Errorf("%s: type %s is not supported", path, m[1])
		}
	}
	return values, shape, nil
}

// Header returns what comes before the data of a C-ordered .npy file: descr is numpy's
// name of the type, such as "<f4". The data begin at a multiple of 64 bytes.
func Header(descr string, shape ...int) []byte {
	text := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (", descr)
	for _, n := range shape {
		text += fmt.Sprintf("%d, ", n)
	}
	text = strings.TrimSuffix(text, " ") + "), }"
	text += strings.Repeat(" ", (64-(10+len(text)+1)%64)%64) + "\n"
	return append(binary.LittleEndian.AppendUint16([]byte("\x93NUMPY\x01\x00"), uint16(len(text))), text...)
}
