package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// maxRequest bounds the body of a request and its header, in bytes. No call
// needs more than a few words.
const maxRequest = 16 << 10

// args is what any call may be told: the query of a GET, the JSON body of a POST.
type args struct {
	Packet *PacketQuery `json:"packet,omitempty"`
	Peer   string       `json:"peer,omitempty"`

	Redirect *RedirectQuery `json:"redirect,omitempty"`
	SA       *ManualSA      `json:"sa,omitempty"`
	SPI      uint32         `json:"spi,omitempty"`

	ShowSecrets bool `json:"show-secrets"`
	Children    bool `json:"children"`
}

// Count is the answer of a command that acts on SAs.
type Count struct {
	Count int `json:"count"`
}

type call func(ctx context.Context, a args) (any, error)

// calls is everything that can be asked, by method and path.
func calls(b Backend) map[string]call {
	return map[string]call{
		"GET /v1/policy":       rows(b.Policies),
		"GET /v1/peer":         rows(b.Peers),
		"GET /v1/profile":      rows(b.Profiles),
		"GET /v1/proposal":     rows(b.Proposals),
		"GET /v1/mode-config":  rows(b.ModeConfigs),
		"GET /v1/pool":         rows(b.Pools),
		"GET /v1/policy-group": rows(b.PolicyGroups),
		"GET /v1/active-peers": rows(b.ActivePeers),
		"GET /v1/statistics":   rows(b.Statistics),
		"GET /v1/offload":      rows(b.Offloads),
		"GET /v1/identity":     secretRows(b.Identities, (*Identity).hide),
		"GET /v1/installed-sa": secretRows(b.InstalledSAs, (*InstalledSA).hide),

		"POST /v1/installed-sa/flush":            count(b.Flush),
		"POST /v1/active-peers/kill-connections": count(b.KillConnections),
		"POST /v1/active-peers/redirect": func(ctx context.Context, a args) (any, error) {
			if a.Redirect == nil {
				return nil, errors.New("redirect: where to?")
			}
			return b.Redirect(ctx, *a.Redirect)
		},
		"POST /v1/rekey": func(ctx context.Context, a args) (any, error) {
			n, err := b.Rekey(ctx, a.Children)
			return Count{n}, err
		},
		"POST /v1/reload": func(ctx context.Context, _ args) (any, error) { return b.Reload(ctx) },
		"POST /v1/sa/add": func(ctx context.Context, a args) (any, error) {
			if a.SA == nil {
				return nil, errors.New("sa add: which?")
			}
			return b.AddSA(ctx, *a.SA)
		},
		"POST /v1/sa/delete": func(ctx context.Context, a args) (any, error) { return struct{}{}, b.DeleteSA(ctx, a.SPI) },
		"POST /v1/explain/packet": func(ctx context.Context, a args) (any, error) {
			if a.Packet == nil {
				return nil, errors.New("explain packet: which?")
			}
			return b.ExplainPacket(ctx, *a.Packet)
		},
		"POST /v1/explain/peer": func(ctx context.Context, a args) (any, error) { return b.ExplainPeer(ctx, a.Peer) },
		"GET /v1/version":       func(context.Context, args) (any, error) { return ReadVersion(), nil },
	}
}

func rows[T any](print func(context.Context) ([]T, error)) call {
	return func(ctx context.Context, _ args) (any, error) {
		list, err := print(ctx)
		return table[T](list), err
	}
}

// secretRows also blanks secrets that nobody asked for: the promise that they
// stay hidden must not depend on the backend alone.
func secretRows[T any](print func(context.Context, bool) ([]T, error), hide func(*T)) call {
	return func(ctx context.Context, a args) (any, error) {
		list, err := print(ctx, a.ShowSecrets)
		if !a.ShowSecrets {
			for i := range list {
				hide(&list[i])
			}
		}
		return table[T](list), err
	}
}

// table is rows, none of them [] and never null. They are written one by one: those of a hundred thousand SAs
// would be as much text in one piece.
type table[T any] []T

func (t table[T]) write(w io.Writer) error {
	b := bufio.NewWriterSize(w, 64<<10)
	e := json.NewEncoder(b)
	_ = b.WriteByte('[') // an error stays in b
	for i := range t {
		if i > 0 {
			_ = b.WriteByte(',')
		}
		if err := e.Encode(&t[i]); err != nil {
			return err
		}
	}
	_, _ = b.WriteString("]\n")
	return b.Flush()
}

func count(do func(context.Context) (int, error)) call {
	return func(ctx context.Context, _ args) (any, error) {
		n, err := do(ctx)
		return Count{n}, err
	}
}

func (i *Identity) hide()    { i.Secret, i.Password, i.PPKSecret = "", "", "" }
func (s *InstalledSA) hide() { s.AuthKey, s.EncKey = "", "" }

// Handler answers the calls of a Client from b.
func Handler(b Backend) http.Handler {
	mux := http.NewServeMux()
	for pattern, call := range calls(b) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			a, err := readArgs(w, r)
			if err != nil {
				status := http.StatusBadRequest
				if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
					status = http.StatusRequestEntityTooLarge
				}
				answer(w, status, failure{err.Error()})
				return
			}
			v, err := call(r.Context(), a)
			if err != nil {
				answer(w, http.StatusInternalServerError, failure{err.Error()})
				return
			}
			answer(w, http.StatusOK, v)
		})
	}
	return mux
}

// failure is the answer to a call that failed.
type failure struct {
	Error string `json:"error"`
}

func readArgs(w http.ResponseWriter, r *http.Request) (a args, err error) {
	if r.Method != http.MethodPost {
		if s := r.URL.Query().Get("show-secrets"); s != "" {
			if a.ShowSecrets, err = strconv.ParseBool(s); err != nil {
				return a, fmt.Errorf("show-secrets is %q: write true or false", s)
			}
		}
		return a, nil
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
	d.DisallowUnknownFields()
	if err := d.Decode(&a); err != nil && !errors.Is(err, io.EOF) {
		return a, fmt.Errorf("request: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return a, fmt.Errorf("request: more than one JSON value: %w", err)
	}
	return a, nil
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if t, ok := v.(interface{ write(io.Writer) error }); ok {
		_ = t.write(w) // the client went away: nobody is left to tell
		return
	}
	_ = json.NewEncoder(w).Encode(v)
}

// Serve answers on l until ctx is done, closes l and returns nil; calls that
// are under way get two seconds to finish. It returns earlier, with an error,
// if l fails.
func Serve(ctx context.Context, l net.Listener, b Backend) error {
	s := &http.Server{
		Handler:           Handler(b),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      callTimeout,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    maxRequest,
	}
	failed := make(chan error, 1)
	go func() { failed <- s.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("control socket %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if s.Shutdown(patience) != nil {
		_ = s.Close()
	}
	<-failed
	return nil
}
