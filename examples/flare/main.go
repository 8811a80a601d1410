// Command flare segments medical images with nnU-Net models, and trains them. It is a thin program
// over package segment: everything it does, a Go program can do with a few calls.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/libflare/libflare/segment"
)

// started is as near to the start of the process as Go code comes: statistics
// count from here.
var started = time.Now()

const purpose = `Segments medical images with nnU-Net models. Research software, not a medical device.`

const exitCodes = `0 success, 2 wrong usage, 4 file not found, 5 reading or writing failed, 6 malformed file, 7 not supported, 8 model and image do not fit, 9 out of memory, 10 no such device, 11 ONNX Runtime missing or failing, 12 cancelled, 1 anything else.`

type commands struct {
	Verbose bool             `short:"v" help:"Log to standard error."`
	Version kong.VersionFlag `help:"Print the version and exit."`

	Segment     segmentCommand     `cmd:"" help:"Segment an image, or every image of a folder."`
	Convert     convertCommand     `cmd:"" help:"Turn an nnU-Net results folder, or an exported network, into one bundle."`
	Info        infoCommand        `cmd:"" help:"Describe a model."`
	Plan        planCommand        `cmd:"" help:"Plan the training of networks from labelled images."`
	Preprocess  preprocessCommand  `cmd:"" help:"Prepare a dataset's cases for training."`
	Train       trainCommand       `cmd:"" help:"Train a network."`
	PseudoLabel pseudoLabelCommand `cmd:"" help:"Label images with a teacher, and score how far it can be trusted."`
	Student     studentCommand     `cmd:"" help:"Train a small network with a teacher's help: labelled and unlabelled images in, one bundle out."`
	Export      exportCommand      `cmd:"" help:"Make a bundle, or a results folder for nnU-Net, of a training."`
	Evaluate    evaluateCommand    `cmd:"" help:"Compare label files with references: DSC, NSD, surface distances, volumes."`
	Efficiency  efficiencyCommand  `cmd:"" help:"Run a command and measure time, CPU, RAM and GPU memory by the rules of the FLARE challenges."`
	Devices     devicesCommand     `cmd:"" help:"List the devices that networks can run on."`
	Phantom     phantomCommand     `cmd:"" help:"Make synthetic abdominal CTs with their labels."`

	// For packages, which carry what these write.
	Manual     manualCommand     `cmd:"" hidden:"" help:"Write the manual page."`
	Completion completionCommand `cmd:"" hidden:"" help:"Write the completion of commands and flags for a shell."`
}

func main() {
	os.Exit(run(os.Args[1:]))
}

// run returns the exit code.
func run(args []string) int {
	var c commands
	parser := kong.Must(&c, kong.Name("flare"), kong.Description(purpose+"\n\nExit codes: "+exitCodes),
		kong.Vars{"version": "flare " + segment.Version},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}))
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "flare: %v (flare --help, or flare COMMAND --help, tells more)\n", err)
		return int(segment.ErrArgument)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once

	out := newDisplay()
	segment.SetLog(func(level int, message string) {
		if c.Verbose || level == segment.LogWarning { // errors come back as such; warnings must be seen
			out.line("%s", message)
		}
	})
	command.BindTo(ctx, (*context.Context)(nil))
	if err := command.Run(out); err != nil {
		out.line("%v", err)
		return int(segment.KindOf(err))
	}
	return 0
}

// given refuses arguments that are empty; named holds the name and value of each.
func given(named ...string) error {
	for i := 0; i < len(named); i += 2 {
		if named[i+1] == "" {
			return segment.Errorf(segment.ErrArgument, "%s is empty, expected a path", named[i])
		}
	}
	return nil
}

// show writes to standard output.
func show(text []byte) error {
	if _, err := os.Stdout.Write(text); err != nil {
		return segment.Errorf(segment.ErrIO, "standard output: %w", err)
	}
	return nil
}
