package main

import (
	"bufio"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// wireguardModule is built, without a place in go.mod: it is a program of its own.
const wireguardModule = "golang.zx2c4.com/wireguard@v0.0.0-20260522210424-ecfc5a8d5446"

func (h *harness) buildWireGuard(ctx context.Context) error {
	if !h.wants(reference) {
		return nil
	}
	cmd := exec.CommandContext(ctx, "go", "install", "-trimpath", wireguardModule)
	cmd.Dir = h.dir // outside any module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOBIN="+h.dir, "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", wireguardModule, err, tail(string(out)))
	}
	h.binaries[reference] = filepath.Join(h.dir, "wireguard")
	h.versions[reference] = strings.TrimPrefix(wireguardModule, "golang.zx2c4.com/")
	return nil
}

// startWireGuard starts two wireguard-go and tells them of each other over their sockets.
func startWireGuard(ctx context.Context, h *harness, s *site, _ options) error {
	var keys [2]*ecdh.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
			return err
		}
	}
	for i, n := range s.ends {
		// Its socket is named after the device, so that each gets a name of its own.
		device := fmt.Sprintf("wg%s", strings.TrimPrefix(n.ns, nsPrefix))
		device = device[max(0, len(device)-15):]
		p, err := n.start(reference, []string{"LOG_LEVEL=error", "WG_PROCESS_FOREGROUND=1"}, h.binaries[reference], "-f", device)
		if err != nil {
			return err
		}
		s.gates = append(s.gates, p)
		far := s.ends[1-i]
		set := fmt.Sprintf("set=1\nprivate_key=%x\nlisten_port=51820\npublic_key=%x\nendpoint=%s:51820\nallowed_ip=%s\n\n",
			keys[i].Bytes(), keys[1-i].PublicKey().Bytes(), far.outer, far.net)
		socket := filepath.Join(n.dir, "run", "wireguard", device+".sock")
		if err := s.alive(ctx, h.patience, func() error { return uapi(socket, set) }); err != nil {
			return err
		}
		for _, cmd := range []string{"link set " + device + " up", "route add " + far.net + " dev " + device + " src " + n.inner} {
			if _, err := output(ctx, append([]string{"ip", "-n", n.ns}, strings.Fields(cmd)...)...); err != nil {
				return err
			}
		}
	}
	return nil
}

// uapi sends a command over the socket of a wireguard-go and reads its errno.
func uapi(socket, command string) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte(command)); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	if strings.TrimSpace(answer) != "errno=0" {
		return fmt.Errorf("wireguard-go refused its configuration: %s", strings.TrimSpace(answer))
	}
	return nil
}
