package demo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// transfer is a file on its way from one LAN to the other by HTTP.
type transfer struct {
	payload *payload
	size    int64        // bytes
	arrived atomic.Int64 // so far

	sent, received [sha256.Size]byte
	took           time.Duration // from the request to the last byte
}

const (
	httpPort = 80
	httpPath = "/random"
)

// stalled is how long nothing may arrive.
const stalled = 30 * time.Second

// run has client fetch the payload from a server on server, each hashing what
// it sees.
func (t *transfer) run(ctx context.Context, client, server *host) (err error) {
	l, err := server.listen(httpPort)
	if err != nil {
		return fmt.Errorf("the HTTP server: %w", err)
	}
	served := make(chan error, 1)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { served <- t.serve(w, r) })}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = s.Serve(l) // ends by Close, which it says
	}()
	defer func() {
		_ = s.Close()
		<-closed
	}()
	ctx, cancel := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { t.watch(ctx, cancel) })
	defer watching.Wait()
	defer cancel(nil)

	start := time.Now()
	if err := t.fetch(ctx, client, netip.AddrPortFrom(server.addr, httpPort)); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return fmt.Errorf("fetching the file: %w", err)
	}
	t.took = time.Since(start)
	select {
	case err = <-served:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("serving the file: %w", err)
	}
	return t.compare()
}

func (t *transfer) compare() error {
	if t.sent != t.received {
		return fmt.Errorf("what arrived is not what was sent: SHA-256 %x instead of %x", t.received, t.sent)
	}
	return nil
}

func (t *transfer) serve(w http.ResponseWriter, r *http.Request) error {
	if r.URL.Path != httpPath {
		http.NotFound(w, r)
		return fmt.Errorf("request for %q", r.URL.Path)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(t.size, 10))
	hash := sha256.New()
	err := t.payload.stream(t.size, func(piece []byte) error {
		_, _ = hash.Write(piece) // never fails
		_, err := w.Write(piece)
		return err
	})
	hash.Sum(t.sent[:0])
	return err
}

func (t *transfer) fetch(ctx context.Context, client *host, server netip.AddrPort) error {
	transport := &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return client.dial(ctx, server) },
		DisableKeepAlives: true, DisableCompression: true, ReadBufferSize: 256 << 10,
	}
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+server.String()+httpPath, nil)
	if err != nil {
		return err
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	hash, buf := sha256.New(), make([]byte, 256<<10)
	for {
		n, err := answer.Body.Read(buf)
		_, _ = hash.Write(buf[:n]) // never fails
		t.arrived.Add(int64(n))
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	hash.Sum(t.received[:0])
	return nil
}

// watch ends a transfer that does not move any more.
func (t *transfer) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(stalled)
	defer tick.Stop()
	for last := int64(-1); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := t.arrived.Load()
		if now == last || now == 0 {
			cancel(fmt.Errorf("nothing arrived for %v, after %d of %d bytes", stalled, now, t.size))
			return
		}
		last = now
	}
}

// mbps is the speed of n bytes in d, in megabytes per second.
func mbps(n int64, d time.Duration) float64 { return float64(n) / 1e6 / max(d.Seconds(), 1e-9) }
