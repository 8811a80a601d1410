package nnunet

import (
	"strings"

	"github.com/libflare/libflare/segment/internal/fault"
)

// plansJSON is a plans.json as nnU-Net's planners write it.
type plansJSON struct {
	DatasetName       string                   `json:"dataset_name"`
	PlansName         string                   `json:"plans_name"`
	MedianSpacing     [3]pythonFloat           `json:"original_median_spacing_after_transp"`
	MedianShape       [3]int                   `json:"original_median_shape_after_transp"`
	Reader            string                   `json:"image_reader_writer"`
	TransposeForward  [3]int                   `json:"transpose_forward"`
	TransposeBackward [3]int                   `json:"transpose_backward"`
	Configurations    configurationsJSON       `json:"configurations"`
	Planner           string                   `json:"experiment_planner_used"`
	LabelManager      string                   `json:"label_manager"`
	Intensity         map[string]intensityJSON `json:"foreground_intensity_properties_per_channel"`
}

type configurationsJSON struct {
	Flat    *configurationJSON `json:"2d,omitempty"`
	Lowres  *configurationJSON `json:"3d_lowres,omitempty"`
	Fullres *configurationJSON `json:"3d_fullres,omitempty"`
	Cascade *cascadeJSON       `json:"3d_cascade_fullres,omitempty"`
}

type cascadeJSON struct {
	InheritsFrom  string `json:"inherits_from"`
	PreviousStage string `json:"previous_stage"`
}

type configurationJSON struct {
	DataIdentifier      string           `json:"data_identifier"`
	Preprocessor        string           `json:"preprocessor_name"`
	BatchSize           int              `json:"batch_size"`
	PatchSize           []int            `json:"patch_size"`
	MedianSize          any              `json:"median_image_size_in_voxels"` // floats, of 3d_lowres integers
	Spacing             []pythonFloat    `json:"spacing"`
	Normalization       []string         `json:"normalization_schemes"`
	UseMask             []bool           `json:"use_mask_for_norm"`
	Data                string           `json:"resampling_fn_data"`
	Seg                 string           `json:"resampling_fn_seg"`
	DataKwargs          resampleJSON     `json:"resampling_fn_data_kwargs"`
	SegKwargs           resampleJSON     `json:"resampling_fn_seg_kwargs"`
	Probabilities       string           `json:"resampling_fn_probabilities"`
	ProbabilitiesKwargs resampleJSON     `json:"resampling_fn_probabilities_kwargs"`
	Architecture        architectureJSON `json:"architecture"`
	BatchDice           bool             `json:"batch_dice"`
	NextStage           string           `json:"next_stage,omitempty"`
	Mirroring           *bool            `json:"mirroring,omitempty"` // libflare's own, which nnU-Net does not look at
}

type resampleJSON struct {
	IsSeg          bool  `json:"is_seg"`
	Order          int   `json:"order"`
	OrderZ         int   `json:"order_z"`
	ForceSeparateZ *bool `json:"force_separate_z"` // null
}

type architectureJSON struct {
	Class          string   `json:"network_class_name"`
	Arguments      argsJSON `json:"arch_kwargs"`
	RequiresImport []string `json:"_kw_requires_import"`
}

type argsJSON struct {
	Stages        int             `json:"n_stages"`
	Features      []int           `json:"features_per_stage"`
	Conv          string          `json:"conv_op"`
	Kernels       [][]int         `json:"kernel_sizes"`
	Strides       [][]int         `json:"strides"`
	Convolutions  []int           `json:"n_conv_per_stage,omitempty"`
	Blocks        []int           `json:"n_blocks_per_stage,omitempty"`
	Decoder       []int           `json:"n_conv_per_stage_decoder"`
	ConvBias      bool            `json:"conv_bias"`
	Norm          string          `json:"norm_op"`
	NormKwargs    normJSON        `json:"norm_op_kwargs"`
	Dropout       *struct{}       `json:"dropout_op"`        // null
	DropoutKwargs *struct{}       `json:"dropout_op_kwargs"` // null
	Nonlin        string          `json:"nonlin"`
	NonlinKwargs  map[string]bool `json:"nonlin_kwargs"`
}

type normJSON struct {
	Eps    pythonFloat `json:"eps"`
	Affine bool        `json:"affine"`
}

// describe writes a configuration down, but for its batch and median size.
func (e *experiment) describe(name string, spacing []float64, t topology, features, encoder, decoder []int) *configurationJSON {
	const resample = "resample_data_or_seg_to_shape"
	dims := string(rune('0' + len(spacing)))
	c := &configurationJSON{
		DataIdentifier: e.identifier(name), Preprocessor: "DefaultPreprocessor", PatchSize: t.patch, Spacing: pythonFloats(spacing),
		Data: resample, Seg: resample, Probabilities: resample,
		DataKwargs: resampleJSON{Order: 3}, SegKwargs: resampleJSON{IsSeg: true, Order: 1}, ProbabilitiesKwargs: resampleJSON{Order: 1},
		Architecture: architectureJSON{RequiresImport: []string{"conv_op", "norm_op", "dropout_op", "nonlin"}, Arguments: argsJSON{
			Stages: len(t.strides), Features: features, Kernels: t.kernels, Strides: t.strides, Decoder: decoder, ConvBias: true,
			Conv:       "torch.nn.modules.conv.Conv" + dims + "d",
			Norm:       "torch.nn.modules.instancenorm.InstanceNorm" + dims + "d",
			NormKwargs: normJSON{1e-5, true},
			Nonlin:     "torch.nn.LeakyReLU", NonlinKwargs: map[string]bool{"inplace": true},
		}},
	}
	const classes = "dynamic_network_architectures.architectures.unet."
	if a := &c.Architecture; e.residual {
		a.Class, a.Arguments.Blocks = classes+"ResidualEncoderUNet", encoder
	} else {
		a.Class, a.Arguments.Convolutions = classes+"PlainConvUNet", encoder
	}
	for _, channel := range e.dataset.Channels {
		scheme, inside := normalization(channel)
		c.Normalization = append(c.Normalization, scheme)
		c.UseMask = append(c.UseMask, inside && e.MedianRelativeSize < 0.75)
	}
	return c
}

// identifier names the folder of preprocessed images. Planners of residual networks share
// those of ExperimentPlanner, except where their patches decide the spacing.
func (e *experiment) identifier(configuration string) string {
	if e.residual && configuration != "3d_lowres" {
		return planners[planPlain].plansName + "_" + configuration
	}
	return e.plansName + "_" + configuration
}

// normalization returns the scheme of a channel by its name, and whether it leaves zeros
// outside the nonzero mask alone where images were cropped much
// (preprocessing/normalization/map_channel_name_to_normalization.py).
func normalization(channel string) (scheme string, insideMask bool) {
	switch strings.ToLower(channel) {
	case "ct":
		return "CTNormalization", false
	case "nonorm":
		return "NoNormalization", false
	case "rescale_to_0_1":
		return "RescaleTo01Normalization", false
	case "rgb_to_0_1":
		return "RGBTo01Normalization", false
	}
	return "ZScoreNormalization", true
}

// Reader returns the name of nnU-Net's reader for the dataset's files: the one that
// dataset.json asks for, else the first for the file ending. Those that end in WithReorient
// turn images to RAS. Errors: Unsupported (an ending that nnU-Net does not read).
func (d *Dataset) Reader() (string, error) {
	o, err := parseObject(d.Raw, d.File)
	if err != nil {
		return "", err
	}
	switch name := o.optText("overwrite_image_reader_writer"); name {
	case "SimpleITKIO", "SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient", "NaturalImage2DIO", "Tiff3DIO":
		return name, nil
	}
	name, ok := readers[strings.ToLower(d.FileEnding)]
	if !ok {
		return "", fault.New(fault.Unsupported, "%s: key \"file_ending\": nnU-Net has no reader for %.40q", d.File, d.FileEnding)
	}
	return name, nil
}

// readers are nnU-Net's readers of the file endings that it knows, the first of each
// (imageio/reader_writer_registry.py).
var readers = map[string]string{
	".nii.gz": "SimpleITKIO", ".nrrd": "SimpleITKIO", ".mha": "SimpleITKIO", ".gipl": "SimpleITKIO", ".nii": "NibabelIO",
	".png": "NaturalImage2DIO", ".bmp": "NaturalImage2DIO", ".tif": "NaturalImage2DIO", ".tiff": "Tiff3DIO",
}
