package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// The binaries of Culvert that are measured.
const (
	plain  = "culvert"
	null   = "culvert-null"
	before = "culvert-before"
)

// culvert is a gateway of ours on a node.
type culvert struct {
	*process
	binary, control string
}

// nullGCM takes the place of crypto/aead/gcm.go in the build of the NULL tunnel: what
// a tunnel costs beside its cipher. No configuration can have it.
//
//go:embed testdata/null_gcm.go.txt
var nullGCM []byte

// buildCulvert compiles the binary, and the one of the NULL tunnel.
func (h *harness) buildCulvert(ctx context.Context) error {
	if h.binaries[plain] == "" {
		h.binaries[plain] = filepath.Join(h.dir, plain)
		if err := h.goBuild(ctx, h.binaries[plain]); err != nil {
			return err
		}
	}
	if !h.wants("culvert-null") {
		return nil
	}
	source, overlay := filepath.Join(h.dir, "null_gcm.go"), filepath.Join(h.dir, "overlay.json")
	text, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(h.root, "crypto", "aead", "gcm.go"): source}})
	if err != nil {
		return err
	}
	for path, data := range map[string][]byte{source: nullGCM, overlay: text} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
	}
	h.binaries[null] = filepath.Join(h.dir, null)
	return h.goBuild(ctx, h.binaries[null], "-overlay", overlay)
}

func (h *harness) goBuild(ctx context.Context, to string, flags ...string) error {
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build", "-trimpath", "-o", to}, flags...), "./cmd/culvert")...)
	cmd.Dir = h.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build culvert: %w\n%s", err, tail(string(out)))
	}
	return nil
}

// culvertPeer is two gateways of ours of the same binary.
func culvertPeer(binary, encapsulation string) func(context.Context, *harness, *site, options) error {
	return func(ctx context.Context, h *harness, s *site, o options) error {
		if o.encapsulation == "" {
			o.encapsulation = encapsulation
		}
		for i := range s.ends {
			if err := h.startCulvert(ctx, s, i, binary, o); err != nil {
				return err
			}
		}
		return s.established(ctx, h.patience+o.startTime(), max(1, o.tunnels))
	}
}

// culvertWorkers is two gateways with two lines each.
func culvertWorkers(ctx context.Context, h *harness, s *site, o options) error {
	o.workers = 2
	return culvertPeer(plain, "udp")(ctx, h, s, o)
}

func (h *harness) startCulvert(ctx context.Context, s *site, i int, binary string, o options) error {
	n, far := s.ends[i], s.ends[1-i]
	if err := n.wireAddresses(ctx, far, o.peers()); err != nil {
		return err
	}
	c := &culvert{binary: h.binaries[binary], control: filepath.Join(n.dir, "control")}
	conf := filepath.Join(n.dir, "site.toml")
	if err := os.WriteFile(conf, []byte(culvertTOML(n, far, o)), 0o600); err != nil {
		return err
	}
	var err error
	if c.process, err = n.start("culvert", nil, c.binary, "--control", c.control, "run", "-c", conf); err != nil {
		return err
	}
	s.gates, s.culv[i] = append(s.gates, c.process), c
	return s.alive(ctx, h.patience+o.startTime(), func() error {
		_, err := c.print(ctx, "active-peers")
		return err
	})
}

// psk is what the ends of every tunnel that wants one know.
const psk = "5f0b1c6d3a9e4f7788d2c4b6a1907e35"

// culvertTOML is a configuration. What is not about names, keys and addresses is the default.
func culvertTOML(n, far *node, o options) string {
	var b strings.Builder
	fmt.Fprintf(&b, "[gateway]\nstate-dir = %q\nlog-level = \"warn\"\n", filepath.Join(n.dir, "state"))
	if o.encapsulation != "" {
		fmt.Fprintf(&b, "encapsulation = %q\n", o.encapsulation)
	}
	if o.workers > 0 {
		fmt.Fprintf(&b, "workers = %d\n", o.workers)
	}
	fmt.Fprintf(&b, `[[profile]]
name = "bench"
dh-group = "x25519"
enc-algorithm = "aes-256"
hash-algorithm = "sha256"
`)
	for p := range o.peers() {
		fmt.Fprintf(&b, "[[peer]]\nname = %q\naddress = \"%s/32\"\nlocal-address = %q\nexchange-mode = \"ike2\"\nprofile = \"bench\"\n",
			peerName(p), far.wireAddr(p), n.wireAddr(p))
		if n.n == 2 {
			b.WriteString("passive = true\n")
		}
		fmt.Fprintf(&b, "[[identity]]\npeer = %q\nsecret = %q\n", peerName(p), psk)
	}
	k := o.useCipher()
	fmt.Fprintf(&b, "[[proposal]]\nname = \"bench\"\nenc-algorithms = %q\npfs-group = \"none\"\nlifetime = \"1d\"\n", k.enc)
	if k.auth != "" {
		fmt.Fprintf(&b, "auth-algorithms = %q\n", k.auth)
	}
	if o.lifebytes > 0 {
		fmt.Fprintf(&b, "lifebytes = %d\n", o.lifebytes)
	}
	for t := range max(1, o.tunnels) {
		src, dst := n.net, far.net
		if o.tunnels > 0 {
			src, dst = tunnelAddr(n.n, t)+"/32", tunnelAddr(far.n, t)+"/32"
		}
		fmt.Fprintf(&b, "[[policy]]\npeer = %q\nproposal = \"bench\"\ntunnel = true\nsrc-address = %q\ndst-address = %q\n",
			peerName(t/tunnelsOfPeer), src, dst)
		if o.tunnels > 0 {
			b.WriteString("level = \"unique\"\n")
		}
	}
	return b.String()
}

// tunnelsOfPeer is how many CHILD SAs an IKE SA gets: a gateway takes 256 of one, and
// some are to be left for rekeys.
const tunnelsOfPeer = 200

// peers is how many peers each gateway has.
func (o options) peers() int { return max(1, (o.tunnels+tunnelsOfPeer-1)/tunnelsOfPeer) }

// startTime is how much longer than others a gateway with many tunnels may need.
func (o options) startTime() time.Duration { return time.Duration(o.tunnels) * 20 * time.Millisecond }

func peerName(p int) string { return fmt.Sprintf("far%d", p) }

// wireAddr is the address of an end for its peer p, from 0.
func (n *node) wireAddr(p int) string {
	if p == 0 {
		return n.outer
	}
	return fmt.Sprintf("198.%d.0.%d", 17+n.n, p)
}

// wireAddresses gives the node an address for each of so many peers, and the way to those
// of the far end.
func (n *node) wireAddresses(ctx context.Context, far *node, peers int) error {
	if peers == 1 {
		return nil
	}
	var batch strings.Builder
	for p := 1; p < peers; p++ {
		fmt.Fprintf(&batch, "addr add %s/32 dev lo\nroute add %s/32 via %s\n", n.wireAddr(p), far.wireAddr(p), far.outer)
	}
	file := filepath.Join(n.dir, "addresses")
	if err := os.WriteFile(file, []byte(batch.String()), 0o600); err != nil {
		return err
	}
	_, err := output(ctx, "ip", "-n", n.ns, "-batch", file)
	return err
}

// tunnelAddr is the address at an end, 1 or 2, of a tunnel, from 0.
func tunnelAddr(end, tunnel int) string {
	tunnel++
	return fmt.Sprintf("10.%d.%d.%d", end, tunnel>>8, tunnel&0xff)
}

// established waits until the gateways have so many CHILD SAs.
func (s *site) established(ctx context.Context, limit time.Duration, children int) error {
	return s.alive(ctx, limit, func() error {
		for _, c := range s.culv {
			if c == nil {
				continue
			}
			rows, err := c.print(ctx, "active-peers")
			if err != nil {
				return err
			}
			up := 0.0
			for _, r := range rows {
				if n, ok := r["ph2-total"].(float64); ok {
					up += n
				}
			}
			if int(up) < children {
				return fmt.Errorf("%d of %d CHILD SAs are up", int(up), children)
			}
		}
		return nil
	})
}

// print is what a print menu of the gateway has.
func (c *culvert) print(ctx context.Context, menu string) (rows []map[string]any, err error) {
	out, err := exec.CommandContext(ctx, c.binary, "--control", c.control, menu, "print", "--json").Output()
	if err != nil {
		return nil, fmt.Errorf("culvert %s print: %w", menu, err)
	}
	return rows, json.Unmarshal(out, &rows)
}
