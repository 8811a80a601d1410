package augment

import (
	"math"

	"github.com/libflare/libflare/segment/train/random"
)

// Blur filters, with probability PChannel, a channel with a Gaussian of a standard
// deviation in voxels from [Lo, Hi): one for all axes if Together, else one for each.
// Parameters: for each channel those of the axes z, y, x; 0 where nothing changes.
type Blur struct {
	Lo, Hi, PChannel float64
	Together         bool
}

func (t Blur) Draw(p []float64, r *random.Rand, channels int, shape [3]int) []float64 {
	for range channels {
		var sigma [3]float64
		if r.Chance(t.PChannel) {
			together := r.Uniform(t.Lo, t.Hi)
			for i := range sigma {
				switch {
				case i == 0 && shape[0] == 1:
				case t.Together:
					sigma[i] = together
				default:
					sigma[i] = r.Uniform(t.Lo, t.Hi)
				}
			}
		}
		p = append(p, sigma[:]...)
	}
	return p
}

// Apply filters along z into one plane, along y into a row and along x into the spare
// channel, so that all but the channel itself stays in cache.
func (t Blur) Apply(s *Sample, p []float64, w *Scratch) {
	d, h, wide := s.Shape[0], s.Shape[1], s.Shape[2]
	plane := w.plane[:h*wide]
	for c := 0; len(p) > 0; c, p = c+1, p[3:] {
		kz, ky, kx := gaussian(p[0]), gaussian(p[1]), gaussian(p[2])
		if kz.half+ky.half+kx.half == 0 {
			continue
		}
		x, out := s.channel(c), w.spare
		half := kx.half
		row := w.row[:wide+2*half] // with its reflection
		for z := range d {
			kz.filter(plane, x, z, d, h*wide)
			for y := range h {
				ky.filter(row[half:half+wide], plane, y, h, wide)
				for i := 1; i <= half; i++ {
					row[half-i] = row[half+reflect(-i, wide)]
					row[half+wide-1+i] = row[half+reflect(wide-1+i, wide)]
				}
				kx.slide(out[(z*h+y)*wide:][:wide], row)
			}
		}
		copy(x, out)
	}
}

// kernel is a symmetric filter: weights of the middle and of its neighbours on one side.
type kernel struct {
	half   int
	weight [maxHalf + 1]float32
}

// maxHalf serves deviations to 1.5 voxels, the largest that nnU-Net uses.
const maxHalf = 4

// gaussian returns the filter of batchgeneratorsv2: cut at 3 deviations, its length
// rounded to the nearest odd number.
func gaussian(sigma float64) kernel {
	k := kernel{weight: [maxHalf + 1]float32{1}}
	if sigma == 0 {
		return k
	}
	length := 6*sigma + 0.5
	n := math.RoundToEven(length)
	if math.Mod(n, 2) == 0 {
		if length >= n {
			n++
		} else {
			n--
		}
	}
	k.half = int(n) / 2
	sum := 0.0
	for i := -k.half; i <= k.half; i++ {
		sum += math.Exp(-0.5 * float64(i*i) / (sigma * sigma))
	}
	for i := range k.half + 1 {
		k.weight[i] = float32(math.Exp(-0.5*float64(i*i)/(sigma*sigma)) / sum)
	}
	return k
}

// filter writes line i of n lines of x, size values each, filtered across the lines.
func (k *kernel) filter(dst, x []float32, i, n, size int) {
	line := func(i int) []float32 { return x[reflect(i, n)*size:][:size] }
	if k.half == 0 {
		copy(dst, line(i))
		return
	}
	weighted(dst, line(i), line(i-1), line(i+1), k.weight[0], k.weight[1])
	for j := 2; j <= k.half; j++ {
		add(dst, line(i-j), line(i+j), k.weight[j])
	}
}

// slide filters a row; x begins and ends with k.half values around it.
func (k *kernel) slide(dst, x []float32) {
	n, h := len(dst), k.half
	if h == 0 {
		copy(dst, x)
		return
	}
	weighted(dst, x[h:h+n], x[h-1:h-1+n], x[h+1:h+1+n], k.weight[0], k.weight[1])
	for j := 2; j <= h; j++ {
		add(dst, x[h-j:h-j+n], x[h+j:h+j+n], k.weight[j])
	}
}

// weighted writes m*middle + k*(a+b).
func weighted(dst, middle, a, b []float32, m, k float32) {
	middle, a, b = middle[:len(dst)], a[:len(dst)], b[:len(dst)]
	for i := range dst {
		dst[i] = m*middle[i] + k*(a[i]+b[i])
	}
}

// add adds k*(a+b).
func add(dst, a, b []float32, k float32) {
	a, b = a[:len(dst)], b[:len(dst)]
	for i := range dst {
		dst[i] += k * (a[i] + b[i])
	}
}

// reflect returns the index from 0 to n-1 at which i arrives when reflected at the first
// and last of them (torch's mode "reflect").
func reflect(i, n int) int {
	if n == 1 {
		return 0
	}
	for i < 0 || i >= n {
		if i < 0 {
			i = -i
		} else {
			i = 2*(n-1) - i
		}
	}
	return i
}
