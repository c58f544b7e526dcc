//go:build linux

package interop

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// kernelCell is a test of culvert with the IPsec of the Linux kernel: strongSwan
// negotiates in a guest, whose kernel carries the packets.
type kernelCell struct {
	name  string
	suite espSuite // with AH the hash alone counts

	theyInitiate bool
	v1           bool // by IKEv1, main mode
	ah           bool
	transport    bool
	template     bool   // we make the policy from a template
	udp          bool   // ESP in UDP; else with protocol 50
	outer6       bool   // the gateways speak IPv6 with each other
	inner6       bool   // so do the protected networks; in transport mode those are the gateways
	esn          [2]esn // ours, theirs
	padded       bool   // both pad ESP to the MTU
	dummies      bool   // and we send dummy packets

	event kernelEvent
	limit time.Duration
}

// esn is what a side allows: `esn` of a proposal.
type esn string

const (
	esnNo   esn = "no"
	esnYes  esn = "yes"
	esnBoth esn = "both"
)

// kernelEncr is what the kernel calls a cipher.
type kernelEncr struct {
	encr
	kernel string
	salt   int // bits of salt in the kernel's key
	icv    int // bits of an AEAD's ICV
}

const (
	kernelGCM = "rfc4106(gcm(aes))"
	kernelCCM = "rfc4309(ccm(aes))"
	kernelCTR = "rfc3686(ctr(aes))"
)

// kernelEncrs are the ciphers that both have.
var kernelEncrs = []kernelEncr{
	{aes128, "cbc(aes)", 0, 0},
	{aes192, "cbc(aes)", 0, 0},
	{aes256, "cbc(aes)", 0, 0},
	{aes128gcm, kernelGCM, 32, 128},
	{aes192gcm, kernelGCM, 32, 128},
	{aes256gcm, kernelGCM, 32, 128},
	{shortICV(128, "gcm", 12), kernelGCM, 32, 96},
	{shortICV(256, "gcm", 8), kernelGCM, 32, 64},
	{aes128ctr, kernelCTR, 32, 0},
	{aes192ctr, kernelCTR, 32, 0},
	{aes256ctr, kernelCTR, 32, 0},
	{shortICV(128, "ccm", 16), kernelCCM, 24, 128},
	{shortICV(192, "ccm", 12), kernelCCM, 24, 96},
	{shortICV(256, "ccm", 8), kernelCCM, 24, 64},
	{chacha, "rfc7539esp(chacha20,poly1305)", 32, 128},
	{gmac(128), "rfc4543(gcm(aes))", 32, 128},
	{gmac(192), "rfc4543(gcm(aes))", 32, 128},
	{gmac(256), "rfc4543(gcm(aes))", 32, 128},
	{camellia128, "cbc(camellia)", 0, 0},
	{camellia192, "cbc(camellia)", 0, 0},
	{camellia256, "cbc(camellia)", 0, 0},
	{tripleDES, "cbc(des3_ede)", 0, 0},
	{blowfish, "cbc(blowfish)", 0, 0},
	{twofish, "cbc(twofish)", 0, 0},
	{des, "cbc(des)", 0, 0},
	{null, "ecb(cipher_null)", 0, 0},
}

// gmac is AES in GMAC, which user space has no need of.
func gmac(bits int) encr {
	return encr{"", fmt.Sprintf("aes-%d-gmac", bits), "aes-gmac", fmt.Sprintf("aes%dgmac", bits), "NULL_AES_GMAC", bits, true}
}

func kernelEncrOf(e encr) kernelEncr {
	for _, k := range kernelEncrs {
		if k.encr == e {
			return k
		}
	}
	return kernelEncr{}
}

// icvBits are those of the hash in ESP and AH.
var icvBits = map[hash]int{md5: 96, sha1: 96, sha256: 128, sha384: 192, sha512: 256}

var hashes = []hash{md5, sha1, sha256, sha384, sha512}

const (
	kernelGroup   = "Linux kernel"
	kernelV1Group = "Linux kernel, IKEv1"
)

// kernelCells is the matrix with the kernel, in the order of the table.
func kernelCells() []kernelCell {
	var all []kernelCell
	for _, c := range slices.Concat(kernelSuiteCells(), kernelModeCells(), kernelESNCells(), kernelRekeyCells(), kernelPaddedCells(), kernelV1Cells()) {
		if c.limit == 0 {
			c.limit = 3 * time.Minute
		}
		if c.suite == (espSuite{}) {
			c.suite = usualESP
		}
		if c.esn == ([2]esn{}) {
			c.esn = [2]esn{esnBoth, esnNo}
		}
		who := "we-initiate"
		if c.theyInitiate {
			who = "they-initiate"
		}
		c.name = "kernel-" + strings.ReplaceAll(c.name, " ", "-") + "-" + who
		all = append(all, c)
	}
	return all
}

// fromBothSides is a cell, once begun by each side.
func fromBothSides(c kernelCell) []kernelCell {
	they := c
	they.theyInitiate = true
	return []kernelCell{c, they}
}

// kernelSuiteCells: each cipher, with hashes in turn where it needs one, and each
// hash; begun by each side in turn.
func kernelSuiteCells() (cs []kernelCell) {
	next := 0
	for _, k := range kernelEncrs {
		c := kernelCell{name: k.esp, suite: espSuite{k.encr, sha256, noPFS}}
		if !k.aead {
			c.suite.hash = hashes[next%len(hashes)]
			next++
			c.name += "-" + c.suite.hash.name
		}
		cs = append(cs, c)
	}
	for _, h := range hashes {
		c := kernelCell{name: "aes-256-cbc-" + h.name, suite: espSuite{aes256, h, noPFS}}
		if !slices.ContainsFunc(cs, func(o kernelCell) bool { return o.suite == c.suite }) {
			cs = append(cs, c)
		}
	}
	for i := range cs {
		cs[i].theyInitiate = i%2 == 1
	}
	return cs
}

// kernelModeCells: both protocols, modes and address families, bare and in UDP.
func kernelModeCells() (cs []kernelCell) {
	families := [2]string{"ipv4", "ipv6"}
	cbc := espSuite{aes128, sha256, noPFS}
	for outer, outerName := range families {
		for inner, innerName := range families {
			name := "tunnel-" + innerName + "-in-" + outerName
			c := kernelCell{outer6: outer == 1, inner6: inner == 1, suite: cbc}
			c.name = "esp-" + name
			cs = append(cs, fromBothSides(c)...)
			c.name, c.udp = "esp-in-udp-"+name, true
			cs = append(cs, fromBothSides(c)...)
		}
		for _, udp := range []bool{false, true} {
			c := kernelCell{name: "esp-transport-" + outerName, transport: true, outer6: outer == 1, inner6: outer == 1, suite: cbc}
			if c.udp = udp; udp {
				c.name = "esp-in-udp-transport-" + outerName
			}
			cs = append(cs, fromBothSides(c)...)
			c.name += "-gcm"
			c.suite = usualESP
			cs = append(cs, fromBothSides(c)...)
		}
		for _, h := range []hash{sha1, sha256, sha512} {
			c := kernelCell{ah: true, suite: espSuite{hash: h, pfs: noPFS}, outer6: outer == 1, inner6: outer == 1}
			c.name = "ah-tunnel-" + outerName + "-" + h.name
			cs = append(cs, fromBothSides(c)...)
			c.name, c.transport = "ah-transport-"+outerName+"-"+h.name, true
			cs = append(cs, fromBothSides(c)...)
		}
	}
	cs = append(cs,
		kernelCell{name: "ah-tunnel-ipv4-md5", ah: true, suite: espSuite{hash: md5, pfs: noPFS}},
		kernelCell{name: "ah-transport-ipv6-sha384", ah: true, transport: true, outer6: true, inner6: true, theyInitiate: true, suite: espSuite{hash: sha384, pfs: noPFS}})
	for i, name := range []string{"ipv6-in-ipv4", "ipv4-in-ipv6"} {
		cs = append(cs, fromBothSides(kernelCell{name: "ah-tunnel-" + name, ah: true, suite: espSuite{hash: sha256, pfs: noPFS}, outer6: i == 1, inner6: i == 0})...)
	}
	return cs
}

// kernelV1Cells: what only a kernel can show of IKEv1, transport mode and AH.
func kernelV1Cells() (cs []kernelCell) {
	cbc, ah := espSuite{aes128, sha256, noPFS}, espSuite{hash: sha256, pfs: noPFS}
	for _, c := range []kernelCell{
		{name: "v1-esp-transport-ipv4", transport: true, suite: cbc},
		{name: "v1-ah-tunnel-ipv4", ah: true, suite: ah},
		{name: "v1-ah-transport-ipv4", ah: true, transport: true, suite: ah},
	} {
		cs = append(cs, fromBothSides(c)...)
	}
	cs = append(cs,
		kernelCell{name: "v1-esp-transport-ipv6-gcm", transport: true, outer6: true, inner6: true},
		kernelCell{name: "v1-ah-tunnel-ipv6-in-ipv4", ah: true, suite: espSuite{hash: sha1, pfs: noPFS}, inner6: true, theyInitiate: true})
	for i := range cs {
		cs[i].v1 = true
	}
	return cs
}

// kernelESNCells: extended sequence numbers as each side allows them, in ESP with
// and without integrity of its own and in AH; begun by each side in turn.
func kernelESNCells() (cs []kernelCell) {
	for i, allowed := range [][2]esn{{esnNo, esnNo}, {esnYes, esnYes}, {esnBoth, esnYes}, {esnBoth, esnBoth}, {esnYes, esnBoth}, {esnNo, esnBoth}} {
		name := "-esn-" + string(allowed[0]) + "-" + string(allowed[1])
		group := []kernelCell{
			{name: "esp-gcm" + name},
			{name: "esp-cbc" + name, suite: espSuite{aes256, sha512, noPFS}, transport: true, outer6: true, inner6: true},
			{name: "ah" + name, ah: true, suite: espSuite{hash: sha256, pfs: noPFS}},
		}
		for j, c := range group {
			c.esn, c.theyInitiate = allowed, (i+j)%2 == 1
			cs = append(cs, c)
		}
	}
	return append(cs, kernelCell{name: "esp-gcm-esn-both-both", esn: [2]esn{esnBoth, esnBoth}})
}

// kernelRekeyCells: each side replaces SAs while packets pass; what the kernel
// does by itself.
func kernelRekeyCells() (cs []kernelCell) {
	ah := espSuite{hash: sha1, pfs: noPFS}
	for _, c := range []kernelCell{
		{name: "esp-tunnel-rekey", event: kernelRekeys},
		{name: "esp-transport-rekey", transport: true, event: kernelRekeys},
		{name: "esp-transport-ipv6-rekey-pfs", transport: true, outer6: true, inner6: true, suite: espSuite{aes256, sha256, ecp256}, event: kernelRekeys},
		{name: "ah-transport-rekey", ah: true, transport: true, suite: ah, event: kernelRekeys},
		{name: "ah-tunnel-rekey", ah: true, suite: ah, event: kernelRekeys},
	} {
		c.limit = 5 * time.Minute
		cs = append(cs, fromBothSides(c)...)
	}
	for _, c := range []kernelCell{
		{name: "esp-transport-template-rekey"},
		{name: "esp-in-udp-transport-template-rekey", udp: true, outer6: true, inner6: true},
		{name: "ah-transport-template-rekey", ah: true, suite: ah},
	} {
		c.transport, c.template, c.theyInitiate, c.event, c.limit = true, true, true, kernelRekeys, 5*time.Minute
		cs = append(cs, c)
	}
	for _, h := range []hash{sha256, sha512} {
		c := kernelCell{name: "ah-rounded-" + h.name, ah: true, suite: espSuite{hash: h, pfs: noPFS}, event: kernelRounds}
		cs = append(cs, c)
		c.transport, c.theyInitiate = true, true
		cs = append(cs, c)
	}
	for _, c := range []kernelCell{
		{name: "esp-gcm-wraps"},
		{name: "esp-cbc-wraps", suite: espSuite{aes128, sha256, noPFS}, theyInitiate: true},
		{name: "ah-wraps", ah: true, suite: espSuite{hash: sha256, pfs: noPFS}, transport: true},
	} {
		c.esn, c.event = [2]esn{esnBoth, esnYes}, kernelWraps
		cs = append(cs, c)
	}
	return cs
}
