package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Charon is strongSwan's IKE daemon where Debian installs it.
const Charon = "/usr/lib/ipsec/charon"

// prerequisite is a file that a Debian package brings.
type prerequisite struct {
	file string // a command in PATH, a path, or a path pattern
	pkg  string
}

var prerequisites = []prerequisite{
	{"ip", "iproute2"},
	{"ping", "iputils-ping"},
	{"nft", "nftables"},
	{"conntrack", "conntrack"},
	{"ike-scan", "ike-scan"},
	{"swanctl", "strongswan-swanctl"},
	{Charon, "strongswan-charon"},
	{"/usr/lib/ipsec/starter", "strongswan-starter"},
	{"openssl", "openssl"},
	{"/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so", "libcharon-extra-plugins"},
	{"/usr/lib/ipsec/plugins/libstrongswan-xauth-generic.so", "libcharon-extauth-plugins"},
	{"/usr/lib/ipsec/plugins/libstrongswan-openssl.so", "libstrongswan-standard-plugins"},
	{"/usr/lib/ipsec/plugins/libstrongswan-curve25519.so", "libstrongswan-extra-plugins"},
}

// guestPrerequisites are what a guest needs beyond them. User Mode Linux exists
// for some processors only.
var guestPrerequisites = []prerequisite{
	{uml, "user-mode-linux"},
	{"insmod", "kmod"},
	{"modprobe", "kmod"},
	{"gcc", "gcc"},
	{"/usr/include/stdio.h", "libc6-dev"},
	{"taskset", "util-linux"},
	{"unshare", "util-linux"},
}

// NeedGuest is Need for tests that start guests, and skips the test where there
// is no User Mode Linux.
func NeedGuest(t testing.TB) {
	t.Helper()
	Need(t)
	if pkgs := missingPackages(guestPrerequisites); len(pkgs) > 0 {
		t.Skipf("a guest with a Linux kernel of its own needs packages that are not installed; run:\n\tapt-get update && apt-get install -y --no-install-recommends %s",
			strings.Join(pkgs, " "))
	}
	if _, err := xstateShim(); err != nil {
		t.Fatal(err)
	}
}

// Need lets the test go on only where a lab can be built, with culvert in it: to
// compile that takes none of a test's own time limit. Without root it skips
// the test; as root anything missing is a failure that names its remedy, because
// an interoperability test that quietly does not run proves nothing.
func Need(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: network namespaces, TUN devices and strongSwan")
	}
	if pkgs := missingPackages(prerequisites); len(pkgs) > 0 {
		t.Fatalf("the lab needs packages that are not installed; run:\n\tapt-get update && apt-get install -y --no-install-recommends %s",
			strings.Join(pkgs, " "))
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Fatal("the kernel offers no TUN devices; run:\n\tmodprobe tun; mkdir -p /dev/net && mknod /dev/net/tun c 10 200")
	}
	if _, err := Binary(); err != nil {
		t.Fatal(err)
	}
}

func missingPackages(of []prerequisite) []string {
	var pkgs []string
	for _, p := range of {
		if !installed(p.file) && (len(pkgs) == 0 || pkgs[len(pkgs)-1] != p.pkg) {
			pkgs = append(pkgs, p.pkg)
		}
	}
	return pkgs
}

func installed(file string) bool {
	if filepath.IsAbs(file) {
		found, _ := filepath.Glob(file)
		return len(found) > 0
	}
	_, err := exec.LookPath(file)
	return err == nil
}
