package lab

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// IKE scanning by ike-scan, which knows of responders what they say, and from how they repeat it guesses what they are. It sees
// a responder of main and of aggressive mode that repeats nothing, and what it sends that is malformed does no harm: a tunnel
// that was up goes on by the same SAs.
func TestIKEScan(t *testing.T) {
	Need(t)
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	l := New(t)
	us, far, scanner := l.Node("us"), l.Node("far"), l.Node("scanner")
	l.Wire(End{us, "eth0", netip.MustParsePrefix("10.9.0.1/24")}, End{far, "eth0", netip.MustParsePrefix("10.9.0.2/24")})
	l.Wire(End{us, "eth1", netip.MustParsePrefix("10.8.0.1/24")}, End{scanner, "eth0", netip.MustParsePrefix("10.8.0.9/24")})
	inner := []netip.Addr{netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.2.0.1")}
	us.Inner(inner[0])
	far.Inner(inner[1])
	site := func(address, src, dst string, passive bool) string {
		return fmt.Sprintf(`
[[profile]]
name = "default"
enc-algorithm = "aes-256"
hash-algorithm = "sha256"
dh-group = "modp2048"
dpd-interval = "disable-dpd"
[[proposal]]
name = "default"
enc-algorithms = "aes-256-gcm"
pfs-group = "none"
[[peer]]
name = "site"
address = %q
passive = %t
[[identity]]
peer = "site"
secret = "9f1c 4ad8 b7e2 5530"
[[policy]]
peer = "site"
src-address = %q
dst-address = %q
tunnel = true
`, address, passive, src, dst)
	}
	const anybody = `
[[peer]]
name = "anybody"
passive = true
[[identity]]
peer = "anybody"
secret = "c3d0 77aa 1be9 4f26"
[[peer]]
name = "group"
exchange-mode = "aggressive"
passive = true
[[identity]]
peer = "group"
my-id = "fqdn:gw.example.net"
remote-id = "user-fqdn:anna@example.net"
secret = "5e0b 12fd c8a4 9963"
`
	far.Culvert(ctx, "", site("10.9.0.1/32", "10.2.0.0/24", "10.1.0.0/24", true))
	gate := us.Culvert(ctx, "", site("10.9.0.2/32", "10.1.0.0/24", "10.2.0.0/24", false)+anybody)
	const size = 200_000
	if err := us.Transfer(ctx, inner[0], far, inner[1], size); err != nil {
		t.Fatal(err)
	}
	before := sasOf(ctx, t, gate)

	// The transform that the profile allows, as ike-scan writes it: AES of 256 bits, SHA-256, a pre-shared key, group 14.
	const offer = "--trans=(1=7,14=256,2=4,3=1,4=14)"
	modes := map[string][]string{
		"Main":       nil,
		"Aggressive": {"--aggressive", "--dhgroup=14", "--id=anna@example.net"},
	}
	scan := func(args ...string) string {
		text, err := scanner.Try(slices.Concat([]string{"ike-scan", "--sport=0", "--multiline", offer}, args, []string{"10.8.0.1"})...)
		if err != nil {
			t.Errorf("%v: %s", err, text)
		}
		return text
	}
	says := map[string][]string{
		"Main":       {"SA=(Enc=AES KeyLength=256 Hash=SHA2-256 Auth=PSK Group=14:modp2048)", "VID=afcad71368a1f1c96b8696fc77570100 (Dead Peer Detection v1.0)"},
		"Aggressive": {"SA=(Enc=AES KeyLength=256 Hash=SHA2-256 Auth=PSK Group=14:modp2048)", "KeyExchange(256 bytes)", "Nonce(32 bytes)", "ID(Type=ID_FQDN, Value=gw.example.net)", "Hash(32 bytes)"},
	}
	handshakes := func() {
		t.Helper()
		for mode, args := range modes {
			text := scan(append(args, "--retry=1")...)
			for _, want := range append(says[mode], mode+" Mode Handshake returned", "1 returned handshake; 0 returned notify") {
				if !strings.Contains(text, want) {
					t.Errorf("%s mode: ike-scan does not say %q:\n%s", mode, want, text)
				}
			}
		}
	}
	handshakes()

	// The table of backoffs has the one answer, and no second one.
	row := regexp.MustCompile(`(?m)^10\.8\.0\.1\t(\d+)\t`)
	var jobs []func()
	for mode, args := range modes {
		jobs = append(jobs, func() {
			text := scan(append(args, "--showbackoff=6")...)
			if rows := row.FindAllString(text, -1); len(rows) != 1 {
				t.Errorf("%s mode: %d answers to one message:\n%s", mode, len(rows), text)
			}
		})
	}
	atOnce(jobs)

	jobs = nil
	for _, wrong := range malformed {
		for _, args := range modes {
			if slices.ContainsFunc(wrong, func(s string) bool { return strings.HasPrefix(s, "--id=") }) {
				args = slices.DeleteFunc(slices.Clone(args), func(s string) bool { return strings.HasPrefix(s, "--id=") })
			}
			jobs = append(jobs, func() { scan(slices.Concat(args, []string{"--retry=1", "--timeout=50"}, wrong)...) })
		}
	}
	atOnce(jobs)
	handshakes()
	if err := us.Transfer(ctx, inner[0], far, inner[1], size); err != nil {
		t.Fatal(err)
	}
	if after := sasOf(ctx, t, gate); !slices.Equal(before, after) {
		t.Errorf("the SAs were %v, and are %v", before, after)
	}
	if log := gate.Log(); strings.Count(log, "event=ike-up") != 1 || strings.Contains(log, "event=ike-down") || strings.Contains(log, "panic") {
		t.Errorf("the tunnel did not simply go on:\n%s", log)
	}
}

// atOnce does some things, which mostly wait, a few at a time.
func atOnce(jobs []func()) {
	var all sync.WaitGroup
	free := make(chan struct{}, 6)
	for _, do := range jobs {
		free <- struct{}{}
		all.Go(func() {
			do()
			<-free
		})
	}
	all.Wait()
}

// malformed are options of ike-scan by which its messages are not as they should be: headers, lengths, flags, payloads, and what is in them.
var malformed = [][]string{
	{"--headerlen=0"}, {"--headerlen=27"}, {"--headerlen=40"}, {"--headerlen=+1"}, {"--headerlen=-1"}, {"--headerlen=4294967295"},
	{"--headerver=0"}, {"--headerver=17"}, {"--headerver=255"}, {"--mbz=255"},
	{"--hdrflags=1"}, {"--hdrflags=255"}, {"--hdrmsgid=1"}, {"--rcookie=0102030405060708"}, {"--cookie=0000000000000000"},
	{"--nextpayload=0"}, {"--nextpayload=5"}, {"--nextpayload=132"}, {"--nextpayload=255"},
	{"--doi=0"}, {"--doi=4294967295"}, {"--situation=0"}, {"--situation=255"}, {"--protocol=0"}, {"--protocol=3"},
	{"--transid=0"}, {"--transid=255"}, {"--spisize=8"}, {"--spisize=255"},
	{"--trans=(1=65535,2=65535,3=65535,4=65535)"}, {"--trans=(1=7,1=7,14=0,14=65535)"}, {"--trans=(11=1,12=0x000000000000000000000000000000000000000000000001)"},
	{"--trans=(4=14,4=2,4=14)"}, {"--trans=(3=0)"}, {"--lifetime=0x"}, {"--lifesize=4294967295"},
	{"--vendor=" + strings.Repeat("41", 3000)}, {"--vendor="}, {"--certreq=04"}, {"--certreq=ff" + strings.Repeat("30", 500)},
	{"--noncelen=1"}, {"--noncelen=500"}, {"--idtype=0", "--id=0x00"}, {"--idtype=1", "--id=0x0102"}, {"--idtype=255", "--id=0x" + strings.Repeat("ff", 200)},
	{"--dhgroup=1"}, {"--dhgroup=18"}, {"--nat-t", "--sport=0"},
}

// sasOf are the SPIs of a culvert's SAs.
func sasOf(ctx context.Context, t *testing.T, c *Culvert) (spis []string) {
	t.Helper()
	rows, err := c.Print(ctx, "installed-sa")
	if err != nil || len(rows) == 0 {
		t.Fatalf("%d SAs: %v", len(rows), err)
	}
	for _, r := range rows {
		spis = append(spis, r.Text("spi"))
	}
	return spis
}
