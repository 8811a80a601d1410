package main

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/libflare/libflare/segment"
)

// manualCommand writes the program's manual page, made of the same texts as --help.
type manualCommand struct {
	Date string `arg:"" help:"Of the release, year-month-day."`
}

func (c *manualCommand) Run(ctx *kong.Context) error {
	return show([]byte(manual(ctx.Model.Node, c.Date)))
}

// manual is the page in the language of man(7).
func manual(program *kong.Node, date string) string {
	var b strings.Builder
	f := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	f(`.TH FLARE 1 "%s" "libflare %s" "User Commands"`, date, segment.Version)
	f(".SH NAME\nflare \\- nnU-Net on the command line: segments medical images and trains networks")
	f(".SH SYNOPSIS\n.B flare\n.I COMMAND\n.RI [ flags ]\n.I arguments")
	f(".SH DESCRIPTION\n%s", paragraphs(purpose))
	f(".SH OPTIONS\nEvery command takes these.")
	for _, flag := range program.Flags {
		manualFlag(f, flag)
	}
	f(".SH COMMANDS")
	for _, command := range program.Leaves(true) {
		manualCommandSection(f, command)
	}
	f(".SH EXIT STATUS\n%s", paragraphs(exitCodes))
	f(".SH ENVIRONMENT\n.TP\n.B FLARE_ONNXRUNTIME\nThe ONNX Runtime library, or the folder that holds it; used where there is none beside the program.")
	f(".SH EXAMPLES\n.nf")
	for _, line := range []string{"flare convert nnUNet_results/Dataset001/nnUNetTrainer__nnUNetPlans__3d_fullres abdomen.onnx",
		"flare info abdomen.onnx", "flare segment -m abdomen.onnx ct.nii.gz labels.nii.gz"} {
		f("%s", roff(line))
	}
	f(".fi")
	return b.String()
}

func manualCommandSection(f func(string, ...any), command *kong.Node) {
	usage := []string{"flare " + command.Name}
	for _, flag := range command.Flags {
		if flag.Required {
			usage = append(usage, flagNames(flag))
		}
	}
	usage = append(usage, "[flags]")
	for _, arg := range command.Positional {
		usage = append(usage, arg.Summary())
	}
	f(".SS %s", roff(strings.Join(usage, " ")))
	f("%s", paragraphs(command.Help))
	if command.Detail != "" {
		f(".PP\n%s", paragraphs(command.Detail))
	}
	for _, arg := range command.Positional {
		f(".TP\n.I %s\n%s", roff(arg.Name), paragraphs(arg.Help))
	}
	for _, flag := range command.Flags {
		manualFlag(f, flag)
	}
}

func manualFlag(f func(string, ...any), flag *kong.Flag) {
	f(".TP\n.B %s\n%s", roff(flagNames(flag)), paragraphs(flag.Help))
}

// flagNames is such as "-m, --model=MODEL".
func flagNames(flag *kong.Flag) string {
	names := "--" + flag.Name
	if !flag.IsBool() {
		names += "=" + flag.FormatPlaceHolder()
	}
	if flag.Short != 0 {
		names = fmt.Sprintf("-%c, %s", flag.Short, names)
	}
	return names
}

// paragraphs is help text, whose lines that begin with a space or a brace stand as they are.
func paragraphs(text string) string {
	var b strings.Builder
	fixed := false
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		if now := strings.HasPrefix(line, " ") || strings.HasPrefix(line, "{"); line != "" && now != fixed {
			fixed = now
			b.WriteString(map[bool]string{true: ".nf\n", false: ".fi\n"}[now])
		}
		if line == "" {
			b.WriteString(".PP\n")
			continue
		}
		b.WriteString(roff(line) + "\n")
	}
	if fixed {
		b.WriteString(".fi\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// roff escapes what man(7) would take for its own.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", "\\(ga", "^", `\(ha`, "~", `\(ti`).Replace(text)
	if strings.HasPrefix(text, ".") {
		text = `\&` + text
	}
	return text
}
