package demo

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"sync"

	"culvert/esp"
	"culvert/ike/message"
)

// Auditor looks at every datagram on the network between the gateways, as
// somebody who taps the line would, but knowing what must not be seen. A datagram
// passes that is
//
//   - an IKEv2 message that parses whole, and is encrypted where RFC 7296 wants
//     it encrypted, or
//   - ESP of an SA that the receiving gateway has installed, or
//   - a NAT keepalive,
//
// and that holds none of the Secrets at any offset. Safe for concurrent use.
type Auditor struct {
	// NATTPort is where ESP in UDP and IKE with a marker arrive; all other ports
	// carry IKE alone.
	NATTPort uint16
	// Secrets are what no datagram may hold.
	Secrets []Secret
	// Installed tells the SPIs of the inbound SAs of the gateway at an address.
	// It is asked when an SPI is seen for the first time.
	Installed func(gateway netip.Addr) ([]uint32, error)

	mu     sync.Mutex
	known  map[destination]bool
	report Report
}

// Secret is a run of bytes by which plaintext is known. It must be long enough
// not to come up in ciphertext by chance: 8 bytes do, once in 2^64 places.
type Secret struct {
	What string // "the payload"
	Run  []byte
}

// destination names an inbound SA (RFC 4301 §4.1).
type destination struct {
	gateway netip.Addr
	spi     uint32
}

// Report counts datagrams. Those that broke a rule are Plaintext, and in none
// of the other classes.
type Report struct {
	IKE, ESP, Keepalives, Plaintext int
	Bytes                           int64    // of all datagrams
	Findings                        []string // the first of those that broke a rule
}

// maxFindings is how many findings a Report describes.
const maxFindings = 4

// Total is the number of datagrams.
func (r Report) Total() int { return r.IKE + r.ESP + r.Keepalives + r.Plaintext }

// Err is nil where every datagram passed and there was something to look at.
func (r Report) Err() error {
	switch {
	case r.Plaintext > 0:
		return fmt.Errorf("%d of %d datagrams on the network were not protected: %s", r.Plaintext, r.Total(), strings.Join(r.Findings, "; "))
	case r.IKE == 0 || r.ESP == 0:
		return fmt.Errorf("the network carried %d IKE messages and %d ESP packets: that was no tunnel", r.IKE, r.ESP)
	}
	return nil
}

func (r Report) String() string {
	s := fmt.Sprintf("%d datagrams: %d IKE, %d ESP, %d plaintext", r.Total(), r.IKE, r.ESP, r.Plaintext)
	if r.Keepalives > 0 {
		s += fmt.Sprintf(", %d keepalives", r.Keepalives)
	}
	return s
}

// Look takes one datagram as it is on the wire.
func (a *Auditor) Look(from, to netip.AddrPort, datagram []byte) {
	class, fault := a.classify(to, datagram)
	if what := a.secretIn(datagram); what != "" {
		fault = "holds " + what
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report.Bytes += int64(len(datagram))
	if fault == "" {
		*class(&a.report)++
		return
	}
	a.report.Plaintext++
	if len(a.report.Findings) < maxFindings {
		a.report.Findings = append(a.report.Findings, fmt.Sprintf("%v to %v, %d bytes: %s", from, to, len(datagram), fault))
	}
}

// Report is what was seen so far.
func (a *Auditor) Report() Report {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.report
	r.Findings = append([]string(nil), r.Findings...)
	return r
}

func (a *Auditor) secretIn(datagram []byte) string {
	for _, s := range a.Secrets {
		if bytes.Contains(datagram, s.Run) {
			return s.What
		}
	}
	return ""
}

var marker = make([]byte, 4) // non-ESP marker, RFC 3948 §2.2

// classify says where the datagram counts, or what is wrong with it.
func (a *Auditor) classify(to netip.AddrPort, b []byte) (class func(*Report) *int, fault string) {
	natt := to.Port() == a.NATTPort
	switch {
	case natt && len(b) == 1 && b[0] == 0xFF:
		return func(r *Report) *int { return &r.Keepalives }, ""
	case natt && !bytes.HasPrefix(b, marker):
		return func(r *Report) *int { return &r.ESP }, a.esp(to, b)
	}
	if natt {
		b = b[len(marker):]
	}
	return func(r *Report) *int { return &r.IKE }, checkIKE(b)
}

func checkIKE(b []byte) string {
	h, err := message.ParseHeader(b)
	if err != nil {
		return "is neither IKE nor ESP: " + err.Error()
	}
	m, err := message.Parse(b)
	if err != nil {
		return "is no IKE message: " + err.Error()
	}
	if err := message.CheckOuter(h, m.Payloads); err != nil {
		return "is IKE in clear: " + err.Error()
	}
	return ""
}

func (a *Auditor) esp(to netip.AddrPort, b []byte) string {
	if len(b) < esp.HeaderLen {
		return "is too short for ESP"
	}
	d := destination{to.Addr(), binary.BigEndian.Uint32(b)}
	if a.knows(d) {
		return ""
	}
	spis, err := a.Installed(d.gateway)
	if err != nil {
		return "cannot be checked: " + err.Error()
	}
	a.mu.Lock()
	if a.known == nil {
		a.known = map[destination]bool{}
	}
	for _, spi := range spis {
		a.known[destination{d.gateway, spi}] = true
	}
	a.mu.Unlock()
	if !a.knows(d) {
		return fmt.Sprintf("is no ESP of an SA of %v: there is none with SPI %#08x", d.gateway, d.spi)
	}
	return ""
}

func (a *Auditor) knows(d destination) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.known[d]
}
