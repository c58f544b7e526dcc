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

	Record      string        `placeholder:"DIR" help:"Record all inputs and outputs of the IKE daemon in DIR, for replay. The recording contains secrets."`
	RecordLimit int64         `default:"256" placeholder:"MIB" help:"Stop recording at this size, in MiB (default ${default})."`
	RecordTotal int64         `default:"1024" placeholder:"MIB" help:"At the start, remove the oldest recordings in DIR until the rest and the new one fit into this size, in MiB (default ${default}; 0: remove none)."`
	RecordFor   time.Duration `placeholder:"DURATION" help:"Stop recording after this time, such as 2h."`
	Redact      bool          `help:"With --record: leave out secrets and keys. Replay then compares decisions instead of bytes."`

	Pprof *loopback `placeholder:"ADDR:PORT" help:"Serve CPU and memory profiles (net/http/pprof) on a loopback address, such as 127.0.0.1:6060."`
}

func (runCmd) Help() string {
	return `Runs the gateway in the foreground. The log goes to standard error. The gateway needs a TUN device and root, or the capabilities NET_ADMIN, NET_RAW and NET_BIND_SERVICE. --control overrides control in the configuration.

SIGTERM or SIGINT stops the gateway: it deletes its SAs at the peers and waits up to two seconds for their answers. A second signal ends the wait. A third one kills the process, and leaves routes and rules behind. SIGHUP reads the configuration again, as culvert reload does.

Example:

    sudo culvert run -c site.toml
    sudo culvert run -c site.toml --log-level debug --log-format json

To let somebody else look into a problem, record it. The recording contains the secrets of the configuration and the keys of every SA, so DIR must not be readable by others. At its limit of size or time, or if the disk is full, the recording stops and the gateway goes on: a recording can only be replayed from its beginning, so its beginning is never overwritten. Recordings of earlier starts stay in DIR, with the time in their names, as long as all of them together are within --record-total.

With --redact the recording has no pre-shared key, private key, passphrase or comment of the configuration, and nothing from which a key could be computed. Identities, certificates, addresses and names are still in it, because decisions depend on them.

    sudo culvert run -c site.toml --record /var/tmp/incident
    culvert replay /var/tmp/incident

With --pprof the gateway serves profiles of its CPU time and memory. Every user of this host can read them. They contain no keys.

    sudo culvert run -c site.toml --pprof 127.0.0.1:6060
    go tool pprof -top 'http://127.0.0.1:6060/debug/pprof/profile?seconds=10'`
}

func (c *runCmd) Run(s *session) error {
	ends := make(chan os.Signal, 2)
	signal.Notify(ends, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(ends)
	ctx, hurry := stopOnSignal(s.ctx, ends)
	ignoreBrokenPipe()
	collectEarly()
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	tell := func(state string) {
		if err := tellSystemd(state); err != nil {
			fmt.Fprintln(s.stderr, "culvert: cannot notify the service manager,", state+":", err)
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

// collectEarly starts a garbage collection when the heap has grown by half instead of
// doubled, unless the environment sets GOGC. The heap holds SAs, which live for hours, and
// packets allocate nothing. A hundred thousand road warriors need a third less memory this
// way, for little CPU time.
func collectEarly() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
}

// ignoreBrokenPipe lets the process go on if the reader of standard error is gone. Otherwise a
// write to it would kill the process, and leave routes and rules behind.
func ignoreBrokenPipe() { signal.Ignore(syscall.SIGPIPE) }

// stopOnSignal returns a context that the first signal cancels, and a channel that the
// second closes. The third kills the process.
func stopOnSignal(parent context.Context, signals chan os.Signal) (context.Context, <-chan struct{}) {
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

// reloads passes signals on until ctx is done. Signals that arrive while one is waiting
// are merged with it.
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
