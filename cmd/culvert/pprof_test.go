package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
)

func TestPprofIsForThisHostAlone(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:6060", "[::]:6060", "192.0.2.1:6060", "[2001:db8::1]:6060", "10.0.0.1:6060"} {
		code, _, stderr := call("run", "-c", "f", "--pprof", addr)
		if code != exitUsage || !strings.Contains(stderr, "loopback") || !strings.Contains(stderr, "127.0.0.1:6060") {
			t.Errorf("%s: %d %q", addr, code, stderr)
		}
	}
	for _, addr := range []string{"6060", ":6060", "127.0.0.1", "gw.example.net:6060", "127.0.0.1:70000"} {
		code, _, stderr := call("run", "-c", "f", "--pprof", addr)
		if code != exitUsage || !strings.Contains(stderr, "write 127.0.0.1:6060") {
			t.Errorf("%s: %d %q", addr, code, stderr)
		}
	}
	for _, addr := range []string{"127.0.0.1:6060", "127.1.2.3:0", "[::1]:6060"} {
		var l loopback
		if err := l.UnmarshalText([]byte(addr)); err != nil || l.String() != addr {
			t.Errorf("%s: %v, %v", addr, l, err)
		}
	}
}

func TestPprofServesProfiles(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var said bytes.Buffer
	if err := servePprof(ctx, loopback{netip.MustParseAddrPort("127.0.0.1:0")}, &said); err != nil {
		t.Fatal(err)
	}
	_, at, _ := strings.Cut(strings.TrimSpace(said.String()), "served at ")
	resp, err := http.Get(at + "goroutine?debug=1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), "goroutine profile:") {
		t.Errorf("%s %v: %.200s", resp.Status, err, body)
	}
	taken, _ := netip.ParseAddrPort(strings.TrimSuffix(strings.TrimPrefix(at, "http://"), "/debug/pprof/"))
	if err := servePprof(ctx, loopback{taken}, io.Discard); exitCode(err) != exitEnvironment || !strings.Contains(err.Error(), "--pprof") {
		t.Errorf("a port that is in use: %v", err)
	}
}

func TestPprofForWhomItIsAsked(t *testing.T) {
	for host, want := range map[string]int{
		"127.0.0.1:6060": http.StatusOK, "[::1]:6060": http.StatusOK, "localhost:6060": http.StatusOK, "127.0.0.1": http.StatusOK,
		"rebound.example:6060": http.StatusForbidden, "192.0.2.1:6060": http.StatusForbidden, "": http.StatusForbidden,
	} {
		r := httptest.NewRequest(http.MethodGet, "/debug/pprof/goroutine?debug=1", nil)
		r.Host = host
		w := httptest.NewRecorder()
		profiles().ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%q: %d, want %d", host, w.Code, want)
		}
	}
}
