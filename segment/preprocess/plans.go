package preprocess

import (
	"strings"

	"github.com/libflare/libflare/segment/nnunet"
	"github.com/libflare/libflare/segment/resample"
)

// Of returns what a configuration of the plans asks of its images; a cascade's previous
// labels are left out.
func Of(p *nnunet.Plans, c *nnunet.Configuration) Config {
	out := Config{Transpose: p.TransposeForward, Spacing: c.Spacing, Image: Method(c.Data), Seg: Method(c.Seg)}
	if strings.HasSuffix(p.ImageReaderWriter, "WithReorient") {
		out.Orientation = "RAS" // what nnU-Net's two such readers turn images to
	}
	for i, scheme := range c.Normalization {
		n := p.Intensity[i]
		out.Channels = append(out.Channels, Normalization{
			Scheme: Scheme(scheme), Mask: c.UseMask[i], Lower: n.Percentile005, Upper: n.Percentile995, Mean: n.Mean, StdDev: n.Std})
	}
	return out
}

// Method turns the plans' resampling into that of package resample.
func Method(r nnunet.Resampling) resample.Method {
	return resample.Method{Function: resample.Function(r.Name), Order: r.Order, OrderZ: r.OrderZ, SeparateZ: r.ForceSeparateZ, Threshold: r.Threshold,
		Mode: resample.Mode(r.Mode), ModeZ: resample.Mode(r.AnisoAxisMode), MemEfficient: r.MemEfficient}
}
