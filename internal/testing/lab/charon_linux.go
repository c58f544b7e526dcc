package lab

import (
	"context"
	"fmt"
	"strings"
)

// GuestCharon is a strongSwan in a guest, on the IPsec of the guest's kernel.
type GuestCharon struct {
	Swanctl
	guest *Guest
}

const (
	guestCharonLog  = "/run/charon.log"
	guestCharonConf = "/run/strongswan.conf"
	guestSwanctl    = "/run/swanctl.conf"
	guestVICI       = "/run/charon.vici"
)

// kernelCharonConf is strongswan.conf. Algorithms that IANA has no number for are
// for those who ask.
const kernelCharonConf = `charon {
	load = random nonce aes sha1 sha2 hmac gcm kdf pem pkcs1 pkcs8 x509 pubkey openssl curve25519 kernel-netlink socket-default vici
	accept_private_algs = yes
	retransmit_timeout = 0.5
	retransmit_base = 1.5
	retransmit_tries = 5
	filelog {
		stderr {
			default = 1
			ike = 2
			knl = 2
			flush_line = yes
		}
	}
}
swanctl {
	load = nonce
}
`

// Charon starts charon in the guest.
func (g *Guest) Charon(ctx context.Context) (*GuestCharon, error) {
	c := &GuestCharon{guest: g}
	c.Swanctl.run = func(_ context.Context, args ...string) (string, error) {
		return g.do(guestRequest{Args: append([]string{"swanctl"}, args...), Env: []string{"STRONGSWAN_CONF=" + guestCharonConf}, Quiet: true})
	}
	c.Swanctl.sas = func(context.Context) ([]byte, error) {
		out, err := g.do(guestRequest{SAs: guestVICI})
		return []byte(out), err
	}
	if err := g.Write(guestCharonConf, []byte(kernelCharonConf)); err != nil {
		return nil, err
	}
	if err := g.Daemon(guestCharonLog, []string{"STRONGSWAN_CONF=" + guestCharonConf}, Charon); err != nil {
		return nil, err
	}
	return c, Until(ctx, func() error { return c.swanctl(ctx, "--stats") })
}

// Load makes the swanctl.conf the only one in force. IKE SAs that there are stay.
func (c *GuestCharon) Load(ctx context.Context, conf string) error {
	if err := c.guest.Write(guestSwanctl, []byte(conf)); err != nil {
		return err
	}
	return c.swanctl(ctx, "--load-all", "--clear", "--noprompt", "--file", guestSwanctl)
}

// Forget ends the IKE SAs of a connection without waiting for the peer.
func (c *GuestCharon) Forget(ctx context.Context, ike string) error {
	return c.swanctl(ctx, "--terminate", "--ike", ike, "--force")
}

// Log is what charon printed since a line of the log; 0 is all of it. next is the line after the last.
func (c *GuestCharon) Log(from int) (text string, next int) {
	text, err := c.guest.Try("tail", "-n", fmt.Sprintf("+%d", from+1), guestCharonLog)
	if err != nil {
		return err.Error(), from
	}
	return text, from + strings.Count(text, "\n")
}
