package main

import (
	"math"
	"strconv"
	"strings"

	"github.com/libflare/libflare/segment"
)

// options are those of every call.
func (c *segmentCommand) options(model *segment.Model) (o segment.Options, err error) {
	o = segment.Options{Mirror: c.Mirror, Postprocess: c.Postprocess, ProbabilitiesFile: c.Probabilities}
	if o.Box, err = parseBox(c.Box); err != nil {
		return o, err
	}
	if o.ROI, err = parseROI(c.Roi, model.Describe().Labels); err != nil {
		return o, err
	}
	o.MaxMemory, err = parseSize("--max-memory", c.MaxMemory)
	return o, err
}

func parseBox(text string) (b segment.Box, err error) {
	if text == "" {
		return b, nil
	}
	numbers := strings.Split(text, ",")
	for i, s := range numbers {
		n, bad := strconv.Atoi(strings.TrimSpace(s))
		if bad != nil || len(numbers) != 6 {
			return b, segment.Errorf(segment.ErrArgument, "--box is %q, expected six numbers of voxels: X0,Y0,Z0,X1,Y1,Z1", text)
		}
		if i < 3 {
			b.Lo[i] = n
		} else {
			b.Hi[i-3] = n
		}
	}
	if b == (segment.Box{}) {
		return b, segment.Errorf(segment.ErrArgument, "--box is %q, which is empty", text)
	}
	return b, nil
}

// parseROI reads labels by their names or numbers.
func parseROI(text string, labels []segment.Label) (roi []int, err error) {
	if text == "" {
		return nil, nil
	}
next:
	for _, s := range strings.Split(text, ",") {
		s = strings.TrimSpace(s)
		for _, l := range labels {
			if strings.EqualFold(l.Name, s) || strconv.Itoa(l.Value) == s {
				roi = append(roi, l.Value)
				continue next
			}
		}
		var names []string
		for _, l := range labels {
			names = append(names, l.Name)
		}
		return nil, segment.Errorf(segment.ErrArgument, "--roi: the model has no label %q; it has %s", s, strings.Join(names, ", "))
	}
	return roi, nil
}

var units = map[string]float64{"": 1, "B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}

// parseSize reads a number of bytes with or without a unit, which an option gives.
func parseSize(option, text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	number := strings.TrimRight(text, "BGKMibgkm")
	unit, known := units[strings.ToUpper(text[len(number):])]
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || !known || n*unit < 1 || n*unit > math.MaxInt64/2 {
		return 0, segment.Errorf(segment.ErrArgument, "%s is %q, expected a size such as 2GB, 1500MiB or a number of bytes", option, text)
	}
	return int64(n * unit), nil
}
