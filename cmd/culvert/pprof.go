package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"time"
)

// loopback is an address and port of this host that only its own users can reach.
type loopback struct{ netip.AddrPort }

func (l *loopback) UnmarshalText(text []byte) error {
	addr, err := netip.ParseAddrPort(string(text))
	if err != nil {
		return fmt.Errorf("%q is not an address with a port: write 127.0.0.1:6060 or [::1]:6060", text)
	}
	if !addr.Addr().IsLoopback() {
		return fmt.Errorf("profiles are served on a loopback address only, and %v is not one: write 127.0.0.1:%d, and use ssh -L to reach it from another host", addr.Addr(), addr.Port())
	}
	l.AddrPort = addr
	return nil
}

// servePprof serves the profiles of this process at addr until ctx is done, and writes the
// URL to w. It is an error if the port is in use.
func servePprof(ctx context.Context, addr loopback, w io.Writer) error {
	listener, err := net.Listen("tcp", addr.String())
	if err != nil {
		return fmt.Errorf("serve profiles: %w; choose another port with --pprof", err)
	}
	server := &http.Server{Handler: profiles(), ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			fmt.Fprintln(w, "culvert: serve profiles:", err)
		}
	}()
	fmt.Fprintf(w, "culvert: profiles are served at http://%s/debug/pprof/\n", listener.Addr())
	return nil
}

// profiles answers requests for a loopback address only. This stops DNS rebinding: a web page
// whose name resolves to this host requests its own name.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if addr, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !addr.IsLoopback()) {
			http.Error(w, "request a loopback address, such as http://127.0.0.1:PORT/debug/pprof/", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}
