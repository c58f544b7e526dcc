package main

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"culvert/config"
	ikesa "culvert/ike/sa"
)

func TestStale(t *testing.T) {
	list := "cvbench12-3a (id: 4)\ncvbench12-3b\ncvbench7-1a\nlab12-1-a (id: 2)\ncvbenchx-1a\n\n"
	got := stale(list, func(pid int) bool { return pid == 7 })
	if !slices.Equal(got, []string{"cvbench12-3a", "cvbench12-3b"}) {
		t.Errorf("%q", got)
	}
}

func TestParseStat(t *testing.T) {
	line := "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 123 45 7 8 20 0 11 0 5 6 7"
	if got, err := parseStat(line); err != nil || got != 1680*time.Millisecond {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "42 (a) S 1", "42 a S 1 42 42 0 -1 4194560 100 0 0 0 1 4 7 8", strings.Replace(line, "123", "x", 1)} {
		if got, err := parseStat(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

// The processor time that is read is that of a process that computes.
func TestCPUOfAProcess(t *testing.T) {
	cmd := exec.Command("sh", "-c", "while :; do :; done")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	for {
		switch d, err := p.cpu(); {
		case err != nil:
			t.Fatal(err)
		case d > 0:
			if m, err := p.resident(); err != nil || m < 64<<10 {
				t.Errorf("resident memory %v, %v", m, err)
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestEcho(t *testing.T) {
	request := echoRequest(0x1234, 7)
	sum := uint32(0)
	for i := 0; i < len(request); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(request[i:]))
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	if sum != 0xffff {
		t.Errorf("the checksum does not verify: %#x", sum)
	}
	packet := append([]byte{0x46, 23: 0}, request...) // a header with options
	packet[24] = 0
	if seq, ok := echoReply(packet, 0x1234); !ok || seq != 7 {
		t.Errorf("%d, %v", seq, ok)
	}
	if _, ok := echoReply(packet, 0x1235); ok {
		t.Error("the answer to another process counts")
	}
	packet[24] = 8
	if _, ok := echoReply(packet, 0x1234); ok {
		t.Error("a request counts as an answer")
	}
	for n := range 32 {
		if _, ok := echoReply(packet[:n], 0x1234); ok {
			t.Errorf("%d bytes are an answer", n)
		}
	}
}

func TestSegmentOf(t *testing.T) {
	control := make([]byte, unix.CmsgSpace(4))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&control[0]))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_GRO
	h.SetLen(unix.CmsgLen(4))
	binary.NativeEndian.PutUint32(control[unix.CmsgLen(0):], 1252)
	if got := segmentOf(control, 5000); got != 1252 {
		t.Errorf("%d", got)
	}
	if got := segmentOf(nil, 900); got != 900 {
		t.Errorf("without a control message: %d", got)
	}
	h.Type = unix.UDP_SEGMENT
	if got := segmentOf(control, 900); got != 900 {
		t.Errorf("another control message: %d", got)
	}
}

func TestTunnelAddresses(t *testing.T) {
	seen := map[string]bool{}
	for n := range 10_000 {
		text := tunnelAddr(2, n)
		b := tunnelBytes(2, n)
		if seen[text] || !bytes.Equal(inet(text, 0).Addr[:], b[:]) {
			t.Fatalf("tunnel %d: %s, %v", n, text, b)
		}
		seen[text] = true
	}
	if tunnelAddr(1, 0) != "10.1.0.1" || tunnelAddr(2, 0) != "10.2.0.1" {
		t.Error("the first tunnel is not that of the ends' own addresses")
	}
}

// IMIX is 7:4:1 packets of 64, 576 and 1400 bytes.
func TestIMIX(t *testing.T) {
	got := map[int]int{}
	for _, payload := range imix {
		got[payload+28]++
	}
	if len(got) != 3 || got[64] != 7 || got[576] != 4 || got[1400] != 1 {
		t.Errorf("%v", got)
	}
}

// Every cell has peers that exist, and each peer some cell.
func TestCellsAndPeers(t *testing.T) {
	used := map[string]bool{}
	for _, c := range cells {
		if c.measure == nil || c.about == "" || cellNamed(c.name) == nil {
			t.Errorf("%s is not whole", c.name)
		}
		who := c.peers
		if who == nil {
			who = common
		}
		for _, name := range who {
			if peerNamed(name) == nil {
				t.Errorf("%s: no peer %s", c.name, name)
			}
			used[name] = true
		}
	}
	for _, p := range peers {
		if !used[p.name] {
			t.Errorf("%s is measured in no cell", p.name)
		}
	}
}

// What culvert is given is a configuration that it accepts, of every cipher.
func TestConfigurations(t *testing.T) {
	a := &node{n: 1, inner: "10.1.0.1", net: "10.1.0.0/16", outer: "192.0.2.1", dir: t.TempDir()}
	b := &node{n: 2, inner: "10.2.0.1", net: "10.2.0.0/16", outer: "192.0.2.2", dir: t.TempDir()}
	all := []options{{}, {encapsulation: "raw"}, {tunnels: 3}, {tunnels: 10_000}, {lifebytes: rekeyBytes}}
	for i := range ciphers {
		all = append(all, options{cipher: &ciphers[i]})
	}
	for _, o := range all {
		for _, ends := range [][2]*node{{a, b}, {b, a}} {
			text := culvertTOML(ends[0], ends[1], o)
			path := filepath.Join(t.TempDir(), "site.toml")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			c, _, err := config.Load(path)
			if err != nil {
				t.Errorf("%+v: %v\n%s", o, err, text)
				continue
			}
			if want := max(1, o.tunnels); len(c.Policies) < want {
				t.Errorf("%+v: %d policies, want %d", o, len(c.Policies), want)
			}
			of := map[string]int{}
			for _, p := range c.Policies {
				if p.Peer != nil {
					of[p.Peer.Name]++
				}
			}
			for peer, n := range of {
				if n >= ikesa.MaxChildren {
					t.Errorf("%+v: %d policies of %s: an IKE SA has fewer CHILD SAs", o, n, peer)
				}
			}
		}
	}
}

func TestFingerprint(t *testing.T) {
	// The SHA-256 of nothing.
	if got := fingerprint(nil); !strings.HasPrefix(got, "E3:B0:C4:42:") || len(got) != 95 {
		t.Error(got)
	}
}
