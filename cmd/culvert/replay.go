package main

import (
	"errors"
	"fmt"
	"time"

	"culvert/config"
	"culvert/internal/gateway"
)

type replayCmd struct {
	Dir  string `arg:"" placeholder:"DIR" help:"Folder of the recording, or the file."`
	List bool   `help:"Print what comes in and goes out, one line each."`

	Config string `short:"c" placeholder:"FILE" help:"Play with this configuration instead of the recorded ones."`
}

func (replayCmd) Help() string {
	return `Plays what run --record kept: a new IKE endpoint gets the same seed and the same inputs at the same times, and what it puts out is compared with what was put out then, to the byte. Nothing is sent and no gateway is touched. The exit code is 0 if all is the same, and 1 if an output differs: then the first one is printed with the input that led to it. After a change of the program that is what to expect; with the same build the recording was changed. --list prints inputs, messages in clear and outputs, without secrets.

A recording made with --redact has no keys. It plays too, and what is compared is decisions: each message that is sent with its payloads, algorithms, selectors and notifies, each event, each SA that is installed or removed. With --config it plays with another configuration, and the first decision that this would have changed is printed.

Example:

    culvert replay /var/tmp/incident
    culvert replay --list /var/tmp/incident | grep 'Event no-proposal'
    culvert replay --config new.toml /var/tmp/incident`
}

func (c *replayCmd) Run(s *session) error {
	show := func(at time.Time, text string) { fmt.Fprintln(s.stdout, at.Format("15:04:05.000000"), text) }
	if !c.List {
		show = nil
	}
	r, err := gateway.Replay(c.Dir, c.Config, show)
	var faults config.Faults
	if errors.As(err, &faults) {
		fmt.Fprintln(s.stderr, faults)
		return errReported
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(s.stdout, "recorded from %s by %s\n", r.Start.Format(time.RFC3339), r.Build)
	if d := r.Difference; d != nil {
		fmt.Fprintln(s.stdout, "different:", d)
		return errReported
	}
	if r.Redacted {
		fmt.Fprintf(s.stdout, "the same, without secrets: %d inputs, %d decisions\n", r.Inputs, r.Outputs)
	} else {
		fmt.Fprintf(s.stdout, "the same: %d inputs, %d outputs\n", r.Inputs, r.Outputs)
	}
	switch r.Ended {
	case "":
		fmt.Fprintln(s.stdout, "the recording has no end: its gateway was killed or still runs")
	case "closed":
		fmt.Fprintln(s.stdout, "SHA-256", r.Chain)
	default:
		fmt.Fprintln(s.stdout, "the recording stopped early:", r.Ended)
	}
	return nil
}
