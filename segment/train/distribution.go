package train

import (
	"math"
	"slices"
	"sort"

	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/numpyrand"
	"github.com/libflare/libflare/segment/nnunet"
)

// distribution is how often each intensity was drawn from one case: in C memory, ascending,
// the intensity's key (see keyOf) in the upper half of each element, and in the lower half
// how many draws gave it or a smaller one. So all draws of a case, half a million where
// there are 200, need no more memory than there are different intensities.
type distribution []uint64

// draw draws n of values, which is not empty, as nnU-Net does.
func draw(random *numpyrand.State, values []float32, n int) (distribution, error) {
	if len(values) > math.MaxUint32 {
		return nil, fault.New(fault.Unsupported, "%d foreground voxels, more than 2^32", len(values))
	}
	most := uint32(len(values) - 1)
	buffer, err := cmem.Alloc[uint32](numpyrand.ChoicesLen(most))
	if err != nil {
		return nil, err
	}
	defer cmem.Free(buffer)
	counts := random.Choices(buffer, most, n)
	pairs, err := cmem.Alloc[uint64](len(values))
	if err != nil {
		return nil, err
	}
	defer cmem.Free(pairs)
	drawn := pairs[:0]
	for i, c := range counts {
		if c > 0 {
			drawn = append(drawn, uint64(keyOf(values[i]))<<32|uint64(c))
		}
	}
	slices.Sort(drawn)
	kept, total := 0, uint64(0)
	for i, p := range drawn {
		total += p & math.MaxUint32
		if i+1 == len(drawn) || drawn[i+1]>>32 != p>>32 {
			drawn[kept] = p>>32<<32 | total
			kept++
		}
	}
	d, err := cmem.Alloc[uint64](kept)
	if err != nil {
		return nil, err
	}
	copy(d, drawn)
	return d, nil
}

// keyOf orders floats as unsigned numbers.
func keyOf(v float32) uint32 {
	if bits := math.Float32bits(v); bits>>31 == 0 {
		return bits | 1<<31
	} else {
		return ^bits
	}
}

func valueOf(key uint32) float32 {
	if key>>31 == 1 {
		return math.Float32frombits(key &^ (1 << 31))
	}
	return math.Float32frombits(^key)
}

// upTo returns how many draws have a key of at most key.
func (d distribution) upTo(key uint32) int {
	i := sort.Search(len(d), func(i int) bool { return uint32(d[i]>>32) > key })
	if i == 0 {
		return 0
	}
	return int(uint32(d[i-1]))
}

// statistics returns those of all cases' draws together, of which there is at least one.
// They are numpy's but for the rounding of its sums, which are float32.
func statistics(cases []distribution) nnunet.Intensity {
	n, sum := 0, 0.0
	each := func(body func(v, count float64)) {
		for _, d := range cases {
			before := uint64(0)
			for _, p := range d {
				body(float64(valueOf(uint32(p>>32))), float64(p&math.MaxUint32-before))
				before = p & math.MaxUint32
			}
		}
	}
	in := nnunet.Intensity{Min: math.Inf(1), Max: math.Inf(-1)}
	each(func(v, count float64) {
		n += int(count)
		sum += v * count
		in.Min, in.Max = min(in.Min, v), max(in.Max, v)
	})
	in.Mean = sum / float64(n)
	sum = 0
	each(func(v, count float64) { sum += (v - in.Mean) * (v - in.Mean) * count })
	in.Std = math.Sqrt(sum / float64(n))
	in.Percentile005 = percentile(cases, n, 0.005)
	in.Median = percentile(cases, n, 0.5)
	in.Percentile995 = percentile(cases, n, 0.995)
	return in
}

// percentile is numpy.percentile, with linear interpolation, of n draws; q is from 0 to 1.
func percentile(cases []distribution, n int, q float64) float64 {
	at := float64(n-1) * q
	low := int(at)
	a, b := ranked(cases, low), ranked(cases, min(low+1, n-1))
	t, width := at-float64(low), float64(b-a)
	if t >= 0.5 {
		return float64(b) - float64(width*(1-t)) // no fused multiply-add
	}
	return float64(a) + float64(width*t)
}

// ranked returns the draw with the given number of draws below it: the smallest key up to
// which there are more.
func ranked(cases []distribution, rank int) float32 {
	key := sort.Search(math.MaxUint32, func(key int) bool {
		total := 0
		for _, d := range cases {
			total += d.upTo(uint32(key))
		}
		return total > rank
	})
	return valueOf(uint32(key))
}
