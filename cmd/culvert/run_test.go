package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

func TestRunRefusesWhatCheckRefuses(t *testing.T) {
	quiet(t)
	path := write(t, strings.Replace(siteTOML, "192.168.80.1/32", "192.168.80.1/33", 1))
	code, _, stderr := call("run", "-c", path)
	if code != exitFailed || !strings.HasPrefix(stderr, path+":12: ") {
		t.Errorf("%d %q", code, stderr)
	}
	for _, args := range []string{"run", "run -c f --log-format xml", "run -c f --log-level loud", "demo --size much"} {
		if code, _, stderr := call(strings.Fields(args)...); code != exitUsage {
			t.Errorf("culvert %s: %d %q", args, code, stderr)
		}
	}
}

func TestHangupsBecomeReloads(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal)
	out := reloads(ctx, signals)
	for range 3 {
		signals <- syscall.SIGHUP // nobody reads: none of them blocks
	}
	<-out
	signals <- syscall.SIGHUP
	<-out
}

func TestSignalsThatEnd(t *testing.T) {
	signals := make(chan os.Signal, 2)
	ctx, hurry := stopOnSignal(context.Background(), signals)
	signals <- syscall.SIGTERM
	<-ctx.Done()
	select {
	case <-hurry:
		t.Error("in a hurry after the first signal")
	default:
	}
	signals <- syscall.SIGTERM
	<-hurry
}

// A log that nobody reads any more does not end the gateway.
func TestOutliveLog(t *testing.T) {
	const role = "CULVERT_TEST_OUTLIVE_LOG"
	if os.Getenv(role) != "" {
		ignoreBrokenPipe()
		for range 3 {
			fmt.Fprintln(os.Stderr, "nobody reads this")
		}
		fmt.Println("alive")
		return
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	child := exec.Command(os.Args[0], "-test.run=^TestOutliveLog$")
	child.Env = append(os.Environ(), role+"=1")
	child.Stderr = w
	out, err := child.Output()
	if err != nil || !strings.Contains(string(out), "alive") {
		t.Errorf("%v %q", err, out)
	}
}
