package main

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/libflare/libflare/segment"
)

// completionCommand writes what makes a shell complete commands, flags and their values;
// everything else is completed as the name of a file.
type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"${enum}"`
}

func (c *completionCommand) Run(ctx *kong.Context) error {
	script, ok := map[string]func(*kong.Node) string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}[c.Shell]
	if !ok {
		return segment.Errorf(segment.ErrArgument, "no completion for the shell %q", c.Shell)
	}
	return show([]byte(script(ctx.Model.Node)))
}

// flagsOf lists the flags that may stand after a command.
func flagsOf(command *kong.Node) []*kong.Flag {
	var flags []*kong.Flag
	for _, group := range command.AllFlags(true) {
		flags = append(flags, group...)
	}
	return flags
}

// words is what a flag is called on a command line.
func words(flag *kong.Flag) []string {
	if flag.Short != 0 {
		return []string{"--" + flag.Name, "-" + string(flag.Short)}
	}
	return []string{"--" + flag.Name}
}

func bashCompletion(program *kong.Node) string {
	var names, flags, values strings.Builder
	for _, command := range program.Leaves(true) {
		fmt.Fprintf(&names, " %s", command.Name)
		fmt.Fprintf(&flags, "    %s) words='", command.Name)
		for _, flag := range flagsOf(command) {
			fmt.Fprintf(&flags, " --%s", flag.Name)
			if flag.Enum != "" {
				var cases []string
				for _, word := range words(flag) {
					cases = append(cases, command.Name+" "+word)
				}
				fmt.Fprintf(&values, "    '%s') values='%s' ;;\n", strings.Join(cases, "' | '"), strings.Join(flag.EnumSlice(), " "))
			}
		}
		flags.WriteString("' ;;\n")
	}
	var global []string
	for _, flag := range program.Flags {
		global = append(global, "--"+flag.Name)
	}
	return fmt.Sprintf(`# bash completion for flare
_flare() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= values= words= i
    # A flag and its value are three words where "=" stands between them.
    [[ $cur == = ]] && cur= && prev=${COMP_WORDS[COMP_CWORD-1]}
    [[ $prev == = ]] && prev=${COMP_WORDS[COMP_CWORD-2]}
    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in %s) command=${COMP_WORDS[i]}; break ;; esac
    done
    case "$command $prev" in
%s    esac
    case $command in
    '') words='%s' ;;
%s    esac
    COMPREPLY=()
    if [[ $values ]]; then
        COMPREPLY=($(compgen -W "$values" -- "$cur"))
    elif [[ $cur == -* || -z $command ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
    fi
}
complete -o default -F _flare flare
`, strings.ReplaceAll(strings.TrimSpace(names.String()), " ", " | "), values.String(),
		strings.TrimSpace(names.String()+" "+strings.Join(global, " ")), flags.String())
}

func zshCompletion(program *kong.Node) string {
	quote := strings.NewReplacer("'", "", "[", "(", "]", ")", ":", `\:`)
	var b strings.Builder
	f := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	f("#compdef flare\n_flare() {\n    local line state\n    local -a commands=(")
	for _, command := range program.Leaves(true) {
		f("        '%s:%s'", command.Name, quote.Replace(summary(command.Help)))
	}
	f("    )\n    _arguments -C '(-)--help[Show help.]' '(-)--version[Print the version.]' '1:command:->command' '*::argument:->argument'")
	f("    case $state in\n    command) _describe command commands ;;\n    argument)\n        case $line[1] in")
	for _, command := range program.Leaves(true) {
		f("        %s)\n            _arguments \\", command.Name)
		for _, flag := range flagsOf(command) {
			for _, word := range words(flag) {
				value := ""
				switch {
				case flag.Enum != "":
					value = ":value:(" + strings.ReplaceAll(strings.Join(flag.EnumSlice(), " "), ":", `\:`) + ")"
				case !flag.IsBool():
					value = ":" + quote.Replace(strings.Trim(flag.FormatPlaceHolder(), `"`)) + ":_files"
				}
				if value != "" && len(word) > 2 {
					word += "="
				}
				f("                '%s[%s]%s' \\", word, quote.Replace(summary(flag.Help)), value)
			}
		}
		f("                '*:file:_files'\n            ;;")
	}
	f("        esac\n        ;;\n    esac\n}\n_flare \"$@\"")
	return b.String()
}

func fishCompletion(program *kong.Node) string {
	quote := strings.NewReplacer(`\`, `\\`, "'", `\'`)
	var b strings.Builder
	for _, command := range program.Leaves(true) {
		fmt.Fprintf(&b, "complete -c flare -n __fish_use_subcommand -f -a %s -d '%s'\n", command.Name, quote.Replace(summary(command.Help)))
		for _, flag := range flagsOf(command) {
			fmt.Fprintf(&b, "complete -c flare -n '__fish_seen_subcommand_from %s' -l %s", command.Name, flag.Name)
			if flag.Short != 0 {
				fmt.Fprintf(&b, " -s %c", flag.Short)
			}
			switch {
			case flag.Enum != "":
				fmt.Fprintf(&b, " -x -a '%s'", strings.Join(flag.EnumSlice(), " "))
			case !flag.IsBool():
				b.WriteString(" -r")
			}
			fmt.Fprintf(&b, " -d '%s'\n", quote.Replace(summary(flag.Help)))
		}
	}
	return b.String()
}

// summary is the first sentence of a help text, without its full stop.
func summary(help string) string {
	first, _, _ := strings.Cut(help, ". ")
	return strings.TrimSuffix(strings.Join(strings.Fields(first), " "), ".")
}
