package gateway

import (
	"fmt"

	"culvert/config"
	"culvert/ike"
	"culvert/ike/core"
	"culvert/internal/gateway/compile"
	"culvert/internal/operate/record"
	"time"
)

// Replay replays the recording in dir on a new endpoint and compares the outputs. line, if not
// nil, is called for each input and output. configPath, if not empty, is a configuration
// that replaces every one of the recording. The error says that the recording cannot be
// replayed. A difference of outputs is in the report.
func Replay(dir, configPath string, line func(at time.Time, text string)) (*record.Report, error) {
	c := compiler{}
	if configPath != "" {
		_, _, instead, err := config.LoadSnapshot(configPath)
		if err != nil {
			return nil, err
		}
		c.instead = instead
	}
	return record.Replay(dir, record.Player{
		New:     func(seed [32]byte) record.Endpoint { return ike.New(seed) },
		Compile: c.compile,
		Line:    line,
	})
}

// compiler compiles the configurations of a recording one after the other, as
// start and reload do.
type compiler struct {
	cfg     *config.Config
	last    *compile.Result
	instead *config.Snapshot // nil: what the recording has
}

func (c *compiler) compile(r record.Reconfigure) (*core.Config, error) {
	if c.instead != nil {
		r.From = *c.instead
	}
	next, _, err := r.From.Load()
	if err != nil {
		return nil, fmt.Errorf("this version of Culvert does not load the recorded configuration: %w", err)
	}
	if c.cfg == nil {
		compile.CarriedBy(next, r.Raw)
	} else {
		next = compile.Running(c.cfg, next)
	}
	result, err := compile.Compile(next, r.Ports, c.last)
	if err != nil {
		return nil, fmt.Errorf("this version of Culvert does not compile the recorded configuration: %w", err)
	}
	c.cfg, c.last = next, result
	return c.last.IKE, nil
}
