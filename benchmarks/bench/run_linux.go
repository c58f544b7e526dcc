package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// harness is one run.
type harness struct {
	dir, root, self string
	binaries        map[string]string // by what they are for
	versions        map[string]string // of the peers

	cells  []*cell
	peers  []*peer
	rounds int

	seconds  time.Duration // that a cell is measured
	patience time.Duration // with a gateway that shall come up
	quick    bool

	loss, near float64 // of the searches
	again      int
	nice       int

	mu    sync.Mutex
	sites []*site

	progress *progress
	rows     []*row
	failures []string
}

// wants says whether the peer is measured.
func (h *harness) wants(name string) bool {
	return slices.ContainsFunc(h.peers, func(p *peer) bool { return p.name == name })
}

// of are the peers of a cell that are measured.
func (h *harness) of(c *cell) (out []*peer) {
	who := c.peers
	if who == nil {
		who = common
	}
	for _, p := range h.peers {
		if slices.Contains(who, p.name) {
			out = append(out, p)
		}
	}
	return out
}

// keep has cleanUp close the site.
func (h *harness) keep(s *site) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sites = append(h.sites, s)
}

// cleanUp ends every process and removes every namespace and file.
func (h *harness) cleanUp() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sites {
		s.close()
	}
	_ = os.RemoveAll(h.dir)
}

// prepare builds and finds the programs.
func (h *harness) prepare(ctx context.Context) error {
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("go env: %w", err)
	}
	h.root = filepath.Dir(strings.TrimSpace(string(mod)))
	fmt.Println("building")
	if err := h.buildCulvert(ctx); err != nil {
		return err
	}
	if err := h.buildWireGuard(ctx); err != nil {
		return err
	}
	if h.wants("strongswan") || h.wants("culvert-strongswan") {
		if err := h.copyPrograms(); err != nil {
			return err
		}
	}
	if h.wants("openvpn") {
		if h.binaries["openvpn"], err = exec.LookPath("openvpn"); err != nil {
			return fmt.Errorf("%w: install openvpn", err)
		}
	}
	return nil
}

// run measures all rounds. What fails is noted and the rest goes on; only the end of
// the context ends it.
func (h *harness) run(ctx context.Context) error {
	for round := 1; round <= h.rounds; round++ {
		if err := h.round(ctx, round); err != nil {
			return err
		}
	}
	return nil
}

func (h *harness) fail(cell, peer string, round int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failures = append(h.failures, fmt.Sprintf("%s, %s, round %d: %v", cell, peer, round, err))
}

func (h *harness) round(ctx context.Context, round int) error {
	shared, err := h.bringShared(ctx, round)
	if err != nil {
		return err
	}
	defer func() {
		for _, s := range shared {
			s.close()
		}
	}()
	for _, c := range h.cells {
		h.progress.begin(round, c)
		// Who goes first changes from round to round.
		who := h.of(c)
		for i := range who {
			p := who[(i+round-1)%len(who)]
			if c.own == nil && shared[p.name] == nil {
				continue // it did not start, which was said
			}
			figures, err := h.cell(ctx, c, p, shared[p.name])
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				h.fail(c.name, p.name, round, err)
				h.progress.failed(p.name)
				continue
			}
			h.rows = collect(h.rows, c.name, p.name, round, figures)
			h.progress.measured(p.name, figures)
		}
		h.progress.end()
	}
	return nil
}

// bringShared brings up, all at once, the peers of the cells that have no sites of
// their own. Those that fail are left out.
func (h *harness) bringShared(ctx context.Context, round int) (map[string]*site, error) {
	shared := map[string]*site{}
	need := map[string]*peer{}
	for _, c := range h.cells {
		if c.own == nil {
			for _, p := range h.of(c) {
				need[p.name] = p
			}
		}
	}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, p := range need {
		all.Go(func() {
			s, err := h.bring(ctx, p, options{})
			if err != nil {
				h.fail("start", p.name, round, err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			shared[p.name] = s
		})
	}
	all.Wait()
	if err := ctx.Err(); err != nil {
		for _, s := range shared {
			s.close()
		}
		return nil, err
	}
	return shared, nil
}

// cell measures one cell of one peer.
func (h *harness) cell(ctx context.Context, c *cell, p *peer, s *site) ([]figure, error) {
	if c.own != nil {
		o := *c.own
		if h.quick {
			o.lifebytes /= 32
		}
		var err error
		if s, err = h.bring(ctx, p, o); err != nil {
			return nil, err
		}
		defer s.close()
	}
	defer context.AfterFunc(ctx, s.close)()
	figures, err := c.measure(ctx, h, s)
	if err != nil {
		for _, g := range s.gates {
			err = errors.Join(err, g.ended())
		}
		return nil, err
	}
	return figures, nil
}
