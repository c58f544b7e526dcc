package gateway

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/internal/host/resolver"
)

// fetcher gets CRLs and OCSP responses. What passes its check is kept until its
// successor is due, what fails is not asked again for a moment, and nobody waits
// for longer than limit.
type fetcher struct {
	client *http.Client
	limit  time.Duration
	now    func() time.Time
	ctx    context.Context
	stop   context.CancelFunc
	jobs   sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	kept    map[fetchKey]fetched
	size    int // bytes of kept
	flights map[fetchKey][]func([]byte, error)
}

// newFetches is the service that answers Fetch: a slow server holds no worker.
func newFetches(env serviceEnv) service {
	return &fetches{newFetcher(time.Now, env.edges.Resolver), env.answer}
}

type fetches struct {
	*fetcher
	answer func(core.Answer)
}

func (f *fetches) takes() []any { return []any{auth.Fetch{}} }
func (f *fetches) part() part   { return part{} }

func (f *fetches) take(out core.Output) {
	ask := out.(core.Ask)
	f.fetch(ask.Work.(auth.Fetch), func(data []byte, err error) { f.answer(core.Answer{ID: ask.ID, Data: data, Err: err}) })
}

// fetchKey: the same answer to the same question of the same issuer.
type fetchKey [sha256.Size]byte

type fetched struct {
	data  []byte
	err   error
	until time.Time
}

// Bounds of the fetcher.
const (
	maxFlights  = 32
	maxKept     = 1024
	maxKeptSize = 64 << 20
	maxKeep     = 24 * time.Hour
	keepFailure = 10 * time.Second
	keepUndated = 5 * time.Minute // what does not say how long it is good
	maxHops     = 3
)

// newFetcher makes one whose connections r opens.
func newFetcher(now func() time.Time, r *resolver.Resolver) *fetcher {
	f := &fetcher{limit: auth.FetchTimeout, now: now, kept: map[fetchKey]fetched{}, flights: map[fetchKey][]func([]byte, error){}}
	f.ctx, f.stop = context.WithCancel(context.Background())
	f.client = &http.Client{
		Transport: &http.Transport{DialContext: r.DialContext, DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) > maxHops {
				return fmt.Errorf("more than %d redirections", maxHops)
			}
			return nil
		},
	}
	return f
}

func keyOf(w auth.Fetch) fetchKey {
	h := sha256.New()
	for _, b := range [][]byte{[]byte(w.URL), w.Request, w.Link.Issuer.Raw} {
		fmt.Fprintf(h, "%d:", len(b))
		h.Write(b)
	}
	return fetchKey(h.Sum(nil))
}

// fetch answers at once or from a goroutine.
func (f *fetcher) fetch(w auth.Fetch, answer func([]byte, error)) {
	key := keyOf(w)
	f.mu.Lock()
	switch k, ok := f.kept[key]; {
	case ok && f.now().Before(k.until):
		f.mu.Unlock()
		answer(bytes.Clone(k.data), k.err)
		return
	case f.closed:
		f.mu.Unlock()
		answer(nil, errStopped)
		return
	}
	waiting, flies := f.flights[key]
	if !flies && len(f.flights) >= maxFlights {
		f.mu.Unlock()
		answer(nil, errors.New("too many CRLs and OCSP responses are being fetched"))
		return
	}
	f.flights[key] = append(waiting, answer)
	if !flies {
		f.jobs.Go(func() { f.fly(key, w) })
	}
	f.mu.Unlock()
}

func (f *fetcher) fly(key fetchKey, w auth.Fetch) {
	data, err := f.get(w)
	until := f.now().Add(keepFailure)
	if err == nil {
		var good time.Time
		if good, err = w.Check(data, f.now()); err == nil {
			until = f.now().Add(keepUndated)
			if !good.IsZero() {
				until = earlier(good, f.now().Add(maxKeep))
			}
		}
	}
	if err != nil {
		data = nil
	}
	f.mu.Lock()
	f.keep(key, fetched{data, err, until})
	waiting := f.flights[key]
	delete(f.flights, key)
	f.mu.Unlock()
	for _, answer := range waiting {
		answer(bytes.Clone(data), err)
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// keep makes room by forgetting what is no longer good, and then anything.
func (f *fetcher) keep(key fetchKey, k fetched) {
	f.forget(key)
	for _, all := range []bool{false, true} {
		for other, o := range f.kept {
			if len(f.kept) < maxKept && f.size+len(k.data) <= maxKeptSize {
				break
			}
			if all || !f.now().Before(o.until) {
				f.forget(other)
			}
		}
	}
	f.kept[key] = k
	f.size += len(k.data)
}

func (f *fetcher) forget(key fetchKey) {
	f.size -= len(f.kept[key].data)
	delete(f.kept, key)
}

func (f *fetcher) get(w auth.Fetch) ([]byte, error) {
	ctx, cancel := context.WithTimeout(f.ctx, f.limit)
	defer cancel()
	method := http.MethodGet
	if w.Request != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, w.URL, bytes.NewReader(w.Request))
	if err != nil {
		return nil, errors.New("the URL cannot be used")
	}
	req.Header.Set("User-Agent", "culvert")
	if w.Request != nil {
		req.Header.Set("Content-Type", "application/ocsp-request")
	}
	resp, err := f.client.Do(req)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return nil, fmt.Errorf("no answer within %v", f.limit)
		}
		return nil, fmt.Errorf("it cannot be reached: %w", errors.Unwrap(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answered with status %d", resp.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, int64(w.Limit)+1))
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("no whole answer within %v", f.limit)
	case err != nil:
		return nil, fmt.Errorf("its answer broke off: %w", err)
	case len(data) > w.Limit:
		return nil, fmt.Errorf("its answer is longer than %d KiB", w.Limit>>10)
	}
	return data, nil
}

// close abandons what is under way and waits for it.
func (f *fetcher) close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.stop()
	f.jobs.Wait()
}
