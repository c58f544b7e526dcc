package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

type manCmd struct{}

func (manCmd) Help() string {
	return `Prints the manual page in troff. It is made from the help texts. make install installs it.

Example:

    culvert man | man -l -`
}

func (manCmd) Run(s *session) error {
	parser, err := newParser(&cli{}, io.Discard, io.Discard)
	if err != nil {
		return err
	}
	_, err = io.WriteString(s.stdout, manPage(parser.Model))
	return err
}

// manPage is culvert(8) in the man(7) format.
func manPage(app *kong.Application) string {
	var b strings.Builder
	b.WriteString(".TH CULVERT 8\n.SH NAME\nculvert \\- IPsec gateway in one binary\n")
	b.WriteString(".SH SYNOPSIS\n.B culvert\n.I COMMAND\n.RI [ FLAGS ]\n.SH DESCRIPTION\n")
	manText(&b, app.Help)
	b.WriteString(".SH COMMANDS\n")
	for _, leaf := range app.Leaves(true) {
		fmt.Fprintf(&b, ".SS \"%s\"\n", manEscape(leaf.Summary()))
		manText(&b, leaf.Help)
		if leaf.Detail != "" {
			b.WriteString(".PP\n")
			manText(&b, leaf.Detail)
		}
		manFlags(&b, leaf.Flags)
	}
	b.WriteString(".SH OPTIONS\nThese options work with every command.\n")
	manFlags(&b, app.Flags)
	b.WriteString(".SH SEE ALSO\n.BR ip-rule (8),\n.BR nft (8)\n")
	return b.String()
}

func manFlags(b *strings.Builder, flags []*kong.Flag) {
	for _, f := range flags {
		if f.Hidden {
			continue
		}
		name := "--" + f.Name
		if f.Short != 0 {
			name = "-" + string(f.Short) + ", " + name
		}
		if !f.IsBool() {
			name += "=" + f.FormatPlaceHolder()
		}
		fmt.Fprintf(b, ".TP\n.B \"%s\"\n", manEscape(name))
		manText(b, f.Help)
	}
}

// manText writes paragraphs. Indented lines are examples and are not filled.
func manText(b *strings.Builder, text string) {
	example := false
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		indented := strings.HasPrefix(line, "  ")
		switch {
		case line == "" && !example:
			b.WriteString(".PP\n")
		case indented && !example:
			b.WriteString(".PP\n.nf\n")
			example = true
		case !indented && example && line != "":
			b.WriteString(".fi\n.PP\n")
			example = false
		}
		if line != "" {
			b.WriteString(manEscape(line) + "\n")
		}
	}
	if example {
		b.WriteString(".fi\n")
	}
}

// manEscape escapes what troff would read as a request, and hyphens.
func manEscape(line string) string {
	line = strings.NewReplacer(`\`, `\e`, "-", `\-`, `"`, `\(dq`).Replace(line)
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		line = `\&` + line
	}
	return line
}
