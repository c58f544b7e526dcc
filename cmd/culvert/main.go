package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"culvert/internal/gateway"
	"culvert/internal/operate/control"
)

// Exit codes, as the help lists them.
const (
	exitOK          = 0
	exitFailed      = 1 // the configuration has faults, or the command failed
	exitUsage       = 2
	exitEnvironment = 3 // a privilege is missing, or the TUN device or a port is not available
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// errReported is a failure whose text has been printed already.
var errReported = errors.New("already reported")

// session is the environment of a command.
type session struct {
	ctx            context.Context
	control        string // as given; empty: the default
	stdout, stderr io.Writer
	width          int           // of the terminal at stdout, in columns; 0: stdout is not a terminal
	every          time.Duration // the interval of --watch
}

func (s *session) client() *control.Client {
	if s.control == "" {
		return control.NewClient(control.DefaultPath)
	}
	return control.NewClient(s.control)
}

// helped is the panic value that replaces kong's os.Exit after it has printed help.
type helped struct{}

// newParser makes the parser of the command line. Completions and the manual page are made from
// its model.
func newParser(grammar *cli, stdout, stderr io.Writer) (*kong.Kong, error) {
	return kong.New(grammar,
		kong.Name("culvert"),
		kong.Description(description),
		kong.Writers(stdout, stderr),
		kong.Exit(func(int) { panic(helped{}) }),
		kong.Vars{"control_default": control.DefaultPath},
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoAppDescFormat: true, FlagsLast: true, WrapUpperBound: 100}),
		kong.ExplicitGroups(groups),
	)
}

// run parses the arguments, runs the command and returns the exit code.
func run(arguments []string, stdout, stderr io.Writer) (code int) {
	s := &session{ctx: context.Background(), stdout: stdout, stderr: stderr, width: terminalWidth(stdout), every: watchEvery}
	return s.run(arguments)
}

func (s *session) run(arguments []string) (code int) {
	stdout, stderr := s.stdout, s.stderr
	var grammar cli
	parser, err := newParser(&grammar, stdout, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "culvert:", err)
		return exitFailed
	}
	defer func() {
		switch p := recover().(type) {
		case nil:
		case helped:
			code = exitOK
		default:
			panic(p)
		}
	}()
	if len(arguments) == 0 {
		fmt.Fprintln(stderr, firstWords)
		return exitUsage
	}
	parsed, err := parser.Parse(arguments)
	if err != nil {
		fmt.Fprintf(stderr, "culvert: %v\n%s\n", err, hint(err, arguments))
		return exitUsage
	}
	s.control = grammar.Control
	err = parsed.Run(s)
	if err != nil && !errors.Is(err, errReported) {
		fmt.Fprintln(stderr, "culvert:", err)
	}
	return exitCode(err)
}

// elsewhere maps command names of other tools to ours.
var elsewhere = map[string]string{
	"--version": "version",
	"help":      "--help",
	"status":    "active-peers print",
	"stats":     "statistics print",
	"up":        "run --help",
	"start":     "run --help",
	"down":      "active-peers kill-connections --help",
}

// hint names the help page that fits best to arguments that could not be parsed.
func hint(err error, arguments []string) string {
	if other, ok := elsewhere[arguments[0]]; ok {
		return "see: culvert " + other
	}
	var parse *kong.ParseError
	if errors.As(err, &parse) && parse.Context != nil {
		if node := parse.Context.Selected(); node != nil {
			return "see: " + node.FullPath() + " --help"
		}
	}
	return "see: culvert --help"
}

func exitCode(err error) int {
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, gateway.ErrEnvironment), errors.Is(err, control.ErrPermission),
		errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EADDRINUSE):
		return exitEnvironment
	}
	return exitFailed
}
