package evaluate

import "math"

// tree finds the nearest of a set of points: a k-d tree (Bentley, 1975) whose nodes know the
// box around their points. Boxes are halved along the axis that is longest in mm.
type tree struct {
	points  []point // in the order of the leaves
	nodes   []node
	spacing [3]float64 // mm along x, y, z
}

// node holds points from..to before; a leaf has no children.
type node struct {
	lo, hi   point
	from, to int32
	child    int32 // the first of two; 0: a leaf
}

// leafSize is where halving ends: looking at so many points costs about as much as at two more
// boxes.
const leafSize = 8

// newTree makes a tree of one point or more; it keeps them, in another order.
func newTree(points []point, spacing [3]float64) *tree {
	t := &tree{points: points, spacing: spacing, nodes: make([]node, 1, len(points)/2+2)}
	t.nodes[0].to = int32(len(points))
	for i := 0; i < len(t.nodes); i++ { // nodes grow meanwhile
		n := &t.nodes[i]
		own := points[n.from:n.to]
		n.lo, n.hi = own[0], own[0]
		for _, p := range own {
			n.lo = point{min(n.lo.x, p.x), min(n.lo.y, p.y), min(n.lo.z, p.z)}
			n.hi = point{max(n.hi.x, p.x), max(n.hi.y, p.y), max(n.hi.z, p.z)}
		}
		if len(own) <= leafSize {
			continue
		}
		cut := n.from + int32(half(own, n.lo, n.hi, spacing))
		n.child = int32(len(t.nodes))
		from, to := n.from, n.to
		t.nodes = append(t.nodes, node{from: from, to: cut}, node{from: cut, to: to})
	}
	return t
}

// half reorders points, which are not all the same, so that those in the lower half of the box
// come first, and returns how many those are: neither none nor all.
func half(points []point, lo, hi point, spacing [3]float64) int {
	x, y, z := float64(hi.x-lo.x)*spacing[0], float64(hi.y-lo.y)*spacing[1], float64(hi.z-lo.z)*spacing[2]
	n := 0
	put := func(i int) { points[n], points[i] = points[i], points[n]; n++ }
	switch {
	case x >= y && x >= z:
		for i := range points {
			if points[i].x <= (lo.x+hi.x)/2 {
				put(i)
			}
		}
	case y >= z:
		for i := range points {
			if points[i].y <= (lo.y+hi.y)/2 {
				put(i)
			}
		}
	default:
		for i := range points {
			if points[i].z <= (lo.z+hi.z)/2 {
				put(i)
			}
		}
	}
	return n
}

// square is the squared distance in mm of two points that lie so many voxels apart. SciPy's
// distance transform computes it so, without fused operations; so distances meet a
// tolerance when they do there.
func (t *tree) square(x, y, z int32) float64 {
	a, b, c := float64(x)*t.spacing[0], float64(y)*t.spacing[1], float64(z)*t.spacing[2]
	return float64(float64(a*a)+float64(b*b)) + float64(c*c)
}

// box is the squared distance of q from a node's box: at most that from its points, also as
// rounded.
func (t *tree) box(n *node, q point) float64 {
	return t.square(max(0, n.lo.x-q.x, q.x-n.hi.x), max(0, n.lo.y-q.y, q.y-n.hi.y), max(0, n.lo.z-q.z, q.z-n.hi.z))
}

// distance returns how far in mm q is from the nearest point, whose index is the hint for a
// q close to this one; the first hint may be 0.
func (t *tree) distance(q point, hint int32) (mm float64, nearest int32) {
	p := t.points[hint]
	best := t.square(p.x-q.x, p.y-q.y, p.z-q.z)
	var stack [128]struct { // depth is at most 3 * 31, as half of an axis is left each time
		node int32
		far  float64
	}
	stack[0].far = t.box(&t.nodes[0], q)
	for top := 0; top >= 0; {
		far, n := stack[top].far, &t.nodes[stack[top].node]
		top--
		if far >= best {
			continue
		}
		if n.child == 0 {
			for i := n.from; i < n.to; i++ {
				p := t.points[i]
				if d := t.square(p.x-q.x, p.y-q.y, p.z-q.z); d < best {
					best, hint = d, i
				}
			}
			continue
		}
		near, next := n.child, n.child+1
		a, b := t.box(&t.nodes[near], q), t.box(&t.nodes[next], q)
		if b < a {
			near, next, a, b = next, near, b, a
		}
		if b < best {
			top++
			stack[top].node, stack[top].far = next, b
		}
		if a < best {
			top++
			stack[top].node, stack[top].far = near, a
		}
	}
	return math.Sqrt(best), hint
}
