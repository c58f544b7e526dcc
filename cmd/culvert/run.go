package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"culvert/config"
	"culvert/internal/gateway"
)

type runCmd struct {
	Config    string `short:"c" required:"" placeholder:"FILE" help:"Configuration to run."`
	LogFormat string `enum:",text,json" default:"" placeholder:"text|json" help:"Overrides log-format of the configuration."`
	LogLevel  string `enum:",debug,info,warn,error" default:"" placeholder:"debug|info|warn|error" help:"Overrides log-level of the configuration."`

	Record      string        `placeholder:"DIR" help:"Keep everything that happens to the IKE daemon in DIR, for replay. Secrets are in it."`
	RecordLimit int64         `default:"256" placeholder:"MIB" help:"Stop recording at this size, in MiB (default ${default})."`
	RecordTotal int64         `default:"1024" placeholder:"MIB" help:"Remove the oldest recordings in DIR at the start, so that all have at most this size, in MiB (default ${default}, 0: remove none)."`
	RecordFor   time.Duration `placeholder:"DURATION" help:"Stop recording after this time, such as 2h."`
	Redact      bool          `help:"With --record: leave secrets and keys out. The recording plays as far as decisions go."`

	Pprof *loopback `placeholder:"ADDR:PORT" help:"Serve profiles of this process (net/http/pprof) on a loopback address, such as 127.0.0.1:6060."`
}

func (runCmd) Help() string {
	return `Runs the gateway in the foreground until it is told to stop; the log goes to standard error. It needs a TUN device and the capabilities NET_ADMIN, NET_RAW and NET_BIND_SERVICE, or root. SIGTERM and SIGINT tell the peers goodbye and stop it, a second one does not wait for their answers, a third ends the process as it is; SIGHUP reads the configuration again, as reload does. --control overrides control of the configuration.

Example:

    sudo culvert run -c site.toml
    sudo culvert run -c site.toml --log-level debug --log-format json

To have a fault looked at elsewhere, record it. DIR must not be open to others: who has the recording has the secrets of the configuration and the keys of every SA. It plays from its beginning only, so that it does not turn over: at its limit of size or time, or when the disk is full, it stops with what it has, and the gateway goes on. The recording of an earlier start stays beside it, with its time in its name, as long as there is room in the total.

What --redact keeps has no pre-shared key, no private key, no passphrase, no comment of the configuration and nothing that a key could be computed from; it plays as far as decisions go. Identities, certificates, addresses and names are in it, for decisions hang on them.

    sudo culvert run -c site.toml --record /var/tmp/incident
    culvert replay /var/tmp/incident

With --pprof the gateway says where its time and memory go. Every user of this host can read it; there are no keys in it.

    sudo culvert run -c site.toml --pprof 127.0.0.1:6060
    go tool pprof -top 'http://127.0.0.1:6060/debug/pprof/profile?seconds=10'`
}

func (c *runCmd) Run(s *session) error {
	ends := make(chan os.Signal, 2)
	signal.Notify(ends, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(ends)
	ctx, hurry := endings(s.ctx, ends)
	outliveLog()
	thrift()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	tell := func(state string) {
		if err := tellSystemd(state); err != nil {
			fmt.Fprintln(s.stderr, "culvert: cannot tell the service manager", state+":", err)
		}
	}
	defer context.AfterFunc(ctx, func() { tell("STOPPING=1") })()
	if c.Pprof != nil {
		if err := servePprof(ctx, *c.Pprof, s.stderr); err != nil {
			return err
		}
	}
	err := gateway.Run(ctx, gateway.Options{
		ConfigPath: c.Config,
		LogFormat:  c.LogFormat,
		LogLevel:   c.LogLevel,
		Control:    s.control,
		Reload:     reloads(ctx, hangup),
		Hurry:      hurry,
		Ready:      func() { tell("READY=1") },
		Judge:      []string{gateway.Self(), "judge-state"},
		Recording:  gateway.Recording{Dir: c.Record, Limit: c.RecordLimit << 20, Total: c.RecordTotal << 20, For: c.RecordFor, Redact: c.Redact},
	})
	var faults config.Faults
	if errors.As(err, &faults) {
		fmt.Fprintln(s.stderr, faults)
		return errReported
	}
	return err
}

// thrift has the collector run when the heap has grown by half, not doubled,
// unless the environment says otherwise. What a gateway holds is SAs, which stay
// for hours, and packets cost no memory: a hundred thousand road warriors need a
// third less, for little work.
func thrift() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

// outliveLog lets the process go on when nobody reads its log any more. A write
// to a closed standard error would end it otherwise, with routes and rules in place.
func outliveLog() { signal.Ignore(syscall.SIGPIPE) }

// endings makes of the first signal the end of the context, and of the second
// the end of all waiting. From then on signals end the process.
func endings(parent context.Context, signals chan os.Signal) (context.Context, <-chan struct{}) {
	ctx, end := context.WithCancel(parent)
	hurry := make(chan struct{})
	go func() {
		<-signals
		end()
		<-signals
		close(hurry)
		signal.Stop(signals)
	}()
	return ctx, hurry
}

// reloads passes signals on until ctx is done; those that come while one is
// waiting are one.
func reloads(ctx context.Context, signals <-chan os.Signal) <-chan struct{} {
	out := make(chan struct{}, 1)
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
			}
			select {
			case out <- struct{}{}:
			default:
			}
		}
	}()
	return out
}
