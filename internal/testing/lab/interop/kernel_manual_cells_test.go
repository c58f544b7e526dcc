//go:build linux

package interop

import (
	"fmt"
	"slices"
	"strings"

	"culvert/crypto/suite"
	"culvert/internal/testing/lab"
)

// manualCell is a test of the data path alone: SAs that are made by hand, in
// culvert and in the Linux kernel, without IKE.
type manualCell struct {
	name  string
	encr  *suite.Encr  // ESP; nil: there is none
	integ *suite.Integ // of ESP; nil with an AEAD
	ah    *suite.Integ // AH; nil: there is none. With ESP it is around that

	transport bool
	udp       bool // ESP in UDP; else with protocol 50
	outer6    bool // the gateways speak IPv6 with each other
	inner6    bool // so do the protected networks; in transport mode those are the gateways
	esn       bool
	rounded   bool // the kernel's AH is a multiple of 8 bytes in IPv4 too
	options   bool // the headers in front have IPv4 options, or hop-by-hop options of IPv6
}

const manualGroup = "Linux kernel, keys by hand"

// manualCiphers is what the kernel calls the ciphers, by their name in installed-sa.
var manualCiphers = map[string]string{
	"aes-cbc":           "cbc(aes)",
	"aes-ctr":           kernelCTR,
	"aes-gcm":           kernelGCM,
	"aes-ccm":           kernelCCM,
	"aes-gmac":          "rfc4543(gcm(aes))",
	"chacha20-poly1305": "rfc7539esp(chacha20,poly1305)",
	"camellia":          "cbc(camellia)",
	"twofish":           "cbc(twofish)",
	"blowfish":          "cbc(blowfish)",
	"blowfish-256":      "cbc(blowfish)",
	"3des":              "cbc(des3_ede)",
	"des":               "cbc(des)",
	"null":              "ecb(cipher_null)",
}

func kernelHMAC(a *suite.Integ) string { return "hmac(" + strings.TrimSuffix(a.Name, "-96") + ")" }

// manualCells is the matrix, in the order of the table.
func manualCells() []manualCell {
	var all []manualCell
	for _, c := range slices.Concat(manualSuiteCells(), manualModeCells(), manualAHCells(), manualBundleCells(), manualESNCells()) {
		c.name = "by-hand-" + strings.ReplaceAll(c.title(), " ", "-")
		if !slices.Contains(all, c) { // some belong to two groups
			all = append(all, c)
		}
	}
	return all
}

// manualSuiteCells: each cipher with sha256 and each hash with aes-128-cbc in a
// tunnel by IPv4 and in transport mode by IPv6, every other cipher with every other hash in one of these.
func manualSuiteCells() (cs []manualCell) {
	both := func(e *suite.Encr, a *suite.Integ) []manualCell {
		return []manualCell{{encr: e, integ: a}, {encr: e, integ: a, transport: true, outer6: true, inner6: true}}
	}
	add := func(e *suite.Encr, a *suite.Integ) { cs = append(cs, both(e, a)...) }
	for i := range suite.Encrs {
		e, a := &suite.Encrs[i], suite.IntegByName("sha256")
		if e.AEAD() {
			a = nil
		}
		add(e, a)
	}
	for i := range suite.Integs {
		if a := &suite.Integs[i]; a.Name != "sha256" {
			add(suite.EncrByName("aes-128-cbc"), a)
		}
	}
	for i := range suite.Encrs {
		for j := range suite.Integs {
			e, a := &suite.Encrs[i], &suite.Integs[j]
			if !e.AEAD() && e.Name != "aes-128-cbc" && a.Name != "sha256" {
				cs = append(cs, both(e, a)[(i+j)%2])
			}
		}
	}
	return cs
}

// manualESPs are ciphers with and without integrity of their own, for cells that are about something else.
func manualESPs() []manualCell {
	return []manualCell{
		{encr: suite.EncrByName("aes-256-cbc"), integ: suite.IntegByName("sha256")},
		{encr: suite.EncrByName("aes-192-gcm")},
	}
}

// everyWay is a cell in both modes, over both address families, and tunnels with either inside.
func everyWay(c manualCell) (cs []manualCell) {
	for _, c.outer6 = range []bool{false, true} {
		c.transport = false
		for _, c.inner6 = range []bool{false, true} {
			cs = append(cs, c)
		}
		c.transport, c.inner6 = true, c.outer6
		cs = append(cs, c)
	}
	return cs
}

// manualModeCells: ESP with protocol 50 and in UDP.
func manualModeCells() (cs []manualCell) {
	for _, c := range manualESPs() {
		for _, c.udp = range []bool{false, true} {
			cs = append(cs, everyWay(c)...)
		}
	}
	return cs
}

func manualAHCells() (cs []manualCell) {
	for i := range suite.Integs {
		c := manualCell{ah: &suite.Integs[i]}
		cs = append(cs, everyWay(c)...)
		if (12+c.ah.ICVLen)%8 != 0 {
			c.rounded = true
			cs = append(cs, c)
			c.transport = true
			cs = append(cs, c)
		}
	}
	return append(cs, manualOptionsCells()...)
}

// manualOptionsCells: what AH covers of headers with options, in front of the packet
// itself or of ESP. In tunnel mode the headers are made by the ends, and have none.
func manualOptionsCells() (cs []manualCell) {
	alone := manualCell{ah: suite.IntegByName("sha256"), transport: true, options: true}
	bundle := manualESPs()[0]
	bundle.ah, bundle.transport, bundle.options = alone.ah, true, true
	for _, c := range []manualCell{alone, bundle} {
		cs = append(cs, c)
		c.outer6, c.inner6, c.esn = true, true, true
		cs = append(cs, c)
	}
	return cs
}

// manualBundleCells: AH around ESP.
func manualBundleCells() (cs []manualCell) {
	for i, c := range manualESPs() {
		c.ah = suite.IntegByName([]string{"sha256", "sha1"}[i])
		cs = append(cs, everyWay(c)...)
	}
	rounded := manualESPs()[0]
	rounded.ah, rounded.rounded = suite.IntegByName("sha256"), true
	longest := manualCell{encr: suite.EncrByName("aes-256-cbc"), integ: suite.IntegByName("sha512"), ah: suite.IntegByName("sha512"), outer6: true, inner6: true}
	return append(cs, rounded, longest)
}

// manualESNCells: extended sequence numbers, which are part of what each kind of
// integrity covers.
func manualESNCells() (cs []manualCell) {
	chacha := manualCell{encr: suite.EncrByName("chacha20-poly1305")}
	gmac := manualCell{encr: suite.EncrByName("aes-256-gmac")}
	ah := manualCell{ah: suite.IntegByName("sha256")}
	bundle := manualESPs()[0]
	bundle.ah = suite.IntegByName("sha384")
	for i, c := range append(manualESPs(), chacha, gmac, ah, bundle) {
		c.esn = true
		c.udp = i == 0
		cs = append(cs, c)
		c.udp, c.transport, c.outer6, c.inner6 = i == 2, true, true, true
		cs = append(cs, c)
	}
	return cs
}

// like is the cell's addresses as those of the cells with IKE.
func (c *manualCell) like() *kernelCell {
	return &kernelCell{transport: c.transport, outer6: c.outer6, inner6: c.inner6}
}

// title is the cell in words: "esp transport ipv6 aes-128-gcm esn".
func (c *manualCell) title() string {
	return strings.ToLower(strings.NewReplacer(",", "", "IPv", "ipv").Replace(c.inside() + " " + c.String()))
}

func (c *manualCell) inside() string { return c.like().inside() }

// String is the SA in the table.
func (c *manualCell) String() string {
	var words []string
	if c.ah != nil {
		words = append(words, "AH", c.ah.Name)
		if c.rounded {
			words = append(words, "rounded")
		}
	}
	if c.ah != nil && c.encr != nil {
		words = append(words, "around")
	}
	if c.encr != nil {
		words = append(words, "ESP")
		if c.udp {
			words = append(words, "in UDP")
		}
		words = append(words, c.encr.Name)
	}
	if c.integ != nil {
		words = append(words, c.integ.Name)
	}
	words[len(words)-1] += ","
	words = append(words, c.like().mode())
	if c.esn {
		words = append(words, "esn")
	}
	if c.options {
		words = append(words, "options in front")
	}
	return strings.Join(words, " ")
}

// protocols are the SAs from the inside out.
func (c *manualCell) protocols() (ps []string) {
	if c.encr != nil {
		ps = append(ps, "esp")
	}
	if c.ah != nil {
		ps = append(ps, "ah")
	}
	return ps
}

// toml is culvert's policy, which has the number 1.
func (c *manualCell) toml() string {
	p := c.like().plan()
	return fmt.Sprintf(`[[policy]]
src-address = %q
dst-address = %q
sa-src-address = %q
sa-dst-address = %q
tunnel = %t
ipsec-protocols = ["%s"]
`, p.nets[0], p.nets[1], p.gateways[0], p.gateways[1], !c.transport, strings.Join(c.protocols(), `", "`))
}

// manualKeys are the SPIs and keys of one direction.
type manualKeys struct {
	spi, ahSPI         uint32
	enc, integ, ahKeys string // hexadecimal
}

// add is the arguments of `culvert sa add`.
func (c *manualCell) add(in, out manualKeys) []string {
	args := []string{"sa", "add", "--policy", "1"}
	opt := func(name, value string) { args = append(args, "--"+name, value) }
	if c.encr != nil {
		opt("enc-algorithm", c.encr.Name)
	}
	if c.integ != nil {
		opt("auth-algorithm", c.integ.Name)
	}
	if c.ah != nil {
		opt("ah-algorithm", c.ah.Name)
	}
	for i, k := range []manualKeys{in, out} {
		dir := []string{"in", "out"}[i]
		if c.encr != nil {
			opt("spi-"+dir, fmt.Sprint(k.spi))
			opt("enc-key-"+dir, k.enc)
		}
		if c.integ != nil {
			opt("auth-key-"+dir, k.integ)
		}
		if c.ah != nil {
			opt("ah-spi-"+dir, fmt.Sprint(k.ahSPI))
			opt("ah-key-"+dir, k.ahKeys)
		}
	}
	if c.udp {
		args = append(args, "--udp")
	}
	if c.esn {
		args = append(args, "--esn")
	}
	return args
}

// modes are the kernel's modes of the SAs: of a bundle the inner one makes the tunnel.
func (c *manualCell) modes() []string {
	ms := []string{c.like().mode()}
	if c.encr != nil && c.ah != nil {
		ms = append(ms, "transport")
	}
	return ms
}

// states are the arguments of `ip xfrm` that make the SAs of one direction.
func (c *manualCell) states(from, to string, k manualKeys) (lines []string) {
	for i, proto := range c.protocols() {
		mode := c.modes()[i]
		spi, algorithms := k.spi, ""
		switch {
		case proto == "ah":
			spi, algorithms = k.ahSPI, fmt.Sprintf("auth-trunc %s 0x%s %d", kernelHMAC(c.ah), k.ahKeys, c.ah.ICVLen*8)
			if !c.rounded {
				algorithms += " flag align4"
			}
		case c.encr.AEAD():
			algorithms = fmt.Sprintf("aead %s 0x%s %d", manualCiphers[c.encr.SAName], k.enc, c.encr.ICVLen*8)
		default:
			algorithms = fmt.Sprintf("auth-trunc %s 0x%s %d enc %s ", kernelHMAC(c.integ), k.integ, c.integ.ICVLen*8, manualCiphers[c.encr.SAName])
			if k.enc == "" {
				algorithms += `""`
			} else {
				algorithms += "0x" + k.enc
			}
		}
		line := fmt.Sprintf("state add src %s dst %s proto %s spi %#x reqid %d mode %s replay-window 64 %s", from, to, proto, spi, i+1, mode, algorithms)
		if !c.transport {
			line += " flag af-unspec" // IPv4 and IPv6 inside, inside the AH of a bundle too
		}
		if c.esn {
			line += " flag esn"
		}
		if c.udp {
			line += " encap espinudp 4500 4500 0.0.0.0"
		}
		lines = append(lines, line)
	}
	return lines
}

// policy is the arguments of `ip xfrm` that make the kernel's policy of one direction.
func (c *manualCell) policy(dir string, src, dst fmt.Stringer, from, to string) string {
	line := fmt.Sprintf("policy add src %s dst %s dir %s priority 100", src, dst, dir)
	for i, proto := range c.protocols() {
		line += fmt.Sprintf(" tmpl src %s dst %s proto %s reqid %d mode %s", from, to, proto, i+1, c.modes()[i])
	}
	return line
}

// kernelWants is what the kernel has to report of an SA of that protocol.
func (c *manualCell) kernelWants(proto string) [7]any {
	mode := c.modes()[slices.Index(c.protocols(), proto)]
	if proto == "ah" {
		return [...]any{proto, mode, kernelHMAC(c.ah), 0, c.ah.ICVLen * 8, c.esn, false}
	}
	cipher, bits := manualCiphers[c.encr.SAName], c.encr.MaterialLen()*8
	if c.encr.AEAD() {
		return [...]any{proto, mode, cipher, bits, c.encr.ICVLen * 8, c.esn, c.udp}
	}
	return [...]any{proto, mode, kernelHMAC(c.integ) + " " + cipher, bits, c.integ.ICVLen * 8, c.esn, c.udp}
}

// wireWants is the one sort of packet that may be between the two, from either.
func (c *manualCell) wireWants() lab.Sort {
	switch {
	case c.udp:
		return lab.Sort{Kind: "esp in udp"}
	case c.ah == nil:
		return lab.Sort{Kind: "esp"}
	}
	s := lab.Sort{Kind: "ah", AHLen: 12 + c.ah.ICVLen, Next: 4, Options: c.options} // RFC 4302 §2.2, §2.6
	switch {
	case c.encr != nil:
		s.Next = 50
	case c.transport:
		s.Next = 6
	case c.inner6:
		s.Next = 41
	}
	if c.outer6 || c.rounded {
		s.AHLen = (s.AHLen + 7) &^ 7
	}
	return s
}
