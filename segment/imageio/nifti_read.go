package imageio

import "context"

// readNIfTI reads a .nii or .nii.gz file. Nothing is allocated for voxels before
// the header is found sound and the file found large enough for it.
func readNIfTI(ctx context.Context, path string, gz bool) (*Image, error) {
	s, err := open(ctx, path, gz)
	if err != nil {
		return nil, err
	}
	defer s.close()
	h, o, err := s.readHeader()
	if err != nil {
		return nil, err
	}
	size, channels, dims, err := h.shape(path)
	if err != nil {
		return nil, err
	}
	code, err := findType(path, h.Datatype)
	if err != nil {
		return nil, err
	}
	if err := s.holds(size, channels, code, h.VoxOffset); err != nil {
		return nil, err
	}
	g, err := h.geometry(path, size, dims)
	if err != nil {
		return nil, err
	}
	if err := s.skip(h.VoxOffset); err != nil {
		return nil, err
	}
	v, err := decode(s, g, channels, code, o, h.scale())
	if err != nil {
		return nil, err
	}
	if err := s.finish(); err != nil {
		v.Free()
		return nil, err
	}
	return &Image{Volume: v, Dims: dims, NotFinite: s.notFinite, header: h}, nil
}
