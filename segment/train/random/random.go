// Package random draws random numbers that are a function of a key, such as (seed, step,
// index of the sample): whatever draws them, in whatever order and on however many
// threads, the same key gives the same numbers.
package random

import "math/rand/v2"

// Rand is a stream of random numbers: that of its last Key. One goroutine at a time may
// use it.
type Rand struct {
	*rand.Rand
	source rand.PCG
}

// New returns the stream of a key.
func New(key ...uint64) *Rand {
	r := new(Rand)
	r.Rand = rand.New(&r.source)
	r.Key(key...)
	return r
}

// Key goes to the start of the key's stream.
func (r *Rand) Key(key ...uint64) {
	a, b := uint64(0x9e3779b97f4a7c15), uint64(0xd1b54a32d192ed03) // any two numbers
	for _, k := range key {
		a, b = mix(a^k)+0x9e3779b97f4a7c15, mix(b+k)^a
	}
	r.source.Seed(a, b)
}

// mix is a bijection in which every bit of x tells on every bit of the result: the
// finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
// generators, OOPSLA 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Chance is true with probability p.
func (r *Rand) Chance(p float64) bool { return r.Float64() < p }

// Uniform returns a number from [lo, hi).
func (r *Rand) Uniform(lo, hi float64) float64 { return lo + (hi-lo)*r.Float64() }

// Integer returns a whole number from [lo, hi), which holds one at least.
func (r *Rand) Integer(lo, hi int) int { return lo + r.IntN(hi-lo) }
