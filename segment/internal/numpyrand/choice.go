package numpyrand

import "math/bits"

// Choices draws n whole numbers from 0 to most, as RandomState.choice(most+1, n) does, and
// returns how often each came. counts is cleared and used for that; its length is at least
// ChoicesLen(most), and what it holds beyond most means nothing.
func (s *State) Choices(counts []uint32, most uint32, n int) []uint32 {
	mask := uint32(ChoicesLen(most) - 1)
	counts = counts[:int(mask)+1]
	clear(counts)
	if most == 0 { // for which numpy draws nothing
		counts[0] = uint32(n)
		return counts[:1]
	}
	// A number above most does not count; without a branch for it, that costs little.
	for n > 0 {
		if s.pos == len(s.key) {
			s.twist()
		}
		states := s.key[s.pos:min(len(s.key), s.pos+n)] // not more than are missing
		s.pos += len(states)
		for _, y := range states {
			v := temper(y) & mask
			counts[v]++
			if v <= most {
				n--
			}
		}
	}
	return counts[:int(most)+1]
}

// ChoicesLen returns the numbers of the mask under which Choices draws: the power of two
// above most.
func ChoicesLen(most uint32) int { return 1 << bits.Len32(most) }
