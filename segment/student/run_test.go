package student

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/libflare/libflare/segment/evaluate"
	"github.com/libflare/libflare/segment/internal/cmem"
	"github.com/libflare/libflare/segment/internal/fault"
	"github.com/libflare/libflare/segment/internal/testenv"
	"github.com/libflare/libflare/segment/nnunet"
)

// toyConfig is a whole small run: two folds, two rounds, fine-tuning, comparison.
func toyConfig(t testing.TB) Config {
	t.Helper()
	dir := t.TempDir()
	c := Default()
	c.Labelled, c.Unlabelled = toyFolder(t, 0, 6), filepath.Join(toyFolder(t, 10, 4), "imagesTr")
	test := toyFolder(t, 20, 2)
	c.Test = &Test{Images: filepath.Join(test, "imagesTr"), Labels: filepath.Join(test, "labelsTr")}
	c.Run = filepath.Join(dir, "run")
	c.Teacher.Plans = filepath.Join(dir, "plans.json")
	require.NoError(t, os.WriteFile(c.Teacher.Plans, toyPlans(t, []int{4, 8}), 0o666))
	c.Teacher.Folds = []string{"0", "1"}
	short := c.Teacher.Training
	short.Epochs, short.Iterations, short.ValidationIterations = 2, 5, 1
	c.Teacher.Training = short
	short.Strong, short.NoMirroring, short.Dropout = true, true, 0.1
	c.Student.Training = short
	short.Epochs, short.LearningRate = 1, 0.001
	c.FineTuning, c.Supervised = &short, &short
	c.Rounds, c.Device, c.Threads, c.Workers = 2, "ort", 2, 2
	return c
}

func runOptions(t testing.TB) RunOptions { return RunOptions{Runtime: testenv.Runtime(t)} }

// stagesDone runs and returns the result and the names of the stages that were worked on.
func stagesDone(t testing.TB, c Config) (*Results, []string) {
	t.Helper()
	o := runOptions(t)
	var done []string
	o.Log = func(line string) {
		if name, ok := strings.CutSuffix(line, ": begins"); ok {
			done = append(done, name)
		}
	}
	r, err := Run(t.Context(), c, o)
	require.NoError(t, err)
	return r, done
}

func bundleOf(t testing.TB, c Config) string {
	t.Helper()
	sum, err := fileDigest(filepath.Join(c.Run, "student.onnx"))
	require.NoError(t, err)
	return sum
}

// TestRun: a run leaves the record that Run's comment lists; called again it does nothing; a
// change of the config does again exactly what depends on it; another run of the same config
// has the same bundle.
func TestRun(t *testing.T) {
	live := cmem.Live()
	c := toyConfig(t)
	results, done := stagesDone(t, c)
	assert.Equal(t, live, cmem.Live())
	for _, file := range []string{"config.json", "RESULTS.md", "RESULTS.json", "student.onnx", "teacher/teacher.onnx", "teacher/fold_1/progress.png",
		"round_1/labels/case_10.json", "round_1/selection.json", "round_1/dataset/dataset.json", "round_2/student/progress.csv", "round_2/fine_tuned/model.onnx", "supervised/model.onnx",
		"comparison/fine_tuned_round_2/case_20.nii.gz"} {
		assert.FileExists(t, filepath.Join(c.Run, file))
	}
	require.Len(t, results.Models, 6)
	assert.Equal(t, []int{16, 1, 1, 1, 1, 1}, passes(results))
	for _, m := range results.Models {
		assert.Len(t, m.Cases, 2)
		assert.Len(t, m.Dice, 2)
		for _, k := range m.Cases {
			assert.Positive(t, k.Seconds)
		}
		// The mean of two cases' bootstrap lies between theirs.
		assert.Equal(t, [2]float64{min(mean(m.Cases[0].NSD), mean(m.Cases[1].NSD)), max(mean(m.Cases[0].NSD), mean(m.Cases[1].NSD))}, m.NSDInterval)
		assert.InDelta(t, (m.NSDInterval[0]+m.NSDInterval[1])/2, m.MeanNSD, 1e-12)
	}
	own, err := evaluate.Files(t.Context(), filepath.Join(c.Run, "comparison", "supervised"), c.Test.Labels, evaluate.Options{})
	require.NoError(t, err)
	for i, m := range results.Models[5].Cases {
		for k, s := range own.Cases[i].Scores { // the network finds both
			assert.Equal(t, []float64{float64(s.DSC), float64(s.NSD)}, []float64{m.Dice[k], m.NSD[k]})
		}
	}
	assert.Equal(t, results.Models[4].Cases[0].Dice[0], diceOf(t, c, "fine_tuned_round_2", 1))
	table, err := os.ReadFile(filepath.Join(c.Run, "RESULTS.md"))
	require.NoError(t, err)
	assert.Contains(t, string(table), "| fine-tuned, round 2 | 1 |")
	assert.Contains(t, string(table), "NSD (1 mm)")
	assert.Contains(t, string(table), fmt.Sprintf("| dark | %.4f / %.4f |", results.Models[0].Dice[1], results.Models[0].NSD[1]))
	first := bundleOf(t, c)

	again, nothing := stagesDone(t, c)
	assert.Empty(t, nothing)
	assert.Equal(t, results, again)

	// Each change, and what it must lead to.
	second := []string{"round_2_labels", "round_2_selection", "round_2_cache", "round_2_student", "round_2_fine_tuning", "result",
		"compare_student_round_2", "compare_fine_tuned_round_2", "score_student_round_2", "score_fine_tuned_round_2"}
	changed := c
	changed.Test = &Test{Images: c.Test.Images, Labels: c.Test.Labels, Tolerance: 2}
	wider, done := stagesDone(t, changed)
	assert.ElementsMatch(t, []string{"score_teacher", "score_student_round_1", "score_fine_tuned_round_1", "score_student_round_2", "score_fine_tuned_round_2",
		"score_supervised"}, done)
	assert.Equal(t, 2.0, wider.Tolerance)
	assert.Equal(t, results.Models[5].Dice, wider.Models[5].Dice)
	assert.Equal(t, results.Models[5].Seconds, wider.Models[5].Seconds)
	assert.Greater(t, wider.Models[5].MeanNSD, results.Models[5].MeanNSD)
	settings := *c.Supervised
	settings.Seed = 5
	changed.Supervised = &settings
	_, done = stagesDone(t, changed)
	assert.ElementsMatch(t, []string{"supervised", "compare_supervised", "score_supervised"}, done)
	changed.Selection.FoldAgreement = 0.0001 // which changes no decision
	_, done = stagesDone(t, changed)
	assert.ElementsMatch(t, []string{"round_1_selection", "round_2_selection"}, done)
	changed.Student.Training.Dropout = 0.2
	_, done = stagesDone(t, changed)
	assert.ElementsMatch(t, append([]string{"round_1_student", "round_1_fine_tuning", "compare_student_round_1", "compare_fine_tuned_round_1",
		"score_student_round_1", "score_fine_tuned_round_1"}, second...), done)
	assert.NotEqual(t, first, bundleOf(t, c))
	changed.Rounds = 1
	_, done = stagesDone(t, changed)
	assert.ElementsMatch(t, []string{"result"}, done)

	other := c
	other.Run = filepath.Join(t.TempDir(), "other")
	_, done = stagesDone(t, other)
	assert.Len(t, done, 29)
	assert.Equal(t, first, bundleOf(t, other))
}

func passes(r *Results) (out []int) {
	for _, m := range r.Models {
		out = append(out, m.Passes)
	}
	return out
}

// diceOf is the plain reference for the first test case.
func diceOf(t testing.TB, c Config, model string, label uint8) float64 {
	t.Helper()
	d, _ := overlap(read(t, filepath.Join(c.Run, "comparison", model, "case_20.nii.gz")), read(t, filepath.Join(c.Test.Labels, "case_20.nii.gz")), label)
	return d
}

// TestRunWeights: the student learns by the weights that the teacher's folds give the voxels of
// its labels, and nothing else changes.
func TestRunWeights(t *testing.T) {
	c := toyConfig(t)
	c.Teacher.Models = []string{randomBundle(t, plainDataset, []int{4, 8}, 1), randomBundle(t, plainDataset, []int{4, 8}, 2)}
	c.Rounds, c.FineTuning, c.Supervised, c.Test = 1, nil, nil, nil
	stagesDone(t, c)
	before := bundleOf(t, c)
	weights := func() (found []string) {
		d, err := nnunet.OpenRawDataset(filepath.Join(c.Run, "round_1", "dataset"))
		require.NoError(t, err)
		require.Len(t, d.Cases, 10)
		for _, k := range d.Cases {
			if k.Weight != "" {
				found = append(found, k.Weight)
			}
		}
		return found
	}
	assert.Empty(t, weights())
	labels := read(t, filepath.Join(c.Run, "round_1", "labels", "case_10.nii.gz"))
	c.PseudoLabels.Weights = true
	_, done := stagesDone(t, c)
	assert.Equal(t, []string{"round_1_labels", "round_1_selection", "round_1_student", "round_1_cache", "result"}, done)
	assert.Equal(t, labels, read(t, filepath.Join(c.Run, "round_1", "labels", "case_10.nii.gz")))
	assert.NotEqual(t, before, bundleOf(t, c))
	found := weights()
	assert.Len(t, found, 4, "manual labels weigh 1")
	assert.Contains(t, string(read(t, found[0])), "\x80")
}

// TestRunCancelled: a run that is cancelled in every stage ends with the bundle of one that
// is not.
func TestRunCancelled(t *testing.T) {
	c := toyConfig(t)
	c.Rounds, c.Supervised = 1, nil
	stagesDone(t, c)
	want := bundleOf(t, c)
	c.Run = filepath.Join(t.TempDir(), "run")
	seen := map[string]bool{}
	for stops := 0; ; stops++ {
		ctx, stop := context.WithCancel(t.Context())
		o := runOptions(t)
		o.Progress = func(stage, _ string, _ float64) {
			if !seen[stage] {
				seen[stage] = true
				stop()
			}
		}
		_, err := Run(ctx, c, o)
		stop()
		if err == nil {
			assert.Greater(t, stops, 5)
			break
		}
		require.Equal(t, fault.Cancelled, fault.KindOf(err), "%v", err)
	}
	assert.Equal(t, want, bundleOf(t, c))
}

// TestRunOnAFullDisk: a disk that fills when a stage begins ends the run with an error of kind
// IO; with room again it goes on to the bundle of a run that always had some.
func TestRunOnAFullDisk(t *testing.T) {
	if !testenv.OwnProcess(t) {
		return
	}
	c := toyConfig(t)
	c.Rounds, c.Supervised = 1, nil
	_, stages := stagesDone(t, c)
	want := bundleOf(t, c)
	c.Run = filepath.Join(t.TempDir(), "run")
	for _, stage := range stages {
		var full sync.WaitGroup
		room := make(chan struct{})
		o := runOptions(t)
		o.Log = func(line string) {
			if line == stage+": begins" {
				began := make(chan struct{})
				full.Go(func() { testenv.FullDisk(t, 100, func() { close(began); <-room }) })
				<-began
			}
		}
		_, err := Run(t.Context(), c, o)
		close(room)
		full.Wait()
		require.Equal(t, fault.IO, fault.KindOf(err), "%s: %v", stage, err)
	}
	stagesDone(t, c)
	assert.Equal(t, want, bundleOf(t, c))
}

// killed is the environment variable by which the test's own binary is a run to be killed:
// its value is a file with the config.
const killed = "FLARE_STUDENT_RUN"

func TestMain(m *testing.M) {
	if path := os.Getenv(killed); path != "" {
		text, err := os.ReadFile(path)
		c := Config{}
		if err == nil {
			err = json.Unmarshal(text, &c)
		}
		if err == nil {
			_, err = Run(context.Background(), c, RunOptions{Runtime: os.Getenv("FLARE_ONNXRUNTIME")})
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestRunKilled kills runs (SIGKILL) at random moments of what is left of them, lets them go
// on, and compares the bundles in the end. FLARE_KILLS sets how many times; 3 by default, some
// ten seconds.
func TestRunKilled(t *testing.T) {
	kills := 3
	if n, err := strconv.Atoi(os.Getenv("FLARE_KILLS")); err == nil {
		kills = n
	}
	c := toyConfig(t)
	t.Setenv("FLARE_ONNXRUNTIME", testenv.Runtime(t))
	run := func(folder string, kill time.Duration) (time.Duration, bool) {
		c.Run = folder
		file := filepath.Join(t.TempDir(), "config.json")
		require.NoError(t, os.WriteFile(file, marshal(c), 0o666))
		command := exec.Command(os.Args[0])
		command.Env = append(os.Environ(), killed+"="+file)
		output := &strings.Builder{}
		command.Stderr = output
		start := time.Now()
		require.NoError(t, command.Start())
		if kill > 0 {
			timer := time.AfterFunc(kill, func() { _ = command.Process.Kill() })
			defer timer.Stop()
		}
		err := command.Wait()
		status, _ := command.ProcessState.Sys().(syscall.WaitStatus)
		if status.Signaled() && kill > 0 {
			return time.Since(start), false
		}
		require.NoError(t, err, output.String())
		return time.Since(start), true
	}
	whole, _ := run(filepath.Join(t.TempDir(), "whole"), 0)
	want := bundleOf(t, c)
	random := rand.New(rand.NewPCG(1, 2))
	folder, runs := "", 0
	for left := kills; left > 0 || folder != ""; {
		if folder == "" {
			folder = filepath.Join(t.TempDir(), "run")
			runs++
		}
		moment := time.Duration(0)
		if left > 0 {
			moment = time.Duration(random.Float64() * float64(whole))
		}
		if _, done := run(folder, moment); done {
			assert.Equal(t, want, bundleOf(t, c))
			folder = ""
		} else {
			left--
		}
	}
	t.Logf("%d kills in %d runs of %v", kills, runs, whole)
}
