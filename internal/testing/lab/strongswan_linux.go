package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// StrongSwan is a charon with userspace ESP on a node. kernel-libipsec always
// speaks ESP in UDP on port 4500 (it makes its peers see a NAT) and tunnel mode only.
type StrongSwan struct {
	*Process
	Swanctl
	node *Node
	name string
	uri  string // of its vici socket
	conf string // swanctl.conf

	charonPath, swanctlPath string
	plain                   string // strongswan.conf of swanctl
}

// plainSwanctl has swanctl load no plugins but one: to load all takes most of its time. What reads keys and
// certificates needs them.
const plainSwanctl = "swanctl {\n\tload = nonce\n}\n"

// charonConf is strongswan.conf. The retransmissions are short so that a dead
// peer is noticed within a test: 0.5 s × 1.5^n, about 10 s in all.
const charonConf = `charon {
	load = random nonce aes sha1 sha2 md5 hmac gcm ccm ctr chapoly kdf pem pkcs1 pkcs8 x509 revocation pubkey openssl curve25519 gcrypt curl kernel-libipsec kernel-netlink socket-default xauth-generic unity vici
	retransmit_timeout = 0.5
	retransmit_base = 1.5
	retransmit_tries = 5
	%s
	filelog {
		stderr {
			default = 1
			ike = 2
			enc = 1
			flush_line = yes
		}
	}
	plugins {
		vici {
			socket = %s
		}
		%s
	}
}
`

// outerInTunnel lets charon protect traffic of the very addresses that it speaks
// IKE between: its own sockets are marked and looked up past its routes.
const outerInTunnel = `kernel-libipsec {
			allow_peer_ts = yes
		}
		kernel-netlink {
			fwmark = !0x42
		}
		socket-default {
			fwmark = 0x42
		}`

// StrongSwan starts charon on the node and loads the swanctl.conf. settings are
// further lines of the daemon's own configuration.
func (n *Node) StrongSwan(ctx context.Context, swanctl string, settings ...string) *StrongSwan {
	n.lab.TB.Helper()
	return n.strongSwan(ctx, swanctl, "", settings...)
}

// StrongSwanOuterInTunnel is StrongSwan for traffic selectors that contain the
// gateways' own addresses.
func (n *Node) StrongSwanOuterInTunnel(ctx context.Context, swanctl string) *StrongSwan {
	n.lab.TB.Helper()
	return n.strongSwan(ctx, swanctl, outerInTunnel)
}

func (n *Node) strongSwan(ctx context.Context, swanctl, plugins string, settings ...string) *StrongSwan {
	n.lab.TB.Helper()
	s := &StrongSwan{
		node: n,
		name: "charon-" + n.Name,
		uri:  "unix://" + filepath.Join(n.lab.Dir, n.Name+".vici"),

		charonPath:  n.lab.copyProgram(Charon),
		swanctlPath: n.lab.copyProgram("swanctl"),
	}
	s.Swanctl.run = s.run
	s.Swanctl.sas = func(ctx context.Context) ([]byte, error) { return viciSAs(ctx, strings.TrimPrefix(s.uri, "unix://")) }
	s.plain = n.lab.write(s.name+".swanctl.conf", plainSwanctl)
	n.lab.write(s.name+".conf", fmt.Sprintf(charonConf, strings.Join(settings, "\n\t"), s.uri, plugins))
	n.SwanctlFiles(map[string][]byte{"swanctl.conf": []byte(swanctl)})
	s.conf = filepath.Join(n.swanctlDir(), "swanctl.conf")
	s.start(ctx)
	return s
}

func (s *StrongSwan) start(ctx context.Context) {
	tb := s.node.lab.TB
	tb.Helper()
	conf := filepath.Join(s.node.lab.Dir, s.name+".conf")
	s.Process = s.node.Start(s.name, []string{"STRONGSWAN_CONF=" + conf}, s.charonPath)
	if err := s.ready(ctx, func() error { return s.swanctl(ctx, "--stats") }); err != nil {
		tb.Fatalf("charon on %s does not answer: %v", s.node.Name, err)
	}
	if err := s.swanctl(ctx, "--load-all", "--file", s.conf); err != nil {
		tb.Fatalf("load swanctl.conf on %s: %v", s.node.Name, err)
	}
}

// run runs a command of swanctl against this charon.
func (s *StrongSwan) run(ctx context.Context, args ...string) (string, error) {
	var faults bytes.Buffer
	cmd := exec.CommandContext(ctx, s.swanctlPath, append(args, "--uri", s.uri)...)
	cmd.Stderr = &faults
	if !slices.Contains(args, "--load-all") {
		cmd.Env = append(os.Environ(), "STRONGSWAN_CONF="+s.plain)
	}
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("swanctl %s on %s: %w\n%s%s", strings.Join(args, " "), s.node.Name, err, out, &faults)
	}
	return string(out), nil
}

// copyProgram returns the path of a copy of a program in the lab. Debian's
// AppArmor profiles go by path and would keep strongSwan from the lab's files.
func (l *Lab) copyProgram(name string) string {
	l.TB.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		l.TB.Fatal(err)
	}
	to := filepath.Join(l.Dir, filepath.Base(path))
	if _, err := os.Stat(to); err == nil {
		return to
	}
	data, err := os.ReadFile(path)
	if err != nil {
		l.TB.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o700); err != nil {
		l.TB.Fatal(err)
	}
	return to
}

// Restart starts a killed charon again with the same configuration.
func (s *StrongSwan) Restart(ctx context.Context) {
	s.node.lab.TB.Helper()
	// What the killed one left behind, which would stop the new one.
	_ = os.Remove(filepath.Join(s.node.run, "charon.pid"))
	s.start(ctx)
}

// swanctlDir is where swanctl finds its configuration, and beside it certificates and keys.
func (n *Node) swanctlDir() string { return filepath.Join(n.lab.Dir, n.Name+".swanctl") }

// SwanctlFiles writes certificates and keys where swanctl looks for them, by
// their names there: "x509/NAME.pem", "x509ca/NAME.pem", "private/NAME.pem".
func (n *Node) SwanctlFiles(files map[string][]byte) {
	n.lab.TB.Helper()
	for name, data := range files {
		path := filepath.Join(n.swanctlDir(), name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			n.lab.TB.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			n.lab.TB.Fatal(err)
		}
	}
}

// SwanctlFile is the path of one of them.
func (n *Node) SwanctlFile(name string) string { return filepath.Join(n.swanctlDir(), name) }
