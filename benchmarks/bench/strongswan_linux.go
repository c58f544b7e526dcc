package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// charon is strongSwan's daemon where Debian installs it.
const charon = "/usr/lib/ipsec/charon"

// charonConf is strongswan.conf: ESP in userspace, no log, OpenSSL's ciphers before
// the slower ones of strongSwan's own.
const charonConf = `charon {
	load = random nonce openssl aesni aes sha1 sha2 hmac gcm ccm ctr chapoly kdf pem pubkey curve25519 kernel-libipsec kernel-netlink socket-default vici
	filelog {
		stderr {
			default = 0
		}
	}
	plugins {
		vici {
			socket = %s
		}
	}
}
`

const swanctlConf = `connections {
	bench {
		version = 2
		local_addrs = %[1]s
		remote_addrs = %[2]s
		proposals = aes256-sha256-x25519
		rekey_time = 0
		local {
			auth = psk
			id = %[1]s
		}
		remote {
			auth = psk
			id = %[2]s
		}
		children {
			bench {
				local_ts = %[3]s
				remote_ts = %[4]s
				esp_proposals = %[5]s
				rekey_time = 0
			}
		}
	}
}
secrets {
	ike-1 {
		secret = %[6]q
	}
}
`

func startStrongSwans(ctx context.Context, h *harness, s *site, o options) error {
	for i := range s.ends {
		if err := h.startStrongSwan(ctx, s, i, o); err != nil {
			return err
		}
	}
	return h.swanctl(ctx, s.ends[0], "--initiate", "--child", "bench", "--timeout", "10")
}

// startMixed starts Culvert at the end that sends and strongSwan at the other.
func startMixed(ctx context.Context, h *harness, s *site, o options) error {
	if err := h.startStrongSwan(ctx, s, 1, o); err != nil {
		return err
	}
	if err := h.startCulvert(ctx, s, 0, plain, o); err != nil {
		return err
	}
	return s.established(ctx, h.patience, 1)
}

func (h *harness) startStrongSwan(ctx context.Context, s *site, i int, o options) error {
	n, far := s.ends[i], s.ends[1-i]
	k := o.useCipher()
	if k.strongswan == "" {
		return fmt.Errorf("strongSwan is not measured with %s", k.name)
	}
	conf, swanctl := filepath.Join(n.dir, "strongswan.conf"), filepath.Join(n.dir, "swanctl.conf")
	for path, text := range map[string]string{
		conf:    fmt.Sprintf(charonConf, vici(n)),
		swanctl: fmt.Sprintf(swanctlConf, n.outer, far.outer, n.net, far.net, k.strongswan, psk),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	p, err := n.start("charon", []string{"STRONGSWAN_CONF=" + conf}, h.binaries["charon"])
	if err != nil {
		return err
	}
	s.gates = append(s.gates, p)
	if err := s.alive(ctx, h.patience, func() error { return h.swanctl(ctx, n, "--stats") }); err != nil {
		return err
	}
	return h.swanctl(ctx, n, "--load-all", "--noprompt", "--file", swanctl)
}

func vici(n *node) string { return "unix://" + filepath.Join(n.dir, "vici") }

func (h *harness) swanctl(ctx context.Context, n *node, args ...string) error {
	_, err := output(ctx, append(append([]string{h.binaries["swanctl"]}, args...), "--uri", vici(n))...)
	return err
}

// copyPrograms copies strongSwan's programs. Debian's AppArmor profiles go by path and
// would keep them from our files.
func (h *harness) copyPrograms() error {
	for name, path := range map[string]string{"charon": charon, "swanctl": "swanctl"} {
		found, err := exec.LookPath(path)
		if err != nil {
			return fmt.Errorf("%w: install strongswan-charon, strongswan-swanctl and libcharon-extra-plugins", err)
		}
		data, err := os.ReadFile(found)
		if err != nil {
			return err
		}
		h.binaries[name] = filepath.Join(h.dir, name)
		if err := os.WriteFile(h.binaries[name], data, 0o700); err != nil {
			return err
		}
	}
	return nil
}
