package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// A completion script gets the candidates from the binary (`culvert complete`), so it always
// fits the commands.
var completions = map[string]string{
	"bash": `_culvert() {
	local IFS=$'\n' candidates
	candidates=$(culvert complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f 1)
	COMPREPLY=($candidates)
}
complete -o default -F _culvert culvert
`,
	"zsh": `#compdef culvert
_culvert() {
	local -a lines words_ texts
	lines=("${(@f)$(culvert complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	if [[ -z "${lines[1]}" ]]; then
		_files
		return
	fi
	words_=("${(@)lines%%$'\t'*}")
	texts=("${(@)lines/$'\t'/  }")
	compadd -l -d texts -a words_
}
if [[ "${funcstack[1]}" == _culvert ]]; then _culvert "$@"; else compdef _culvert culvert; fi
`,
	"fish": `function __culvert_complete
	set -l words (commandline -opc)
	culvert complete -- $words[2..-1] (commandline -ct) 2>/dev/null
end
complete -c culvert -a '(__culvert_complete)'
`,
}

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"The shell: bash, zsh or fish."`
}

func (completionCmd) Help() string {
	return `Prints a script with which the Tab key completes commands, flags and values. make install installs it.

Example:

    source <(culvert completion bash)
    culvert completion zsh > /usr/local/share/zsh/site-functions/_culvert
    culvert completion fish > ~/.config/fish/completions/culvert.fish`
}

func (c *completionCmd) Run(s *session) error {
	_, err := io.WriteString(s.stdout, completions[c.Shell])
	return err
}

type completeCmd struct {
	Words []string `arg:"" optional:""`
}

func (completeCmd) Help() string {
	return `The completion scripts run this with the words after "culvert", of which the last is incomplete. It prints one candidate on each line, followed by a tab and a description.

Example:

    culvert complete -- policy pr`
}

func (c *completeCmd) Run(s *session) error {
	parser, err := newParser(&cli{}, io.Discard, io.Discard)
	if err != nil {
		return err
	}
	words := c.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	for _, cand := range candidates(parser.Model, words) {
		fmt.Fprintf(s.stdout, "%s\t%s\n", cand.word, cand.text)
	}
	return nil
}

// candidate is a possible word at the cursor.
type candidate struct{ word, text string }

// candidates are the words that can replace the last one. There are none for values that only
// the user knows, such as file names.
func candidates(app *kong.Application, words []string) (list []candidate) {
	if len(words) == 0 {
		words = []string{""}
	}
	node, flags := app.Node, app.Node.Flags
	done, last := words[:len(words)-1], words[len(words)-1]
	var awaits *kong.Flag // the flag whose value comes next
	positional := 0
	for _, w := range done {
		switch {
		case awaits != nil:
			awaits = nil
		case strings.HasPrefix(w, "-"):
			if f := findFlag(flags, w); f != nil && !f.IsBool() && !strings.Contains(w, "=") {
				awaits = f
			}
		default:
			child := findChild(node, w)
			if child == nil {
				positional++
				continue
			}
			node, flags = child, append(flags[:len(flags):len(flags)], child.Flags...)
		}
	}
	add := func(word, text string) {
		if strings.HasPrefix(word, last) {
			list = append(list, candidate{word, text})
		}
	}
	if name, _, ok := strings.Cut(last, "="); ok && strings.HasPrefix(last, "--") && awaits == nil {
		if f := findFlag(flags, name); f != nil {
			for _, v := range enum(f.Value) {
				add(name+"="+v, f.Help)
			}
		}
		return list
	}
	if awaits != nil {
		for _, v := range enum(awaits.Value) {
			add(v, awaits.Help)
		}
		return list
	}
	for _, child := range node.Children {
		if !child.Hidden {
			add(child.Name, child.Help)
		}
	}
	if positional < len(node.Positional) {
		for _, v := range enum(node.Positional[positional]) {
			add(v, node.Positional[positional].Help)
		}
	}
	if strings.HasPrefix(last, "-") {
		for _, f := range flags {
			if !f.Hidden {
				add("--"+f.Name, f.Help)
			}
		}
	}
	return list
}

func findChild(n *kong.Node, name string) *kong.Node {
	for _, child := range n.Children {
		if child.Name == name {
			return child
		}
	}
	return nil
}

// findFlag finds the flag that a word begins with: "--name", "--name=value", "-n".
func findFlag(flags []*kong.Flag, word string) *kong.Flag {
	word, _, _ = strings.Cut(word, "=")
	for _, f := range flags {
		if word == "--"+f.Name || f.Short != 0 && word == "-"+string(f.Short) {
			return f
		}
	}
	return nil
}

// enum is the possible values, if they are a list.
func enum(v *kong.Value) (list []string) {
	if v.Enum == "" {
		return nil
	}
	for _, e := range v.EnumSlice() {
		if e != "" {
			list = append(list, e)
		}
	}
	return list
}
