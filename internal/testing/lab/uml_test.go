//go:build linux

package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestLabGuest: a guest runs commands, has the network and the IPsec that it
// was given, and is gone when it is stopped.
func TestLabGuest(t *testing.T) {
	NeedGuest(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	l := New(t)
	n := l.Node("us")
	ours, theirs := netip.MustParsePrefix("10.9.0.1/24"), netip.MustParsePrefix("10.9.0.2/24")
	g := n.Guest(ctx, "g", NIC{Tap: "eth0", Node: []netip.Prefix{ours}, Guest: []netip.Prefix{theirs}})

	if _, err := g.Try("sh", "-c", "echo no; exit 3"); err == nil || !strings.Contains(err.Error(), "exit status 3\nno") {
		t.Errorf("a command that fails: %v", err)
	}
	if _, err := g.Try("/no/such/program"); err == nil {
		t.Error("a program that is not there was run")
	}
	if err := g.Write("/etc/made/here", []byte("text")); err != nil || g.Run("cat", "/etc/made/here") != "text" {
		t.Error("a file that was written is not there:", err)
	}
	if out, err := run("ls", "/etc/made"); err == nil {
		t.Errorf("what the guest wrote is on the computer: %s", out)
	}
	big := g.Run("sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x")
	if big != strings.Repeat("x", 100000) {
		t.Errorf("of 100000 bytes %d came", len(big))
	}
	if err := n.Transfer(ctx, ours.Addr(), g, theirs.Addr(), 1<<20); err != nil {
		t.Error(err)
	}
	if err := g.Transfer(ctx, theirs.Addr(), n, ours.Addr(), 1<<20); err != nil {
		t.Error(err)
	}
	g.Run("ip", "xfrm", "state", "add", "src", "10.9.0.1", "dst", "10.9.0.2", "proto", "esp", "spi", "0x1234", "mode", "transport",
		"aead", "rfc4106(gcm(aes))", "0x000102030405060708090a0b0c0d0e0f10111213", "128")
	if out := g.Run("ip", "xfrm", "state"); !strings.Contains(out, "0x00001234") {
		t.Errorf("the kernel has no SA: %s", out)
	}

	if err := g.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
	if _, err := g.Try("true"); err == nil {
		t.Error("a guest that was stopped runs commands")
	}
}

// TestLabGuestEndsWithItsProcess: kill -9 leaves nothing of a guest.
func TestLabGuestEndsWithItsProcess(t *testing.T) {
	NeedGuest(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	l := New(t)
	g := l.Node("us").Guest(ctx, "g")
	if err := g.Daemon("/run/sleep", nil, "sleep", "1000"); err != nil {
		t.Fatal(err)
	}
	mark := "uml_dir=" + l.Dir + "/"
	if len(processesWith(mark)) == 0 {
		t.Fatal("the guest does not run")
	}
	g.Kill()
	if err := Until(ctx, func() error {
		if pids := processesWith(mark); len(pids) > 0 {
			return fmt.Errorf("processes of the guest live on: %v", pids)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// TestShim: with what is preloaded into User Mode Linux a part of a process's
// extended registers can be written, which the kernel refuses without.
func TestShim(t *testing.T) {
	NeedGuest(t)
	shim, err := xstateShim()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "partial")
	if out, err := run("gcc", "-o", program, "shim/partial.c"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for preload, want := range map[string]int{"": 1, shim: 0} {
		cmd := exec.Command(program)
		cmd.Env = append(os.Environ(), "LD_PRELOAD="+preload)
		out, _ := cmd.CombinedOutput()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("with %q the exit status is %d, not %d\n%s", preload, got, want, out)
		}
	}
}

// processesWith are the processes with an argument.
func processesWith(arg string) (found []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		if line, err := os.ReadFile(f); err == nil && slices.Contains(strings.Split(string(line), "\x00"), arg) {
			found = append(found, f)
		}
	}
	return found
}
