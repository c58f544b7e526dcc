package demo

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// noLeak waits until no goroutine but the tests' own is left.
func noLeak(t *testing.T) {
	t.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		if err = goleak.Find(); err == nil {
			return
		}
	}
	t.Error(err)
}

// The whole of it: what Run promises, and what the user sees of it.
func TestRun(t *testing.T) {
	defer noLeak(t)
	var out bytes.Buffer
	if err := Run(limited(t), Options{Out: &out, Size: 4<<20 + 1}); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	text := out.String()
	for _, want := range []string{
		"192.168.90.1", "site1.toml:", "site2.toml:", `secret = "thisisnotasecurepsk"`,
		"IKE_SA_INIT request 0", "IKE_AUTH response 1", "site1    ike-up", "site2    child-up",
		"equal ✓", "MB/s",
		"site1> policy print", "site2> policy print", "1  A ", "site1> active-peers print", "established",
		"site2> installed-sa print", "aes-cbc", "mature", ", 0 plaintext.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the output has no %q", want)
		}
	}
	if strings.ContainsAny(text, "\r\x1b") {
		t.Error("the output is for a terminal")
	}
	if t.Failed() {
		t.Log(text)
	}
}

// One packet between the hosts that goes over the network as it is: the file
// arrives whole all the same, and Run fails.
func TestRunFindsOnePacketInClear(t *testing.T) {
	defer noLeak(t)
	var out bytes.Buffer
	d, err := setUp(Options{Out: &out, Size: 1 << 20}, offices)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	ping := plainPacket([]byte("ping"))
	d.net.send(outer(0), outer(1), ping)
	err = d.run(limited(t))
	if err == nil || !strings.Contains(err.Error(), "1 of ") || !strings.Contains(err.Error(), "a packet from host to host") {
		t.Error(err)
	}
	if text := out.String(); !strings.Contains(text, "equal ✓") || !strings.Contains(text, ", 1 plaintext") {
		t.Error(text)
	}
}

// What does not fit together ends with what is wrong, and soon.
func TestRunFails(t *testing.T) {
	defer noLeak(t)
	changed := func(old, now string) [2]office {
		o := offices
		if o[1].config = strings.Replace(o[1].config, old, now, 1); o[1].config == offices[1].config {
			t.Fatalf("no %q in the configuration", old)
		}
		return o
	}
	for name, c := range map[string]struct {
		offices [2]office
		want    string
	}{
		"another secret":   {changed("notasecure", "another"), "authentication-failed"},
		"another cipher":   {changed("aes-128-cbc", "aes-256-cbc"), "no-proposal-chosen"},
		"other selectors":  {changed("10.1.202.0/24", "10.9.9.0/24"), "ts-unacceptable"},
		"a typing error":   {changed("secret =", "sceret ="), "site2.toml:20: "},
		"nobody initiates": {both(offices, "passive = true\n"), "context deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := limited(t)
			if strings.HasPrefix(name, "nobody") {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 300*time.Millisecond)
				defer cancel()
			}
			var out bytes.Buffer
			d, err := setUp(Options{Out: &out, Size: 1 << 20}, c.offices)
			if err != nil {
				t.Fatal(err)
			}
			defer d.close()
			if err = d.run(ctx); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
}

// both has the first peer of the first office changed, too.
func both(o [2]office, line string) [2]office {
	o[0].config = strings.Replace(o[0].config, `profile = "ike2-site2"`, line+`profile = "ike2-site2"`, 1)
	return o
}

func TestRunRefusesAnEmptyFile(t *testing.T) {
	if err := Run(context.Background(), Options{Out: &bytes.Buffer{}}); err == nil {
		t.Error("nothing was fetched, and that was fine")
	}
}

func TestTransferComparesHashes(t *testing.T) {
	var x transfer
	if err := x.compare(); err != nil {
		t.Error(err)
	}
	x.received[31] = 1
	if err := x.compare(); err == nil {
		t.Error("different hashes are equal")
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestStory(t *testing.T) {
	var out bytes.Buffer
	s := &story{out: &out, live: true, began: time.Now()}
	s.progress("%d %%", 1)
	s.progress("%d %%", 2)
	s.say("done")
	if want := "\r1 %\x1b[K\r2 %\x1b[K\ndone\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
	for range eventsKept + 3 {
		s.happened("site1", "something")
	}
	cause := errors.New("cause")
	if err := s.explain(cause); !errors.Is(err, cause) || strings.Count(err.Error(), "something") != eventsKept {
		t.Error(err)
	}
	if err := s.written(); err != nil {
		t.Error(err)
	}
	s = newStory(Options{Out: full{}})
	s.say("lost")
	if err := s.written(); err == nil {
		t.Error("output that cannot be written is an error")
	}
}

func TestIndent(t *testing.T) {
	if got, want := indent("a\n\n  b\n"), "    a\n\n      b"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
