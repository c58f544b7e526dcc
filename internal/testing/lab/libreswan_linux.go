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

// LibreswanDir holds libreswan's Debian package, unpacked by `make packages`: it cannot be installed, since its files
// would take the place of some of strongSwan's.
const LibreswanDir = "/opt/libreswan"

// Libreswan is a libreswan in a guest, on the IPsec of the guest's kernel.
type Libreswan struct {
	guest *Guest
}

const (
	plutoLog     = "/run/pluto.log"
	plutoConf    = "/etc/ipsec.conf"
	plutoSecrets = "/etc/ipsec.secrets"
)

// libreswanPrerequisites are what it needs beside a guest.
var libreswanPrerequisites = []prerequisite{
	{"openssl", "openssl"},
	{"pk12util", "libnss3-tools"},
	{"/usr/lib/*/libunbound.so.8", "libunbound8"},
	{"/usr/lib/*/libldns.so.3", "libldns3"},
	{"/usr/lib/*/libevent_core-2.1.so.7", "libevent-core-2.1-7"},
	{"/usr/lib/*/libevent_pthreads-2.1.so.7", "libevent-pthreads-2.1-7"},
	{"/usr/lib/*/libcurl-nss.so.4", "libcurl3-nss"},
	{"/usr/lib/*/libldap-2.5.so.0", "libldap-2.5-0"},
	{"/usr/lib/*/libcap-ng.so.0", "libcap-ng0"},
	{"/usr/lib/*/libaudit.so.1", "libaudit1"},
	{"/usr/lib/*/libpam.so.0", "libpam0g"},
	{"/usr/lib/*/libselinux.so.1", "libselinux1"},
}

// NeedLibreswan is NeedGuest for tests with libreswan.
func NeedLibreswan(t testing.TB) {
	t.Helper()
	NeedGuest(t)
	if pkgs := missingPackages(libreswanPrerequisites); len(pkgs) > 0 {
		t.Fatalf("libreswan needs packages that are not installed; run:\n\tmake packages\nmissing: %s", strings.Join(pkgs, " "))
	}
	if _, err := os.Stat(LibreswanDir + "/usr/libexec/ipsec/pluto"); err != nil {
		t.Fatalf("libreswan is not unpacked; run:\n\tmake packages\n%v", err)
	}
}

// Libreswan makes the guest one with libreswan, and starts it without a connection.
func (g *Guest) Libreswan(ctx context.Context) (*Libreswan, error) {
	s := &Libreswan{guest: g}
	if _, err := g.Try("sh", "-c", `set -e
		cp -a "$1"/usr/libexec/ipsec /usr/libexec/
		cp -a "$1"/usr/sbin/ipsec /usr/sbin/
		mkdir -p /run/pluto /var/lib/ipsec/nss /etc/ipsec.d
		ipsec initnss
		# The kernel loads a cipher when it is first asked for, which takes seconds, in which pluto does nothing else.
		ip xfrm state add src 127.0.0.1 dst 127.0.0.1 proto esp spi 0x100 mode tunnel \
			aead 'rfc4106(gcm(aes))' 0x0123456789012345678901234567890123456789 128
		ip xfrm state flush`, "sh", LibreswanDir); err != nil {
		return nil, err
	}
	if err := s.write("", ""); err != nil {
		return nil, err
	}
	return s, s.start(ctx)
}

func (s *Libreswan) write(conf, secrets string) error {
	head := "config setup\n\tlogfile=" + plutoLog + "\n\tlogtime=yes\n\tplutodebug=none\n\tikev1-policy=accept\n\n"
	if err := s.guest.Write(plutoConf, []byte(head+conf)); err != nil {
		return err
	}
	return s.guest.Write(plutoSecrets, []byte(secrets))
}

func (s *Libreswan) start(ctx context.Context) error {
	if _, err := s.guest.Try("sh", "-c", "rm -f /run/pluto/pluto.ctl /run/pluto/pluto.pid "+plutoLog+"; exec /usr/libexec/ipsec/pluto --config "+plutoConf); err != nil {
		return err
	}
	return Until(ctx, func() error { _, err := s.Whack("--status"); return err })
}

// Load ends what there is and makes these the only connections and secrets.
func (s *Libreswan) Load(ctx context.Context, conf, secrets string) error {
	if err := s.Kill(); err != nil {
		return err
	}
	if err := s.write(conf, secrets); err != nil {
		return err
	}
	return s.Restart(ctx)
}

// User makes somebody known who logs in by XAuth to connection t.
func (s *Libreswan) User(name, password string) error {
	hash, err := run("openssl", "passwd", "-6", password)
	if err != nil {
		return fmt.Errorf("openssl passwd: %w: %s", err, hash)
	}
	return s.guest.Write("/etc/ipsec.d/passwd", []byte(name+":"+strings.TrimSpace(hash)+":t\n"))
}

// Kill ends it without a word to anybody, and takes its SAs and policies out of the kernel.
func (s *Libreswan) Kill() error {
	return s.guest.End("pluto")
}

// Restart starts it after Kill, with the connections of before.
func (s *Libreswan) Restart(ctx context.Context) error {
	if err := s.start(ctx); err != nil {
		return err
	}
	_, err := s.guest.Try("sh", "-c", "ipsec whack --listen && ipsec addconn --autoall")
	return err
}

// Whack gives libreswan a command, with its output.
func (s *Libreswan) Whack(args ...string) (string, error) {
	return s.guest.Try(append([]string{"ipsec", "whack"}, args...)...)
}

// Initiate has it bring a connection up, and does not wait until it is.
func (s *Libreswan) Initiate(name string) error {
	_, err := s.Whack("--name", name, "--initiate", "--asynchronous")
	return err
}

// Log is what it has said since it was loaded.
func (s *Libreswan) Log() string {
	text, err := s.guest.Read(plutoLog)
	if err != nil {
		return err.Error()
	}
	return text
}

// Import ends it, and gives it a database with a key, its certificate and those above it, as PEM, under a name. Load starts it
// again. The database is made on this computer, where NSS is many times faster.
func (s *Libreswan) Import(name string, pem []byte) error {
	if err := s.Kill(); err != nil { // it holds the database
		return err
	}
	dir := filepath.Join(s.guest.node.lab.Dir, "nss")
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "import.pem"), pem, 0o600)); err != nil {
		return err
	}
	if out, err := run("sh", "-c", `set -e; cd "$1"
		certutil -N -d sql:. --empty-password
		openssl pkcs12 -export -in import.pem -out import.p12 -name "$2" -passout pass:
		pk12util -i import.p12 -d sql:. -W "" -K ""`, "sh", dir, name); err != nil {
		return fmt.Errorf("make a database with %s: %w\n%s", name, err, out)
	}
	// The guest sees this computer's files. A file of this size would not get through its serial line.
	_, err := s.guest.Try("sh", "-c", `cp "$1"/*.db "$1"/pkcs11.txt /var/lib/ipsec/nss/`, "sh", dir)
	return err
}
