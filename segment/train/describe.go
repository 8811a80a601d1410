package train

// Description says what a trainer is. Its JSON is what flare_trainer_describe gives.
type Description struct {
	Configuration string           `json:"configuration"`
	Fold          string           `json:"fold"`
	Network       string           `json:"network"`
	Batch         int              `json:"batch"`
	Channels      int              `json:"channels"`
	PatchSize     []int            `json:"patch_size"` // of the network's axes: z,y,x, or y,x
	Heads         int              `json:"heads"`
	Labels        []DescribedLabel `json:"labels"` // in the order of heads, where there are no regions
	IgnoreLabel   int              `json:"ignore_label"`
	Device        string           `json:"device"`
	Precision     string           `json:"precision"`
	Notes         []string         `json:"notes"`
	Settings      Settings         `json:"settings"`
	Numbers       int              `json:"numbers"` // in each of the buffers: parameters with what lies between them
	Parameters    []DescribedArray `json:"parameters"`
}

// DescribedLabel is a label or region of dataset.json.
type DescribedLabel struct {
	Name   string `json:"name"`
	Values []int  `json:"values"`
}

// DescribedArray is a tensor's place in the buffers.
type DescribedArray struct {
	Name   string `json:"name"` // of nnU-Net's state dict
	Shape  []int  `json:"shape"`
	Offset int    `json:"offset"` // numbers before it
}

// Describe describes the trainer; it does not change.
func (t *Trainer) Describe() Description {
	d := Description{Configuration: t.Configuration, Fold: t.Fold, Network: t.architecture.Class, Batch: t.Step.Batch, Channels: t.Step.Channels,
		PatchSize: t.Step.Patch, Heads: t.Step.Heads, IgnoreLabel: t.Dataset.IgnoreLabel, Device: t.Step.Device, Precision: t.Step.Precision,
		Notes: append([]string{}, t.Step.Notes...), Settings: t.Settings, Numbers: len(t.Step.Parameters.Values)}
	for _, l := range t.Dataset.Labels {
		d.Labels = append(d.Labels, DescribedLabel{l.Name, l.Values})
	}
	at := 0
	for _, p := range t.Step.Parameters.Tensors {
		d.Parameters = append(d.Parameters, DescribedArray{p.Name, p.Shape, at})
		at += aligned(len(p.Data))
	}
	return d
}
