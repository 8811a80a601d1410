package evaluate

import (
	"cmp"
	"math"
	"slices"
)

// element is a part of a surface: how far it is from the other surface, and how large.
type element struct{ mm, area float64 }

// directed holds the elements of one surface with their distances from the other.
type directed struct {
	total  float64   // mm^2 of the whole surface
	shared float64   // of those, what the other surface has too: distance 0
	away   []element // the rest, nearest first
}

// distances measures from every element of a surface to the nearest of another; both have
// some. It reorders the points of the other.
func distances(from, to *surface, spacing [3]float64) directed {
	d := directed{shared: from.shared, total: from.shared, away: make([]element, len(from.away))}
	if len(d.away) == 0 {
		return d
	}
	t, hint := newTree(slices.Clone(to.at), spacing), int32(0)
	for i, which := range from.away {
		e := &d.away[i]
		e.mm, hint = t.distance(from.at[which], hint)
		e.area = from.area[i]
		d.total += e.area
	}
	slices.SortFunc(d.away, func(a, b element) int { return cmp.Compare(a.mm, b.mm) })
	return d
}

// within is the area of the elements that are at most so many mm away.
func (d *directed) within(mm float64) float64 {
	area := d.shared
	for _, e := range d.away {
		if e.mm > mm {
			break
		}
		area += e.area
	}
	return area
}

// percentile is the distance within which so large a part (0..1) of the area is.
func (d *directed) percentile(part float64) float64 {
	area := d.shared
	if len(d.away) == 0 || area/d.total >= part {
		return 0
	}
	for _, e := range d.away {
		if area += e.area; area/d.total >= part {
			return e.mm
		}
	}
	return d.farthest()
}

// farthest is the largest distance.
func (d *directed) farthest() float64 {
	if len(d.away) == 0 {
		return 0
	}
	return d.away[len(d.away)-1].mm
}

// sum is the integral of the distance over the surface, in mm^3.
func (d *directed) sum() (sum float64) {
	for _, e := range d.away {
		sum += e.mm * e.area
	}
	return sum
}

// surfaces sets what compares the surfaces of an organ, which both are there. The definitions are
// those of DeepMind's surface-distance (Nikolov et al., 2018): NSD is the part of
// both surfaces that is at most the tolerance away from the other; HD95 the larger of the distances
// within which 95 % of each surface are. ASSD is the mean over both surfaces together.
func (s *Score) surfaces(o *overlap, spacing [3]float64, tolerance float64) {
	p, r := distances(&o.prediction, &o.reference, spacing), distances(&o.reference, &o.prediction, spacing)
	area := p.total + r.total
	s.NSD = Number((r.within(tolerance) + p.within(tolerance)) / area)
	s.ASSD = Number((r.sum() + p.sum()) / area)
	s.HD = Number(max(r.farthest(), p.farthest()))
	s.HD95 = Number(max(r.percentile(0.95), p.percentile(0.95)))
}

var undefined = Number(math.NaN())
