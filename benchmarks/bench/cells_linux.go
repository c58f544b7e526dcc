package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// A cell is one thing that is measured. Those without own are measured on sites that
// stay up for a round; the others bring up their own.
type cell struct {
	name  string
	about string
	peers []string // nil: all that carry everything
	own   *options
	// measure returns the figures of the site.
	measure func(ctx context.Context, h *harness, s *site) ([]figure, error)
	slow    bool // QUICK leaves it out
}

// common are the peers of a cell that names none.
var common = []string{"culvert", "culvert-udp", "culvert-raw", "culvert-null", "culvert-workers", before, reference, "strongswan", "culvert-strongswan", "openvpn", "veth"}

var cells = slices.Concat([]cell{
	{name: "tcp1", about: "TCP, one stream", measure: tcp(1, 0)},
	{name: "tcp4", about: "TCP, 4 streams", measure: tcp(4, 0)},
	{name: "tcp128", about: "TCP, 128 streams", measure: tcp(128, 0)},
	{name: "tcp4both", about: "TCP, 4 streams each way at once, sum", measure: tcp(4, 4)},
	{name: "udp64", about: "UDP, payloads of 64 bytes: the highest rate with less than 1 % lost", measure: udp(0, false, 64)},
	{name: "udp512", about: "UDP, payloads of 512 bytes, likewise", measure: udp(0, false, 512)},
	{name: "udp1300", about: "UDP, payloads of 1300 bytes, likewise", measure: udp(0, false, 1300)},
	{name: "udpimix", about: "UDP, likewise, with 7 packets of 64, 4 of 576 and 1 of 1400 bytes, as IP has them", measure: udp(0, false, imix...)},
	{name: "quic", about: "UDP, likewise, as QUIC sends: 16 datagrams of 1252 bytes in one call (USO), joined by the receiver (GRO)", measure: udp(16, true, 1252)},
	{name: "idle", about: "round trips of echo requests, nothing else on the tunnel", measure: latency(0)},
	{name: "loaded", about: "round trips of echo requests while 4 TCP streams fill the tunnel", measure: latency(4)},
}, cipherCells(), tunnelCells(), []cell{
	{name: "rekey", about: "a steady UDP stream over CHILD SAs that are rekeyed again and again, beside 4 TCP streams that fill the tunnel: packets lost",
		peers: []string{"culvert", "culvert-udp"}, own: &options{lifebytes: rekeyBytes}, measure: rekey},
})

// imix is 7:4:1 in an order that spreads them; the sizes are UDP payloads.
var imix = []int{36, 548, 36, 36, 548, 36, 1372, 36, 548, 36, 36, 548}

func cipherCells() (out []cell) {
	for i := range ciphers {
		k := &ciphers[i]
		who := []string{"culvert-udp"}
		quick := slices.Contains([]string{"aes-128-gcm", "chacha20-poly1305", "aes-256-cbc+sha256"}, k.name)
		if k.strongswan != "" {
			who = append(who, "strongswan")
		}
		out = append(out, cell{name: "cipher-" + k.name, about: "TCP, one stream, with " + k.name, peers: who, own: &options{cipher: k}, measure: tcp(1, 0), slow: !quick})
	}
	return out
}

func tunnelCells() (out []cell) {
	for _, n := range []int{1, 100, 10_000} {
		out = append(out, cell{name: fmt.Sprintf("tunnels%d", n), about: fmt.Sprintf("16 TCP streams over %d policies and CHILD SAs, with a trickle of UDP through each", n),
			peers: []string{"culvert", "culvert-udp"}, own: &options{tunnels: n}, measure: tunnels(n), slow: n > 1000})
	}
	return out
}

func cellNamed(name string) *cell {
	for i := range cells {
		if cells[i].name == name {
			return &cells[i]
		}
	}
	return nil
}

// warm is how long traffic flows before it counts.
func (h *harness) warm() time.Duration { return min(h.seconds/2, time.Second) }

// load is TCP traffic through a site.
type load struct {
	site         *site
	server, send *generator
}

// startLoad makes the connections; data flows when it returns.
func (h *harness) startLoad(s *site, j job) (*load, error) {
	l := &load{site: s}
	var err error
	if l.server, err = s.ends[1].generate(h.self, job{Role: "tcp-server", Streams: j.Streams, Reverse: j.Reverse}); err != nil {
		return nil, err
	}
	j.Role = "tcp-client"
	if l.send, err = s.ends[0].generate(h.self, j); err != nil {
		l.server.kill()
		return nil, err
	}
	return l, nil
}

func (l *load) stop() {
	l.send.kill()
	l.server.kill()
}

// measure counts what both ends receive in a window, and the gateways' processor time.
// A machine with other work may bring nothing through in a short one: then longer ones
// are tried.
func (l *load) measure(ctx context.Context, warm, span time.Duration) (gbit, cpuPerGbit float64, err error) {
	for range 6 {
		if gbit, cpuPerGbit, err = l.window(ctx, warm, span); err != nil || gbit > 0 {
			return gbit, cpuPerGbit, err
		}
		span *= 2
	}
	return 0, 0, fmt.Errorf("nothing arrived in %v", span/2)
}

func (l *load) window(ctx context.Context, warm, span time.Duration) (gbit, cpuPerGbit float64, err error) {
	w := window{From: time.Now().Add(warm)}
	w.To = w.From.Add(span)
	for _, g := range []*generator{l.server, l.send} {
		if err := g.tell(w); err != nil {
			return 0, 0, err
		}
	}
	if err := sleep(ctx, time.Until(w.From)); err != nil {
		return 0, 0, err
	}
	before, err := l.site.cpus()
	if err != nil {
		return 0, 0, err
	}
	if err := sleep(ctx, time.Until(w.To)); err != nil {
		return 0, 0, err
	}
	after, err := l.site.cpus()
	if err != nil {
		return 0, 0, err
	}
	bits := 0.0
	for _, g := range []*generator{l.server, l.send} {
		var r received
		if err := g.answer(&r, span); err != nil {
			return 0, 0, err
		}
		bits += float64(r.Bytes) * 8
	}
	if bits == 0 {
		return 0, 0, nil
	}
	return bits / 1e9 / span.Seconds(), (after - before).Seconds() / (bits / 1e9), nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// tcp measures streams from the first end to the second, and back.
func tcp(streams, reverse int) func(context.Context, *harness, *site) ([]figure, error) {
	return func(ctx context.Context, h *harness, s *site) ([]figure, error) {
		l, err := h.startLoad(s, job{Streams: streams, Reverse: reverse})
		if err != nil {
			return nil, err
		}
		defer l.stop()
		gbit, cpu, err := l.measure(ctx, h.warm(), h.seconds)
		return tcpFigures(s, gbit, cpu), err
	}
}

func tcpFigures(s *site, gbit, cpu float64) []figure {
	out := []figure{{Name: "Gbit/s", Value: gbit}}
	if len(s.gates) > 0 {
		out = append(out, figure{Name: "CPU s/Gbit", Value: cpu, Lower: true})
	}
	return out
}

// A stream is UDP traffic through a site.
type stream struct {
	source, sink *generator
	trial        uint32
}

func (h *harness) startStream(s *site, source, sink job) (*stream, error) {
	u := &stream{}
	var err error
	sink.Role, source.Role = "udp-sink", "udp-source"
	if u.sink, err = s.ends[1].generate(h.self, sink); err != nil {
		return nil, err
	}
	if u.source, err = s.ends[0].generate(h.self, source); err != nil {
		u.sink.kill()
		return nil, err
	}
	return u, nil
}

func (u *stream) stop() {
	u.source.kill()
	u.sink.kill()
}

// late is how much later than it was sent a datagram may arrive.
const late = 20 * time.Millisecond

// send offers a rate for a time, and says what arrived until a moment later: what a
// queue gives out later than that is lost.
func (u *stream) send(rate float64, span, late time.Duration) (sent, arrived, error) {
	var s sent
	var a arrived
	u.trial++
	if err := u.source.ask(send{u.trial, rate, span}, &s, span); err != nil {
		return s, a, err
	}
	err := u.sink.ask(count{u.trial, time.Now().Add(late)}, &a, late)
	return s, a, err
}

// udp searches the highest rate with less than 1 % lost.
func udp(burst int, gro bool, sizes ...int) func(context.Context, *harness, *site) ([]figure, error) {
	return func(ctx context.Context, h *harness, s *site) ([]figure, error) {
		u, err := h.startStream(s, job{Sizes: sizes, Burst: burst}, job{GRO: gro})
		if err != nil {
			return nil, err
		}
		defer u.stop()
		span := min(time.Second, h.seconds/3)
		bits := 0.0
		find := search{Start: 20_000, Most: 4_000_000, Loss: h.loss, Near: h.near, Again: h.again}
		rate, err := find.highest(func(rate float64) (float64, float64, error) {
			if err := ctx.Err(); err != nil {
				return 0, 0, err
			}
			s, a, err := u.send(rate, span, late)
			if err != nil || s.Datagrams == 0 {
				return 0, 1, err
			}
			bits = float64(s.Bytes) * 8 / float64(s.Datagrams)
			// What is still on its way from the last trial must not meet the next.
			err = sleep(ctx, span/10)
			return float64(s.Datagrams) / s.Took.Seconds(), 1 - float64(a.Datagrams)/float64(s.Datagrams), err
		})
		if err == nil && rate == 0 {
			err = fmt.Errorf("of every rate of UDP more than %.0f %% is lost", h.loss*100)
		}
		return []figure{{Name: "kpps", Value: rate / 1000}, {Name: "Gbit/s", Value: rate * bits / 1e9, NoPlot: burst == 0}}, err
	}
}

// latency measures round trips, beside TCP streams if there are any.
func latency(streams int) func(context.Context, *harness, *site) ([]figure, error) {
	return func(ctx context.Context, h *harness, s *site) ([]figure, error) {
		if streams > 0 {
			l, err := h.startLoad(s, job{Streams: streams})
			if err != nil {
				return nil, err
			}
			defer l.stop()
			if err := sleep(ctx, h.warm()); err != nil {
				return nil, err
			}
		}
		g, err := s.ends[0].generate(h.self, job{Role: "ping"})
		if err != nil {
			return nil, err
		}
		defer g.kill()
		var e echoed
		if err := g.ask(echo{h.seconds, 2 * time.Millisecond}, &e, h.seconds); err != nil {
			return nil, err
		}
		if len(e.Trips) == 0 {
			return nil, fmt.Errorf("no answer to %d echo requests", e.Sent)
		}
		ms := func(p float64) float64 { return float64(percentile(e.Trips, p)) / 1e6 }
		return []figure{
			{Name: "p50 ms", Value: ms(50), Lower: true}, {Name: "p99 ms", Value: ms(99), Lower: true},
			{Name: "lost %", Value: 100 * (1 - float64(len(e.Trips))/float64(e.Sent)), Lower: true, NoPlot: true},
		}, nil
	}
}

// tunnels measures 16 streams over evenly chosen tunnels while datagrams go through
// all of them, and the memory of both gateways.
func tunnels(n int) func(context.Context, *harness, *site) ([]figure, error) {
	return func(ctx context.Context, h *harness, s *site) ([]figure, error) {
		memory := 0.0
		for _, p := range s.gates {
			m, err := p.resident()
			if err != nil {
				return nil, err
			}
			memory += m / float64(len(s.gates))
		}
		u, err := h.startStream(s, job{Sizes: []int{256}, Tunnels: n}, job{Tunnels: n})
		if err != nil {
			return nil, err
		}
		defer u.stop()
		// Once through all of them: each has to carry. A busy machine sends fewer than the
		// rate, and loses some, so that there is time for twice as many, and three tries.
		rate, through := 5000.0, 0
		for range 3 {
			_, a, err := u.send(rate, time.Duration(2*float64(n)/rate*float64(time.Second))+200*time.Millisecond, 200*time.Millisecond)
			if err != nil {
				return nil, err
			}
			if through = a.Tunnels; through == n {
				break
			}
		}
		if through < n {
			return nil, fmt.Errorf("datagrams came through %d of %d tunnels", through, n)
		}
		l, err := h.startLoad(s, job{Streams: 16, Tunnels: n})
		if err != nil {
			return nil, err
		}
		defer l.stop()
		if err := u.source.tell(send{u.trial + 1, rate, h.warm() + h.seconds}); err != nil {
			return nil, err
		}
		gbit, cpu, err := l.measure(ctx, h.warm(), h.seconds)
		if err != nil {
			return nil, err
		}
		if err := u.source.answer(new(sent), h.warm()+h.seconds); err != nil {
			return nil, err
		}
		return append(tcpFigures(s, gbit, cpu), figure{Name: "MiB", Value: memory / (1 << 20), Lower: true}), nil
	}
}

// rekeyBytes is after how many bytes a CHILD SA of the cell is rekeyed. At this rate it
// begins when about half is used (sad), so that at 6 Gbit/s there is half a second for it.
const rekeyBytes = 1 << 30

// rekey counts what is lost of a UDP stream while CHILD SAs are replaced under it, for
// the time of a cell and until it has happened once. TCP fills the tunnel and gives
// way; the gateways' counters tell what was dropped for want of an SA from what queues drop.
func rekey(ctx context.Context, h *harness, s *site) ([]figure, error) {
	before, seen, err := s.rekeyState(ctx)
	if err != nil {
		return nil, err
	}
	u, err := h.startStream(s, job{Sizes: []int{256}}, job{})
	if err != nil {
		return nil, err
	}
	defer u.stop()
	l, err := h.startLoad(s, job{Streams: 4})
	if err != nil {
		return nil, err
	}
	defer l.stop()
	lost, drops, rekeys := 0.0, 0.0, 0
	for start := time.Now(); time.Since(start) < h.seconds || rekeys == 0; {
		sent, arrived, err := u.send(2000, 250*time.Millisecond, 500*time.Millisecond)
		if err != nil {
			return nil, err
		}
		lost += float64(sent.Datagrams) - float64(arrived.Datagrams)
		now, spis, err := s.rekeyState(ctx)
		if err != nil {
			return nil, err
		}
		maps.Copy(seen, spis)
		drops, rekeys = now-before, len(seen)/2-1 // a pair was there at the beginning
		if time.Since(start) > h.seconds+2*h.patience {
			return nil, fmt.Errorf("no CHILD SA was rekeyed in %v", time.Since(start).Round(time.Second))
		}
	}
	return []figure{
		{Name: "rekeys", Value: float64(rekeys), NoPlot: true},
		{Name: "UDP lost", Value: lost, Lower: true, NoPlot: true},
		{Name: "dropped for want of an SA", Value: drops, Lower: true, NoPlot: true},
	}, nil
}

// rekeyCounters are the reasons for which a gateway drops what a rekey did wrong.
var rekeyCounters = []string{"in-no-states", "in-state-expired", "in-state-invalid", "out-no-states", "out-state-expired"}

// rekeyState is how many packets the gateways dropped for such a reason, and the SPIs
// of the first one.
func (s *site) rekeyState(ctx context.Context) (drops float64, spis map[string]bool, err error) {
	spis = map[string]bool{}
	for i, c := range s.culv {
		rows, err := c.print(ctx, "statistics")
		if err != nil {
			return 0, nil, err
		}
		for _, r := range rows {
			name, _ := r["name"].(string)
			value, _ := r["value"].(float64)
			if slices.Contains(rekeyCounters, name) {
				drops += value
			}
		}
		if i > 0 {
			continue
		}
		if rows, err = c.print(ctx, "installed-sa"); err != nil {
			return 0, nil, err
		}
		for _, r := range rows {
			spis[fmt.Sprint(r["spi"])] = true
		}
	}
	return drops, spis, nil
}
