package gateway

import (
	"os"
	"time"

	"culvert/config"
	"culvert/ike"
	"culvert/internal/gateway/plane"
	"culvert/internal/host/fileowner"
	"culvert/internal/operate/control"
	"culvert/internal/operate/record"
)

// Recording says how Run records the inputs and outputs of its endpoint. The zero value
// records nothing.
type Recording struct {
	Dir    string        // a folder that is made; empty: no recording
	Limit  int64         // bytes; 0: none
	Total  int64         // bytes of all recordings in Dir, oldest removed first; 0: no limit
	For    time.Duration // 0: until the end
	Redact bool          // leave out secrets; replay then compares decisions
}

// load reads the configuration; for a recording also the snapshot of it.
func (o *Options) load() (c *config.Config, w []config.Warning, s *config.Snapshot, err error) {
	if o.Recording.Dir == "" {
		c, w, err = config.Load(o.ConfigPath)
	} else {
		c, w, s, err = config.LoadSnapshot(o.ConfigPath)
	}
	if err == nil {
		w = append(w, fileowner.Warnings(c.SecretFiles(), os.Geteuid())...)
	}
	return c, w, s, err
}

// newEndpoint makes the endpoint, inside a recorder where one is wanted.
func (g *gateway) newEndpoint(now time.Time) (plane.Endpoint, error) {
	seed := random32()
	e := ike.New(seed)
	o := g.o.Recording
	if o.Dir == "" {
		return e, nil
	}
	r, err := record.New(e, record.Options{
		Dir: o.Dir, Limit: o.Limit, Total: o.Total, For: o.For, Redact: o.Redact, Seed: seed, Build: control.ReadVersion().String(), Start: now,
		Stopped: func(err error) { g.log.Error("the recording has stopped; the gateway continues", "error", err) },
	})
	if err != nil {
		return nil, err
	}
	g.recorder = r
	if o.Redact {
		g.log.Info("recording without secrets; the recording contains identities, certificates and addresses", "folder", o.Dir)
	} else {
		g.log.Warn("recording: it contains the secrets of the configuration and the keys of every SA; keep it private, and delete it when you no longer need it", "folder", o.Dir)
	}
	return r, nil
}

func (g *gateway) closeRecording() {
	if g.recorder == nil {
		return
	}
	if err := g.recorder.Close(); err != nil {
		g.log.Error("the recording could not be finished", "error", err)
	}
}
