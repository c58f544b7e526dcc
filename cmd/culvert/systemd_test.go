package main

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// One datagram goes to the socket that the service manager named.
func TestTellSystemd(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no datagrams on local sockets")
	}
	t.Setenv("NOTIFY_SOCKET", "")
	if err := tellSystemd("READY=1"); err != nil {
		t.Errorf("without a service manager: %v", err)
	}
	dir, err := os.MkdirTemp("", "sd") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	sockets := []string{filepath.Join(dir, "s")}
	if runtime.GOOS == "linux" {
		sockets = append(sockets, "@culvert-test-"+filepath.Base(dir))
	}
	for _, path := range sockets {
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("NOTIFY_SOCKET", path)
		if err := tellSystemd("READY=1"); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		b := make([]byte, 64)
		n, err := l.Read(b)
		if err != nil || string(b[:n]) != "READY=1" {
			t.Errorf("%s: %q %v", path, b[:n], err)
		}
		l.Close()
		if err := tellSystemd("READY=1"); err == nil {
			t.Errorf("%s: nobody listens, and no error", path)
		}
	}
}

// A gateway that cannot start does not say that it is ready, and the words are in the unit.
func TestRunThatFailsIsNotReady(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no datagrams on local sockets")
	}
	quiet(t)
	dir, err := os.MkdirTemp("", "sd")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "s")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	if code, _, _ := call("run", "-c", filepath.Join(dir, "none.toml")); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	if err := tellSystemd("END"); err != nil { // so that there is something to read
		t.Fatal(err)
	}
	b := make([]byte, 64)
	if n, err := l.Read(b); err != nil || strings.Contains(string(b[:n]), "READY") {
		t.Errorf("%q %v", b[:n], err)
	}
}
