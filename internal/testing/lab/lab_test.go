//go:build linux

package lab

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// swanConf is one end of a tunnel between 10.9.0.1 and 10.9.0.2, networks 10.1.0.0/24 and 10.2.0.0/24.
func swanConf(local, remote, localTS, remoteTS string) string {
	return fmt.Sprintf(`connections {
	t {
		version = 2
		local_addrs = %s
		remote_addrs = %s
		proposals = aes256-sha512-ecp256
		local {
			auth = psk
			id = %[1]s
		}
		remote {
			auth = psk
			id = %[2]s
		}
		children {
			c {
				local_ts = %[3]s
				remote_ts = %[4]s
				esp_proposals = aes128gcm16-x25519
			}
		}
	}
}
secrets {
	ike-1 {
		secret = "correct horse battery staple"
	}
}
`, local, remote, localTS, remoteTS)
}

// TestLabStrongSwanPair proves the lab without culvert: what the culvert tests
// read from the peer is there, and grows, when two strongSwans speak.
func TestLabStrongSwanPair(t *testing.T) {
	Need(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	l := New(t)
	a, b := l.Node("a"), l.Node("b")
	l.Wire(End{a, "eth0", netip.MustParsePrefix("10.9.0.1/24")}, End{b, "eth0", netip.MustParsePrefix("10.9.0.2/24")})
	innerA, innerB := netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.2.0.1")
	a.Inner(innerA)
	b.Inner(innerB)
	swanA := a.StrongSwan(ctx, swanConf("10.9.0.1", "10.9.0.2", "10.1.0.0/24", "10.2.0.0/24"))
	swanB := b.StrongSwan(ctx, swanConf("10.9.0.2", "10.9.0.1", "10.2.0.0/24", "10.1.0.0/24"))

	if err := swanA.InitiateChild(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	const size = 300_000
	if err := a.Transfer(ctx, innerA, b, innerB, size); err != nil {
		t.Fatal(err)
	}
	first := soleSA(t, ctx, swanB)
	if first.Encr != "AES_CBC" || first.KeySize != 256 || first.PRF != "PRF_HMAC_SHA2_512" || first.DH != "ECP_256" || first.Initiator {
		t.Errorf("the IKE SA is not what was asked for: %+v", first)
	}
	child := first.Children[0]
	if child.Encr != "AES_GCM_16" || child.KeySize != 128 || child.BytesIn < size || child.BytesOut < size {
		t.Errorf("the CHILD SA is not what was asked for, or did not count: %+v", child)
	}

	if err := swanB.RekeyChild(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	if err := Until(ctx, func() error {
		if c := soleSA(t, ctx, swanB).Children; len(c) != 1 || c[0].SPIIn == child.SPIIn || c[0].DH != "CURVE_25519" {
			return fmt.Errorf("no new CHILD SA with PFS: %+v", c)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}

	swanB.Kill()
	swanB.Restart(ctx)
	if sas, err := swanB.SAs(ctx); err != nil || len(sas) != 0 {
		t.Errorf("a charon that was killed knows SAs: %+v, %v", sas, err)
	}
	if err := swanB.InitiateChild(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	if err := a.Transfer(ctx, innerA, b, innerB, size); err != nil {
		t.Error(err)
	}
	if err := swanA.TerminateIKE(ctx, "t"); err != nil {
		t.Error(err)
	}
}

// TestLabEverythingTunnelled proves that strongSwan can be the peer of a policy
// for all addresses, the gateways' own included.
func TestLabEverythingTunnelled(t *testing.T) {
	Need(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	l := New(t)
	a, b := l.Node("a"), l.Node("b")
	l.Wire(End{a, "eth0", netip.MustParsePrefix("10.9.0.1/24")}, End{b, "eth0", netip.MustParsePrefix("10.9.0.2/24")})
	innerA, innerB := netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("198.51.100.7")
	a.Inner(innerA)
	b.Inner(innerB)
	swanA := a.StrongSwanOuterInTunnel(ctx, swanConf("10.9.0.1", "10.9.0.2", "0.0.0.0/0", "0.0.0.0/0"))
	b.StrongSwanOuterInTunnel(ctx, swanConf("10.9.0.2", "10.9.0.1", "0.0.0.0/0", "0.0.0.0/0"))
	if err := swanA.InitiateChild(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	const size = 300_000
	if err := a.Transfer(ctx, innerA, b, innerB, size); err != nil {
		t.Fatal(err)
	}
	if err := a.Transfer(ctx, netip.MustParseAddr("10.9.0.1"), b, netip.MustParseAddr("10.9.0.2"), size); err != nil {
		t.Fatal(err)
	}
	if c := soleSA(t, ctx, swanA).Children[0]; c.BytesIn < 2*size || c.BytesOut < 2*size {
		t.Errorf("a transfer went past the tunnel: %+v", c)
	}
}

func soleSA(t *testing.T, ctx context.Context, s *StrongSwan) IKESA {
	t.Helper()
	sas, err := s.SAs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(sas) != 1 || len(sas[0].Children) == 0 {
		t.Fatalf("%s has not one IKE SA with a CHILD SA: %+v", s.name, sas)
	}
	return sas[0]
}

// TestNAT proves that the NAT router hides who is behind it and lets nobody in.
func TestNAT(t *testing.T) {
	Need(t)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	l := New(t)
	in, nat, out := l.Node("in"), l.Node("nat"), l.Node("out")
	l.Wire(End{in, "eth0", netip.MustParsePrefix("192.168.7.2/24")}, End{nat, "in0", netip.MustParsePrefix("192.168.7.1/24")})
	l.Wire(End{nat, "out0", netip.MustParsePrefix("203.0.113.1/24")}, End{out, "eth0", netip.MustParsePrefix("203.0.113.2/24")})
	in.Run("ip", "route", "add", "default", "via", "192.168.7.1")
	nat.Masquerade("out0")

	if err := in.Transfer(ctx, netip.MustParseAddr("192.168.7.2"), out, netip.MustParseAddr("203.0.113.2"), 1000); err != nil {
		t.Errorf("through the NAT: %v", err)
	}
	// The way in is closed even to one who has a route.
	out.Run("ip", "route", "add", "192.168.7.0/24", "via", "203.0.113.1")
	short, cancelShort := context.WithTimeout(ctx, 2*time.Second)
	defer cancelShort()
	if err := out.Transfer(short, netip.MustParseAddr("203.0.113.2"), in, netip.MustParseAddr("192.168.7.2"), 1000); err == nil {
		t.Error("a connection came in through the NAT")
	}
}

func TestReceiveChecksTheHash(t *testing.T) {
	var b bytes.Buffer
	if err := send(&b, 5000); err != nil {
		t.Fatal(err)
	}
	sent := b.Bytes()
	if n, err := receive(bytes.NewReader(sent)); n != 5000 || err != nil {
		t.Fatalf("received %d bytes, %v", n, err)
	}
	for _, at := range []int{8, 2500, 5007, 5008, 5039} {
		bad := bytes.Clone(sent)
		bad[at] ^= 1
		if _, err := receive(bytes.NewReader(bad)); err == nil || !strings.Contains(err.Error(), "SHA-256") {
			t.Errorf("byte %d changed: %v", at, err)
		}
	}
	if _, err := receive(bytes.NewReader(sent[:4000])); err == nil {
		t.Error("a transfer that was cut short passed")
	}
}

// A machine is off the wire when its lab is closed, also if something of it lives on: a process, or a socket in its network.
// The next machine has its address, and neighbours would learn the old one's.
func TestClosedLabIsOffTheWire(t *testing.T) {
	Need(t)
	hub := New(t).Node("hub")
	hub.Run("ip", "link", "add", "br0", "up", "type", "bridge", "forward_delay", "0")
	hub.Run("ip", "addr", "add", "10.9.0.2/24", "dev", "br0")
	asks := func() error {
		_, err := hub.Try("sh", "-c", "ip neigh flush dev br0; timeout 2 ping -c 1 -W 1 10.9.0.1")
		return err
	}
	var left *exec.Cmd
	var socket net.PacketConn
	t.Cleanup(func() { _ = socket.Close() })
	t.Run("lab", func(t *testing.T) {
		we := New(t).Node("we")
		hub.Run("ip", "link", "add", "port", "type", "veth", "peer", "name", "eth0", "netns", we.NS)
		hub.Run("ip", "link", "set", "port", "master", "br0", "up")
		we.Run("sh", "-c", "ip addr add 10.9.0.1/24 dev eth0 && ip link set eth0 up")
		left = exec.Command("ip", "netns", "exec", we.NS, "sleep", "600")
		if err := left.Start(); err != nil {
			t.Fatal(err)
		}
		if err := we.Inside(func() (err error) {
			socket, err = net.ListenPacket("udp4", "10.9.0.1:7")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		if err := Until(ctx, asks); err != nil {
			t.Fatal(err)
		}
		if err := Until(ctx, func() error { // it is sleep by now
			pids, err := we.Try("ip", "netns", "pids", we.NS)
			if !strings.Contains(pids, fmt.Sprint(left.Process.Pid)) {
				err = fmt.Errorf("it is not there yet: %s", pids)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	})
	if asks() == nil {
		_ = left.Process.Kill()
		t.Error("the machine answers after its lab was closed")
		return
	}
	if err := left.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the process that was left: %v", err)
	}
}
