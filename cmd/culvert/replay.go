package main

import (
	"errors"
	"fmt"
	"time"

	"culvert/config"
	"culvert/internal/gateway"
)

type replayCmd struct {
	Dir  string `arg:"" placeholder:"DIR" help:"Folder of the recording, or its file."`
	List bool   `help:"Print all inputs and outputs, one line each."`

	Config string `short:"c" placeholder:"FILE" help:"Replay with this configuration instead of the recorded ones."`
}

func (replayCmd) Help() string {
	return `Replays a recording of run --record: a new IKE endpoint gets the same seed and the same inputs at the same times, and its outputs are compared with the recorded ones, byte by byte. Nothing is sent, and no gateway is needed. If an output differs, the first such output and its input are printed, and the exit code is 1. A different build may differ. If the same build differs, the recording was changed. --list prints inputs, decrypted messages and outputs, without secrets.

A recording made with --redact has no keys. Replay then compares decisions: each message that is sent with its payloads, algorithms, selectors and notifies, each event, and each SA that is installed or removed. With --config the recording is replayed with another configuration, and the first decision that would have been different is printed.

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
	fmt.Fprintf(s.stdout, "recorded since %s by %s\n", r.Start.Format(time.RFC3339), r.Build)
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
		fmt.Fprintln(s.stdout, "the recording is not finished: its gateway was killed or still runs")
	case "closed":
		fmt.Fprintln(s.stdout, "SHA-256", r.Chain)
	default:
		fmt.Fprintln(s.stdout, "the recording stopped early:", r.Ended)
	}
	return nil
}
