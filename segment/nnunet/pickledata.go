package nnunet

import (
	"fmt"

	"github.com/nlpodyssey/gopickle/types"
)

// Object stands for a class, a function or an instance in a pickle. It has only
// a name, such as
// nnunetv2.postprocessing.remove_connected_components.remove_all_but_largest_component_from_segmentation.
type Object struct{ Name string }

// ParsePickle returns what a pickle describes as plain data: nil, bool, int,
// float64, string, []byte, []any (lists and tuples), map[string]any (dicts,
// without keys that are not texts), and Object for all else. Nothing is
// executed. The error says what is malformed; it names no file.
func ParsePickle(data []byte) (any, error) {
	v, err := unpickle(data)
	if err != nil {
		return nil, err
	}
	left := maxPlain
	return plain(v, 0, &left)
}

// Bounds on plain data. A pickle may name one list many times or within itself.
const (
	maxPlain = 1 << 16 // values
	maxDepth = 32
)

func plain(v any, depth int, left *int) (any, error) {
	if *left--; *left < 0 || depth > maxDepth {
		return nil, fmt.Errorf("a pickle of more than %d values or %d levels is refused", maxPlain, maxDepth)
	}
	switch v := v.(type) {
	case nil, bool, int, float64, string, []byte:
		return v, nil
	case *inert:
		return Object{v.name}, nil
	case *types.Dict, *types.OrderedDict:
		entries, _ := dict(v)
		out := make(map[string]any, len(entries))
		for k, e := range entries {
			p, err := plain(e, depth+1, left)
			if err != nil {
				return nil, err
			}
			out[k] = p
		}
		return out, nil
	}
	items, ok := sequence(v)
	if !ok {
		return Object{pythonType(v)}, nil
	}
	out := make([]any, len(items))
	for i, e := range items {
		p, err := plain(e, depth+1, left)
		if err != nil {
			return nil, err
		}
		out[i] = p
	}
	return out, nil
}
