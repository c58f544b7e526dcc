package gateway

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"culvert/config"
	"culvert/ike/core"
)

// newLogger makes the log.
func newLogger(w io.Writer, format config.LogFormat, level slog.Leveler) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	if format == config.LogJSON {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// logSettings are format and level of the options, or else of the configuration.
func (o *Options) logSettings(g *config.Gateway) (config.LogFormat, slog.Level, error) {
	format, level := g.LogFormat, g.LogLevel
	switch f := config.LogFormat(o.LogFormat); f {
	case "":
	case config.LogText, config.LogJSON:
		format = f
	default:
		return "", 0, fmt.Errorf("log format %q: write text or json", o.LogFormat)
	}
	if o.LogLevel != "" {
		if err := level.UnmarshalText([]byte(o.LogLevel)); err != nil {
			return "", 0, fmt.Errorf("log level %q: write debug, info, warn or error", o.LogLevel)
		}
	}
	return format, level, nil
}

// eventKinds says at which level each kind of event is logged, and whether
// a stranger or a broken peer can cause any number of it.
var eventKinds = map[core.EventKind]struct {
	level slog.Level
	often bool
}{
	core.EvInitFailed:     {slog.LevelWarn, true},
	core.EvAuthFailed:     {slog.LevelWarn, true},
	core.EvNoProposal:     {slog.LevelWarn, true},
	core.EvTSUnacceptable: {slog.LevelWarn, true},
	core.EvBadMessage:     {slog.LevelInfo, true},
	core.EvRedirecting:    {slog.LevelInfo, true},
	core.EvAskedAgain:     {slog.LevelInfo, true},
	core.EvESPBlocked:     {slog.LevelWarn, true},
	core.EvPathMTU:        {slog.LevelWarn, true},
	core.EvNotify:         {slog.LevelWarn, true},
	core.EvCertificate:    {slog.LevelWarn, true},
	core.EvPeerDead:       {slog.LevelWarn, false},
}

// How many events of one kind are logged in a second: logOften for what a stranger or a broken peer can cause in any
// number, and logOthers for the rest, which a peer that keeps rekeying can cause.
const (
	logOften  = 1
	logOthers = 200
)

// events counts events, and logs them at a limited rate.
type events struct {
	log    *slog.Logger
	counts [256]uint64 // by kind
	kinds  [256]struct {
		begun             time.Time // the second that counts
		lines, suppressed int
	}
}

func (v *events) event(now time.Time, e core.Event) {
	v.counts[e.Kind]++
	kind := eventKinds[e.Kind] // others: info
	if !v.log.Enabled(context.Background(), kind.level) {
		return
	}
	k, most := &v.kinds[e.Kind], logOthers
	if kind.often {
		most = logOften
	}
	if k.begun.IsZero() || now.Sub(k.begun) >= time.Second {
		k.begun, k.lines = now, 0
	}
	if k.lines == most {
		k.suppressed++
		return
	}
	attrs := e.LogValue().Group()
	if k.suppressed > 0 {
		attrs = append(attrs, slog.Int("suppressed", k.suppressed))
	}
	k.lines++
	k.suppressed = 0
	v.log.LogAttrs(context.Background(), kind.level, "ike", attrs...)
}
