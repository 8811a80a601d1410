package main

// #include "callback.h"
import "C"

import (
	"cmp"
	"context"
	"encoding/json"
	"math"
	"slices"
	"unsafe"

	"github.com/libflare/libflare/segment"
	"github.com/libflare/libflare/segment/imageio"
	"github.com/libflare/libflare/segment/volume"
)

var images = newTable[*imageio.Image]("image", "flare_image_open", 0x5f1a_1300_0000_0001)

//export flareGoImageOpen
func flareGoImageOpen(text **C.char, out *C.uint64_t, path *C.char) C.flare_status {
	return edge(text, func() error {
		im, err := imageio.Read(context.Background(), C.GoString(path))
		if err != nil {
			return err
		}
		*out = C.uint64_t(images.add(im))
		return nil
	})
}

//export flareGoImageVolume
func flareGoImageVolume(text **C.char, out *C.flare_volume, image C.uint64_t) C.flare_status {
	return edge(text, func() error {
		c, err := images.begin(uint64(image))
		if err != nil {
			return err
		}
		defer c.end()
		im := c.of
		out.data = unsafe.Pointer(unsafe.SliceData(im.Data)) // in C memory, where they stay
		out.dtype, out.channels = C.int32_t(im.DType), C.int32_t(im.Channels)
		for i := range 3 {
			out.size[i], out.spacing[i], out.origin[i] = C.int64_t(im.Size[i]), C.double(im.Spacing[i]), C.double(im.Origin[i])
		}
		for i := range 9 {
			out.direction[i] = C.double(im.Direction[i])
		}
		return nil
	})
}

//export flareGoImageFree
func flareGoImageFree(text **C.char, image C.uint64_t) C.flare_status {
	return edge(text, func() error { return images.free(uint64(image), func(im *imageio.Image) { im.Free() }) })
}

//export flareGoImageWrite
func flareGoImageWrite(text **C.char, path *C.char, v *C.flare_volume, o *C.flare_write_options) C.flare_status {
	return edge(text, func() error {
		voxels, err := wrapImage(v)
		if err != nil {
			return err
		}
		if o.labels == nil {
			return imageio.Write(context.Background(), C.GoString(path), voxels)
		}
		segments, err := namedLabels(C.GoString(o.labels))
		if err != nil {
			return err
		}
		grid := &imageio.Image{Volume: &volume.Volume{Geometry: voxels.Geometry}, Dims: 3}
		return grid.WriteLabels(context.Background(), C.GoString(path), voxels, segments...)
	})
}

// namedLabels reads labels as dataset.json has them, {"liver": 1, ...}, in the order of their values.
func namedLabels(text string) ([]imageio.Segment, error) {
	var values map[string]int
	if err := json.Unmarshal([]byte(text), &values); err != nil {
		return nil, segment.Errorf(segment.ErrArgument, "labels is %.80q, expected JSON such as {\"background\": 0, \"liver\": 1}: %w", text, err)
	}
	var segments []imageio.Segment
	for name, value := range values {
		if value < 0 || value > math.MaxUint16 {
			return nil, segment.Errorf(segment.ErrArgument, "labels: %.80q is %d, expected 0 to 65535", name, value)
		}
		segments = append(segments, imageio.Segment{Value: value, Name: name})
	}
	slices.SortFunc(segments, func(a, b imageio.Segment) int {
		return cmp.Or(cmp.Compare(a.Value, b.Value), cmp.Compare(a.Name, b.Name))
	})
	return segments, nil
}
