package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// OpenIKED is an iked in a guest, on the IPsec of the guest's kernel.
type OpenIKED struct {
	guest *Guest
}

const (
	ikedLog  = "/run/iked.log"
	ikedConf = "/run/iked.conf"
)

var openIKEDPrerequisites = []prerequisite{{"iked", "openiked"}, {"ikectl", "openiked"}, {"openssl", "openssl"}}

// NeedOpenIKED is NeedGuest for tests with OpenIKED.
func NeedOpenIKED(t testing.TB) {
	t.Helper()
	NeedGuest(t)
	if pkgs := missingPackages(openIKEDPrerequisites); len(pkgs) > 0 {
		t.Fatalf("OpenIKED needs packages that are not installed; run:\n\tmake packages\nmissing: %s", strings.Join(pkgs, " "))
	}
}

// OpenIKED makes the guest one with OpenIKED, and does not start it.
func (g *Guest) OpenIKED() (*OpenIKED, error) {
	_, err := g.Try("sh", "-c", `set -e
		modprobe -a af_key dummy
		ip link add wan0 up type dummy # for the addresses of its own that it is given: Linux protects nothing that goes out by lo
		rm -rf /etc/iked/ca/* /etc/iked/certs/* /etc/iked/private/* /etc/iked/pubkeys/*/*
		# It does not start without a key, needed or not.
		openssl ecparam -name prime256v1 -genkey -noout -out /etc/iked/private/local.key
		openssl pkey -in /etc/iked/private/local.key -pubout -out /etc/iked/local.pub
		# The kernel loads a cipher when it is first asked for, which takes seconds, in which iked does nothing else.
		ip xfrm state add src 127.0.0.1 dst 127.0.0.1 proto esp spi 0x100 mode tunnel \
			auth-trunc 'hmac(sha512)' 0x0123456789012345678901234567890123456789012345678901234567890123 256 \
			enc 'cbc(aes)' 0x0123456789012345678901234567890123456789012345678901234567890123
		ip xfrm state flush
		# When iked asks which ciphers there are, the kernel looks for a module for each that it has not, which takes half a minute.
		echo >/proc/sys/kernel/modprobe`)
	return &OpenIKED{guest: g}, err
}

// Load ends what there is and starts it with this configuration.
func (o *OpenIKED) Load(ctx context.Context, conf string) error {
	if err := o.Kill(); err != nil {
		return err
	}
	if err := o.guest.Write(ikedConf, []byte(conf)); err != nil {
		return err
	}
	return o.Restart(ctx)
}

// Kill ends it without a word to anybody, and takes its SAs and policies out of the kernel.
func (o *OpenIKED) Kill() error {
	return o.guest.End("iked")
}

// Restart starts it after Kill, with the configuration of before. What is active begins at once.
func (o *OpenIKED) Restart(ctx context.Context) error {
	if err := o.guest.Write(ikedLog, nil); err != nil {
		return err
	}
	if _, err := o.guest.Try("sh", "-c", `rm -f /run/iked.sock; chmod 600 `+ikedConf+`; exec setsid iked -dvv -f `+ikedConf+` >`+ikedLog+` 2>&1 </dev/null &`); err != nil {
		return err
	}
	return Until(ctx, func() error { _, err := o.Control("show", "sa"); return err })
}

// Control gives it a command, with its output.
func (o *OpenIKED) Control(args ...string) (string, error) {
	return o.guest.Try(append([]string{"ikectl"}, args...)...)
}

// Log is what it has said since it was started.
func (o *OpenIKED) Log() string {
	text, err := o.guest.Read(ikedLog)
	if err != nil {
		return err.Error()
	}
	return text
}

// Import gives it a key, its certificate and the root above it, as PEM. Load starts it with them.
func (o *OpenIKED) Import(key, cert, root []byte) error {
	dir := filepath.Join(o.guest.node.lab.Dir, "iked")
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)); err != nil {
		return err
	}
	for name, data := range map[string][]byte{"local.key": key, "local.crt": cert, "ca.crt": root} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return err
		}
	}
	// The guest sees this computer's files.
	if _, err := o.guest.Try("sh", "-c", `set -e; cd /etc/iked
		cp "$1"/ca.crt ca/ca.crt; cp "$1"/local.crt certs/local.crt; cp "$1"/local.key private/local.key
		chmod 644 ca/ca.crt certs/local.crt; chmod 600 private/local.key
		openssl pkey -in private/local.key -pubout -out local.pub`, "sh", dir); err != nil {
		return fmt.Errorf("give OpenIKED its certificate: %w", err)
	}
	return nil
}
