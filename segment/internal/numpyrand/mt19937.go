// Package numpyrand draws what numpy.random.RandomState draws, so that choices that
// nnU-Net makes with a fixed seed come out the same.
package numpyrand

// State is the Mersenne Twister MT19937 (Matsumoto and Nishimura 1998), numpy's legacy
// generator.
type State struct {
	key [624]uint32
	pos int
}

// New returns RandomState(seed).
func New(seed uint32) *State {
	s := &State{pos: 624}
	for i := range s.key {
		s.key[i] = seed
		seed = 1812433253*(seed^seed>>30) + uint32(i) + 1
	}
	return s
}

// twist makes the next 624 states.
func (s *State) twist() {
	const n, m = 624, 397
	next := func(i, after, far int) {
		y := s.key[i]&0x80000000 | s.key[after]&0x7fffffff
		s.key[i] = s.key[far] ^ y>>1 ^ -(y&1)&0x9908b0df
	}
	for i := range n - m {
		next(i, i+1, i+m)
	}
	for i := n - m; i < n-1; i++ {
		next(i, i+1, i+m-n)
	}
	next(n-1, 0, m-1)
	s.pos = 0
}

// temper returns the random bits of a state.
func temper(y uint32) uint32 {
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// Uint32 returns the next 32 random bits.
func (s *State) Uint32() uint32 {
	if s.pos == len(s.key) {
		s.twist()
	}
	y := s.key[s.pos]
	s.pos++
	return temper(y)
}

// interval returns a whole number from 0 to most: bits under a mask, drawn again while
// they are above (numpy's random_interval).
func (s *State) interval(most uint32) uint32 {
	mask := most
	for shift := 1; shift < 32; shift *= 2 {
		mask |= mask >> shift
	}
	for {
		if v := s.Uint32() & mask; v <= most {
			return v
		}
	}
}

// Permutation returns the numbers 0 to n-1 as RandomState.permutation(n) orders them;
// its first k are choice(n, k, replace=False). n is below 2^32.
func (s *State) Permutation(n int) []int {
	p := make([]int, n)
	for i := range p {
		p[i] = i
	}
	for i := n - 1; i > 0; i-- {
		j := s.interval(uint32(i))
		p[i], p[j] = p[j], p[i]
	}
	return p
}
