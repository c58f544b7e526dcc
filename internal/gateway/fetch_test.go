package gateway

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"culvert/crypto/secret"
	"culvert/ike/auth"
	"culvert/ike/core"
	"culvert/internal/testing/testcert"

	"golang.org/x/crypto/ocsp"
)

// fetch1 is what a fetch answers.
func fetch1(f *fetcher, w auth.Fetch) ([]byte, error) {
	type result struct {
		data []byte
		err  error
	}
	c := make(chan result, 1)
	f.fetch(w, func(data []byte, err error) { c <- result{data, err} })
	r := <-c
	return r.data, r.err
}

// served is a server of one path and how often it was asked.
func served(t *testing.T, handle http.HandlerFunc) (url string, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		handle(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

func TestFetch(t *testing.T) {
	now := time.Now()
	root := testcert.Root("root", "p256")
	bad := root.Leaf("revoked", "p256")
	list := root.CRL(now.Add(-time.Hour), now.Add(time.Hour), bad)
	stranger := testcert.Root("root", "p256").CRL(now.Add(-time.Hour), now.Add(time.Hour))
	answer := func(data []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) }
	}
	for _, c := range []struct {
		what   string
		handle http.HandlerFunc
		err    string
	}{
		{"a CRL", answer(list), ""},
		{"a CRL of a stranger", answer(stranger), "signature is wrong"},
		{"too long", answer(make([]byte, auth.MaxCRL+1)), "longer than 10240 KiB"},
		{"endless", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}, "longer than 10240 KiB"},
		{"not there", http.NotFound, "status 404"},
		{"in a circle", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/again", http.StatusFound) }, "redirections"},
	} {
		url, asked := served(t, c.handle)
		f := newFetcher(func() time.Time { return now }, nil)
		f.limit = time.Hour
		w := auth.Fetch{URL: url, Limit: auth.MaxCRL, Link: auth.Link{Cert: bad.Cert, Issuer: root.Cert, Authority: &core.Authority{Cert: root.Cert}}}
		for range 2 {
			data, err := fetch1(f, w)
			if c.err == "" && (err != nil || len(data) != len(list)) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("%s: %d bytes, %v", c.what, len(data), err)
			}
		}
		if n := asked.Load(); n != 1 && c.what != "in a circle" {
			t.Errorf("%s: asked %d times, not once", c.what, n)
		}
		f.close()
		if _, err := fetch1(f, auth.Fetch{URL: url + "/other", Limit: 1, Link: w.Link}); err == nil {
			t.Error("a closed fetcher fetches")
		}
	}
}

// A server that hangs holds up those who ask it, and nobody else; what is good
// no longer is fetched anew.
func TestFetchBesideAHangingServer(t *testing.T) {
	now := time.Now()
	root := testcert.Root("root", "p256")
	leaf := root.Leaf("leaf", "p256")
	release := make(chan struct{})
	hangs, _ := served(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	list := root.CRL(now.Add(-time.Hour), now.Add(time.Hour))
	works, asked := served(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(list) })

	later := new(atomic.Int64)
	answers := make(chan core.Answer, 100)
	p := newServices(serviceEnv{edges: &Edges{}, answer: func(a core.Answer) { answers <- a }}, []func(serviceEnv) service{newFetches})
	f := find[*fetches](p)
	f.limit = time.Hour // who hangs does so until it is released
	f.now = func() time.Time { return now.Add(time.Duration(later.Load())) }
	link := auth.Link{Cert: leaf.Cert, Issuer: root.Cert, Authority: &core.Authority{Cert: root.Cert}}
	for i := range core.AskID(20) {
		p.take(core.Ask{ID: 100 + i, Work: auth.Fetch{URL: hangs, Limit: 1000, Link: link}})
	}
	p.take(core.Ask{ID: 1, Work: auth.Fetch{URL: works, Limit: auth.MaxCRL, Link: link}})
	if a := <-answers; a.ID != 1 || a.Err != nil {
		t.Errorf("answer %d, %v", a.ID, a.Err)
	}
	p.take(core.Ask{ID: 2, Work: nothingToDo{}})
	if a := <-answers; a.ID != 2 {
		t.Errorf("answer %d", a.ID)
	}
	later.Store(int64(2 * time.Hour))
	p.take(core.Ask{ID: 3, Work: auth.Fetch{URL: works, Limit: auth.MaxCRL, Link: link}})
	if a := <-answers; a.ID != 3 || asked.Load() != 2 {
		t.Errorf("answer %d, asked %d times", a.ID, asked.Load())
	}
	close(release)
	for range 20 {
		if a := <-answers; a.ID < 100 || a.Err == nil {
			t.Errorf("answer %d, %v", a.ID, a.Err)
		}
	}
	p.close()
}

// A server that hangs is given up, and what hang at once are bounded.
func TestFetchGivesUp(t *testing.T) {
	now := time.Now()
	root := testcert.Root("root", "p256")
	hangs, _ := served(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ask := func(n int) auth.Fetch {
		return auth.Fetch{URL: fmt.Sprint(hangs, "/", n), Limit: 1000, Link: auth.Link{Cert: root.Cert, Issuer: root.Cert, Authority: &core.Authority{Cert: root.Cert}}}
	}
	f := newFetcher(func() time.Time { return now }, nil)
	f.limit = 10 * time.Millisecond
	if _, err := fetch1(f, ask(0)); err == nil || !strings.Contains(err.Error(), "no answer within 10ms") {
		t.Errorf("%v", err)
	}
	f.close()

	f = newFetcher(func() time.Time { return now }, nil)
	f.limit = time.Hour
	for n := range maxFlights {
		f.fetch(ask(n), func([]byte, error) {})
	}
	if _, err := fetch1(f, ask(maxFlights)); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("%v", err)
	}
	joined := make(chan error, 1) // what is being fetched costs nothing more
	f.fetch(ask(0), func(_ []byte, err error) { joined <- err })
	f.close()
	if err := <-joined; err == nil || strings.Contains(err.Error(), "too many") {
		t.Errorf("who waits for what is being fetched: %v", err)
	}
}

type nothingToDo struct{}

func (nothingToDo) Do() (secret.Bytes, error) { return nil, nil }

// An OCSP responder is asked by POST, and its answer passes through.
func TestFetchOCSP(t *testing.T) {
	root := testcert.Root("root", "p256")
	var good []byte
	url, asked := served(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/ocsp-request" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_, _ = w.Write(good)
	})
	pair := root.Leaf("leaf", "p256", testcert.OCSP(url))
	now := time.Now()
	good, err := ocsp.CreateResponse(root.Cert, root.Cert, ocsp.Response{Status: ocsp.Good, SerialNumber: pair.Cert.SerialNumber,
		ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(time.Hour)}, root.Key)
	if err != nil {
		t.Fatal(err)
	}
	l := auth.Link{Cert: pair.Cert, Issuer: root.Cert, Authority: &core.Authority{Cert: root.Cert, OCSP: true, Strict: true}}
	fetches := l.Fetches()
	if len(fetches) != 1 {
		t.Fatalf("%d fetches", len(fetches))
	}
	f := newFetcher(time.Now, nil)
	defer f.close()
	data, err := fetch1(f, fetches[0])
	if err != nil || asked.Load() != 1 {
		t.Fatalf("asked %d times: %v", asked.Load(), err)
	}
	unknown, err := auth.Revocation{Links: []auth.Link{l}, Got: []auth.Got{{Fetch: fetches[0], Data: data}}, Now: now}.Do()
	if err != nil || len(unknown) > 0 {
		t.Errorf("%q, %v", string(unknown), err)
	}
}
