package main

import (
	"context"
	"fmt"
	"strings"
)

// A peer is one kind of tunnel. start starts both gateways of a site, and returns when
// they are ready; whether packets pass is then tried by reach.
type peer struct {
	name  string
	about string
	start func(ctx context.Context, h *harness, s *site, o options) error
}

// options are what a cell asks of a tunnel.
type options struct {
	cipher        *cipher // nil: AES-256-GCM, and what a peer without a choice has
	tunnels       int     // 0 is one for the whole networks
	lifebytes     int64   // of a CHILD SA; 0 is no limit
	encapsulation string  // of Culvert; "": its default
	workers       int     // likewise; 0: its default
}

// reference is the peer that ratios are beside.
const reference = "wireguard-go"

var peers = []peer{
	{"culvert", "default configuration, AES-256-GCM", culvertPeer(plain, "")},
	{"culvert-udp", "encapsulation = \"udp\"", culvertPeer(plain, "udp")},
	{"culvert-raw", "encapsulation = \"raw\": protocol 50", culvertPeer(plain, "raw")},
	{"culvert-null", "encapsulation = \"udp\", a build whose AES-GCM computes nothing", culvertPeer(null, "udp")},
	{"culvert-workers", "encapsulation = \"udp\", workers = 2", culvertWorkers},
	{"culvert-before", "the binary that -before names", culvertPeer(before, "")},
	{reference, "ChaCha20-Poly1305, its only cipher", startWireGuard},
	{"strongswan", "userspace ESP (kernel-libipsec), AES-256-GCM", startStrongSwans},
	{"culvert-strongswan", "Culvert sends, strongSwan's userspace ESP receives", startMixed},
	{"openvpn", "AES-256-GCM, --disable-dco", startOpenVPN},
	{"veth", "no tunnel", startVeth},
}

func peerNamed(name string) *peer {
	for i := range peers {
		if peers[i].name == name {
			return &peers[i]
		}
	}
	return nil
}

// startVeth routes the networks over the wire as they are.
func startVeth(ctx context.Context, _ *harness, s *site, _ options) error {
	for i, n := range s.ends {
		far := s.ends[1-i]
		if _, err := output(ctx, "ip", "-n", n.ns, "route", "add", far.net, "via", far.outer, "src", n.inner); err != nil {
			return err
		}
	}
	return nil
}

// A cipher is one that Culvert and, where it has a name there, strongSwan can use.
type cipher struct {
	name       string
	enc, auth  string // in a proposal of Culvert
	strongswan string // in esp_proposals; "": not measured
}

var ciphers = []cipher{
	{"aes-128-gcm", "aes-128-gcm", "", "aes128gcm16"},
	{"aes-256-gcm", "aes-256-gcm", "", "aes256gcm16"},
	{"chacha20-poly1305", "chacha20-poly1305", "", "chacha20poly1305"},
	{"aes-128-cbc+sha1", "aes-128-cbc", "sha1", "aes128-sha1"},
	{"aes-128-cbc+sha256", "aes-128-cbc", "sha256", "aes128-sha256"},
	{"aes-256-cbc+sha256", "aes-256-cbc", "sha256", "aes256-sha256"},
	{"aes-256-cbc+sha512", "aes-256-cbc", "sha512", "aes256-sha512"},
	{"aes-256-ctr+sha256", "aes-256-ctr", "sha256", "aes256ctr-sha256"},
	{"aes-128-gmac", "aes-128-gmac", "", ""},
	{"aes-256-ccm", "aes-256-ccm", "", "aes256ccm16"},
	{"camellia-256+sha256", "camellia-256", "sha256", "camellia256-sha256"},
	{"3des+sha1", "3des", "sha1", "3des-sha1"},
}

// usual is the cipher of a cell that asks for none.
var usual = &ciphers[1]

func (o options) useCipher() *cipher {
	if o.cipher != nil {
		return o.cipher
	}
	return usual
}

// bring makes a site with the peer's gateways, and tries it until packets pass.
func (h *harness) bring(ctx context.Context, p *peer, o options) (*site, error) {
	s, err := newSite(ctx, h.dir, p.name, h.nice)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	h.keep(s)
	if err := p.start(ctx, h, s, o); err != nil {
		s.close()
		return nil, fmt.Errorf("%s: %w", p.name, err)
	}
	if err := s.alive(ctx, h.patience, func() error { return h.reach(ctx, s, s.ends[1].inner) }); err != nil {
		s.close()
		return nil, fmt.Errorf("%s: no packet passes: %w", p.name, err)
	}
	return s, nil
}

// reach sends one echo request through the tunnel.
func (h *harness) reach(ctx context.Context, s *site, to string) error {
	_, err := output(ctx, "ip", "netns", "exec", s.ends[0].ns, "ping", "-c1", "-W1", "-I", strings.Replace(to, "10.2.", "10.1.", 1), to)
	return err
}
