package segment

import (
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/report"
	"github.com/libflare/libflare/segment/volume"
)

// Kind says what sort of failure an error is; see KindOf.
type Kind = fault.Kind

// The kinds of failure. flare_status is the negative, the command line's exit
// code the number itself.
const (
	ErrInternal    = fault.Internal
	ErrArgument    = fault.Argument
	ErrHandle      = fault.Handle
	ErrNotFound    = fault.NotFound
	ErrIO          = fault.IO
	ErrFormat      = fault.Format
	ErrUnsupported = fault.Unsupported
	ErrModel       = fault.Model
	ErrMemory      = fault.Memory
	ErrDevice      = fault.Device
	ErrRuntime     = fault.Runtime
	ErrCancelled   = fault.Cancelled
	ErrPanic       = fault.Panic
	ErrForked      = fault.Forked
	ErrVersion     = fault.Version
)

// KindOf returns the kind of an error of this library; ErrInternal for others.
func KindOf(err error) Kind { return fault.KindOf(err) }

// Errorf returns an error of kind k, for the layers above (C edge, command line).
func Errorf(k Kind, format string, args ...any) error { return fault.New(k, format, args...) }

// OpenOptions chooses how a model runs. The zero value is the default.
type OpenOptions struct {
	Device     string // "auto" or "" , "cpu", "openvino", "ort", "cuda"
	Threads    int    // bound on the threads of a call; 0: one per core
	Folds      string // "all" or "", or a list such as "0,1"
	Checkpoint string // of a folder only: file in each fold_*; "": checkpoint_final.pth
	Runtime    string // ONNX Runtime library or its folder; "": search

	// Mode is "exact" (or ""): float32, nnU-Net's labels; or "fast": bfloat16 where the
	// processor computes with it, float16 on a GPU, and in CT, tiles that hold nothing but
	// air are left out. Fast labels differ a little: Dice at least 0.995 against exact for
	// every organ above 1 ml. Stats tell what was done.
	Mode string

	// CacheDir is "" or a folder, made if need be, in which compiled networks are kept for
	// later opening. Several processes may use one; what is unusable in it is ignored.
	CacheDir string

	// ReadAhead is "" or the file that the first SegmentFile will be called with: it is
	// read while the network is prepared, and kept until that call or Close. It changes no
	// result: other files, or one that changed meanwhile, are read when they are called
	// for. Lists do not use it.
	ReadAhead string

	// GPUMemory, unless 0, bounds in bytes what the device "cuda" takes of the GPU's memory
	// for the network and its values; CUDA itself needs some hundred MB besides. A network
	// that does not fit fails with ErrMemory. Other devices ignore it.
	GPUMemory int64
}

const (
	modeExact = "exact"
	modeFast  = "fast"
)

func (o *OpenOptions) fast() bool { return o.Mode == modeFast }

// check refuses options that are never right.
func (o *OpenOptions) check() error {
	if o.Mode != "" && o.Mode != modeExact && o.Mode != modeFast {
		return fault.New(fault.Argument, "mode %q is not one of exact, fast", o.Mode)
	}
	if o.GPUMemory < 0 {
		return fault.New(fault.Argument, "a bound of %d bytes on the GPU's memory: expected 0 (none) or more", o.GPUMemory)
	}
	return nil
}

// Options chooses what a call computes. The zero value is the default.
type Options struct {
	Mirror      bool // average over the model's mirror flips
	Postprocess bool // apply the post-processing that nnU-Net found best and the model stores

	// Probabilities, of Segment, is nil or a buffer of heads x z x y x x to fill:
	// the softmax of the logits on the image's grid (the sigmoid of regions).
	Probabilities []float32
	// ProbabilitiesFile, of SegmentFile, is empty or a NIfTI file to write them to.
	ProbabilitiesFile string

	// ReportFile, of SegmentFile, is empty or an .html file to write: a page that needs no other,
	// with a view of image and labels, the organs' table, and what model made them and how.
	ReportFile string

	// Previous is nil, or, for the second stage of a cascade, the labels of the first
	// on the image's grid: one channel of any voxel type. PreviousFile, of SegmentFile,
	// is a file of them.
	Previous     *volume.Volume
	PreviousFile string

	// Agreement, unless nil, is filled with how the model's folds agree. Lists refuse it.
	Agreement *Agreement

	// Box, unless zero, bounds the work: only tiles that touch it run. Labels inside are
	// those of the whole image, labels outside are 0.
	Box Box

	// ROI, unless empty, names label values: only they are written, and only tiles run that
	// can contain them according to a coarse pass over the image at 1.4 times the
	// network's spacing. All tiles run where the coarse pass misses one of them, and, without
	// a coarse pass, where that could not save what it costs: patches that are large against
	// the image. Ensembles and cascades refuse it.
	ROI []int

	// MaxMemory, unless 0, bounds the peak resident size of the process in bytes, as far
	// as it can be foreseen once the image is read. A call that would need more segments the
	// image in strips, one after the other: the labels are the same, but tiles over a border
	// run for both strips, so that the network takes up to about three times as long (Stats.Notes tell).
	// A call that would need more even so fails before the network runs, with the number needed.
	MaxMemory int64
	strips    int // tests ask for so many

	// Progress is nil or told the phase (read, preprocess, network, export, write)
	// and the fraction of the whole that is done; at most 20 times a second, never
	// by two goroutines at once.
	Progress func(phase string, fraction float64)
}

// Box is a half-open box of the image's voxels, x, y, z as stored: from Lo to before Hi.
type Box struct{ Lo, Hi [3]int }

// Stats is what a call cost.
type Stats struct {
	Seconds    Seconds `json:"seconds"`
	Tiles      int     `json:"tiles"` // that ran, those of a coarse pass included; those that ran for two strips count twice
	Skipped    int     `json:"tiles_skipped"`
	PeakMemory int64   `json:"peak_memory_bytes"` // peak resident size of the process
	Device     string  `json:"device"`
	Precision  string  `json:"precision"`
	Threads    int     `json:"threads"`
	Mode       string  `json:"mode"`
	Body       float64 `json:"body"` // fraction of the image that the body mask covers; 1 where none was made

	Notes []string `json:"notes"` // what the mode, box, region of interest or memory bound led to, in words

	Organs []Organ `json:"organs"` // what was found of each label that was looked for, in the model's order
}

// Organ is what there is of a label in an image.
type Organ = report.Organ

// Seconds is wall-clock time by phase. Network is the time inside the network;
// Export is everything from its logits to the label map. On a GPU the network runs beside
// the rest, so that the phases add up to more than Total.
type Seconds struct {
	Open       float64 `json:"open"` // of Open; not part of Total
	Read       float64 `json:"read"`
	Preprocess float64 `json:"preprocess"`
	Network    float64 `json:"network"`
	Export     float64 `json:"export"`
	Write      float64 `json:"write"`
	Total      float64 `json:"total"`
}

// Description is what a model says of itself.
type Description struct {
	Path          string    `json:"path"`
	Task          string    `json:"task"`
	Configuration string    `json:"configuration"`
	Network       string    `json:"network"`
	Parameters    int64     `json:"parameters"` // of one fold
	Heads         int       `json:"heads"`      // channels of the network's output
	Labels        []Label   `json:"labels"`     // in the order of dataset.json
	Channels      []string  `json:"channels"`
	Spacing       []float64 `json:"spacing_mm"` // z, y, x (transposed order where the plans transpose)
	PatchSize     []int     `json:"patch_size"` // likewise
	Folds         []string  `json:"folds"`
	MirrorAxes    []int     `json:"mirror_axes"`
	Normalization []string  `json:"normalization"`
	Orientation   string    `json:"orientation"` // "" as stored
	Device        string    `json:"device"`
	Precision     string    `json:"precision"`
	Threads       int       `json:"threads"`
	Notes         []string  `json:"notes"` // devices tried before this one, and why they do not run the model

	PreviousStage  string        `json:"previous_stage"`    // configuration whose labels a cascade's second stage needs, or ""
	Postprocessing bool          `json:"postprocessing"`    // the model stores what Options.Postprocess applies
	Combine        string        `json:"combine,omitempty"` // of a list: parts, ensemble or cascade
	Models         []Description `json:"models,omitempty"`  // of a list
}

// Label is a name and its number in the label map. For a region of several values
// it is the number that the region writes.
type Label struct {
	Name  string `json:"name"`
	Value int    `json:"value"`
}

// DeviceList is what Devices found.
type DeviceList struct {
	Runtime        string       `json:"runtime"` // file of the ONNX Runtime library
	RuntimeVersion string       `json:"runtime_version"`
	Devices        []DeviceInfo `json:"devices"`
}

// DeviceInfo is one device.
type DeviceInfo struct {
	Name        string `json:"name"` // as OpenOptions.Device takes it
	Description string `json:"description"`
	Available   bool   `json:"available"`
	Reason      string `json:"reason"` // why not
}

// ConvertOptions names the source of a bundle: Folder, or ONNX with Plans and
// Configuration.
type ConvertOptions struct {
	Folder        string // nnU-Net v2 results folder
	ONNX          string // exported network: input 1 x channels x patch, output 1 x heads x patch
	Plans         string // its plans.json
	Dataset       string // its dataset.json; "": labels are numbered
	Configuration string // of the plans; needed with ONNX
	Orientation   string // such as "LPS": the network expects volumes so oriented; "": as stored
	Folds         string // of Folder: "all" or "", or a list such as "0,1"
	Checkpoint    string // of Folder: "": checkpoint_final.pth
}
