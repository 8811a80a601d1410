package segment

import (
	"slices"
	"strings"

	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/internal/fault"
)

// checkFiles refuses a call's outputs before anything is read: names of no image format,
// and files that are an input, the model or each other.
func (c *call) checkFiles(in, out string) error {
	probabilities, previous := c.options.ProbabilitiesFile, c.options.PreviousFile
	if in == "" || out == "" {
		return fault.New(fault.Argument, "the path of the image (%q) or of the labels (%q) is empty", in, out)
	}
	outputs := []string{out}
	if probabilities != "" {
		outputs = append(outputs, probabilities)
	}
	for _, file := range outputs {
		if err := imageio.Known(file); err != nil {
			return err
		}
	}
	if page := c.options.ReportFile; page != "" {
		if !isReport(page) {
			return fault.New(fault.Argument, "%s: the name of a report ends in .html", page)
		}
		if err := imageio.Writable(page); err != nil {
			return err
		}
		outputs = append(outputs, page)
	}
	inputs, err := imageio.CaseFiles(in)
	if err != nil {
		return err
	}
	inputs = append(inputs, previous, c.model.path)
	for _, p := range c.model.parts {
		inputs = append(inputs, p.path)
	}
	return spare(outputs, inputs)
}

// spare refuses outputs that are inputs ("" for none) or each other, through whatever
// links.
func spare(outputs, inputs []string) error {
	for i, out := range outputs {
		same := func(file string) bool { return file != "" && imageio.Same(file, out) }
		if k := slices.IndexFunc(inputs, same); k >= 0 {
			return fault.New(fault.Argument, "%s: an input, which would be overwritten by the output %s", inputs[k], out)
		}
		if k := slices.IndexFunc(outputs[:i], same); k >= 0 {
			return fault.New(fault.Argument, "%s and %s: two outputs in one file", outputs[k], out)
		}
	}
	return nil
}

// ofFile says what is wrong with the image in a file. A value that a caller would have
// given wrongly is a file's that does not fit the model.
func (c *call) ofFile(err error, in string) error {
	kind := fault.KindOf(err)
	if kind == fault.Cancelled {
		return err
	}
	if kind == fault.Argument && c.options.Previous == nil {
		kind = fault.Model
	}
	if strings.Contains(err.Error(), in) {
		return fault.New(kind, "%w", err)
	}
	return fault.New(kind, "%s: %w", in, err)
}
