package main

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"culvert/config"
	"culvert/internal/operate/control"
)

// The explain commands.

type explainPeerCmd struct {
	Name string `arg:"" placeholder:"NAME" help:"Name of the peer."`
	JSON bool   `name:"json" help:"Print a JSON object."`
}

func (explainPeerCmd) Help() string {
	return `Shows the state of a peer and the last attempts to connect, the newest first. Each attempt says when it happened, which side began, between which addresses, how far it got, what each side offered, where they differ, and which line of the configuration to change. Equal attempts are one entry with a count.

A peer that refuses us says no more than one error code. The reason is in its own log: if it runs Culvert, run this command there. Attempts are kept in memory, and are gone when the gateway stops.

Example:

    culvert explain peer site2
    culvert explain peer site2 --json | jq '.attempts[0].hint'`
}

func (c *explainPeerCmd) Run(s *session) error {
	x, err := s.client().ExplainPeer(s.ctx, c.Name)
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(s.stdout, x)
	}
	w := text{width: s.width}
	w.line(0, "peer %s%s, %s: %s", x.Peer, in(x.Where), x.Address, x.State)
	if x.Note != "" {
		w.line(1, "%s", x.Note)
	}
	for _, sa := range x.SAs {
		w.line(1, "IKE SA %s for %s, we are the %s, %s to %s, %s", sa.State, sa.Since, sa.Side, sa.LocalAddress, sa.RemoteAddress, plural(sa.Children, "CHILD SA"))
		if sa.EncAlgorithm != "" {
			w.line(2, "%s", negotiated(&sa))
		}
		if sa.PathMTU != 0 {
			w.line(2, "%s", pathMTU(&sa))
		}
	}
	for _, p := range x.Policies {
		w.line(1, "%s", p)
	}
	w.lines(1, x.Host)
	if len(x.Attempts) == 0 {
		w.line(0, "no attempt yet; we accept:")
		for _, o := range x.Offers {
			w.line(1, "%s", o.What)
			w.lines(2, o.Lines)
		}
	}
	for i := range x.Attempts {
		writeAttempt(&w, &x.Attempts[i])
	}
	return w.to(s)
}

// negotiated is what was negotiated for an IKE SA.
func negotiated(sa *control.PeerSA) string {
	text := "encryption " + sa.EncAlgorithm
	for _, part := range [][2]string{{"hash", sa.HashAlgorithm}, {"prf", sa.PRFAlgorithm}, {"dh-group", sa.DHGroup}} {
		if part[1] != "" {
			text += ", " + part[0] + " " + part[1]
		}
	}
	if sa.ID != "" {
		text += "; we are " + sa.MyID + ", the peer is " + sa.ID
	}
	if sa.RekeyIn > 0 {
		text += fmt.Sprintf("; next rekey in %s", sa.RekeyIn)
	}
	return text
}

// pathMTU says how long packets to the peer may be.
func pathMTU(sa *control.PeerSA) string {
	switch sa.Measured {
	case 0:
		return fmt.Sprintf("path MTU %d, not measured", sa.PathMTU)
	case sa.PathMTU:
		return fmt.Sprintf("path MTU %d, measured %s ago", sa.PathMTU, sa.MeasuredAgo)
	}
	return fmt.Sprintf("path MTU %d; %d was measured %s ago, and a router or the first link takes less now", sa.PathMTU, sa.Measured, sa.MeasuredAgo)
}

func writeAttempt(w *text, a *control.Attempt) {
	times := ""
	if a.Times > 1 {
		times = fmt.Sprintf(", %d times since %s", a.Times, a.Since)
	}
	w.line(0, "")
	w.line(0, "%s ago: %s%s", a.Ago, a.Result, times)
	at := ""
	if a.RemoteAddress != "" {
		at = ", " + a.LocalAddress + " to " + a.RemoteAddress
	}
	if a.Exchange != "" {
		at += ", in " + a.Exchange
	}
	w.line(1, "we were the %s%s", a.Side, at)
	if a.Reason != "" {
		w.line(1, "%s", a.Reason)
	}
	if a.What == "" {
		return
	}
	if len(a.Ours) > 0 {
		w.line(1, "%s, ours:", a.What)
		w.lines(2, a.Ours)
	}
	if len(a.Theirs) > 0 {
		w.line(1, "%s, the peer's:", a.What)
		w.lines(2, a.Theirs)
	}
	w.line(1, "=> %s", a.Hint)
}

type explainPacketCmd struct {
	Src      string `required:"" placeholder:"ADDR" help:"Source of the packet."`
	Dst      string `required:"" placeholder:"ADDR" help:"Destination of the packet."`
	Protocol string `required:"" placeholder:"NAME" help:"Its protocol: a name such as tcp, udp or icmp, or a number."`
	SrcPort  *int   `placeholder:"PORT" help:"Source port; for ICMP the type (default: echo request)."`
	DstPort  *int   `placeholder:"PORT" help:"Destination port; for ICMP the code."`
	Fragment bool   `help:"A fragment other than the first, which shows no ports."`
	Inbound  bool   `help:"A packet that arrives from the peer, inside an SA."`
	SPI      string `name:"spi" placeholder:"SPI" help:"With --inbound: the SA that carries it (default: the newest that covers it)."`
	JSON     bool   `name:"json" help:"Print a JSON object."`
}

func (explainPacketCmd) Help() string {
	return `Shows what the gateway would do with a packet now, and why: which policy matches first and in which line it is, which SA would carry the packet or what happens without one, and which counter would count it. If no policy matches, it names the policies that differ in one property only.

The answer comes from the tables that carry traffic at this moment. On Linux the kernel is asked too: how its rules and routes forward the packet, what the guard's nftables table does with it, and whether both are as the gateway has set them up. No packet is sent, nothing is counted, and no SA is negotiated.

If this host translates the source address (NAT), give the translated address. --protocol icmp without ports means an echo request (ping).

Example:

    culvert explain packet --src 10.1.202.5 --dst 10.1.101.7 --protocol tcp --dst-port 443
    culvert explain packet --src 10.1.101.7 --dst 10.1.202.5 --protocol icmp --inbound`
}

func (c *explainPacketCmd) Run(s *session) error {
	x, err := s.client().ExplainPacket(s.ctx, c.query())
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(s.stdout, x)
	}
	w := text{width: s.width}
	w.line(0, "%s", x.Packet)
	w.lines(1, x.Why)
	w.line(0, "=> %s", verdictText(&x))
	return w.to(s)
}

// verdicts are the words for PacketExplanation.Verdict.
var verdicts = map[string]string{
	"protect":          "protected and sent to the peer",
	"deliver":          "accepted",
	"drop":             "dropped",
	"hold":             "held until all fragments have arrived",
	"pass-unprotected": "sent in clear, by the host's own routes",
	"local":            "delivered to this host itself",
	"unknown":          "not known",
}

func verdictText(x *control.PacketExplanation) string {
	if x.Assumes != "" {
		return verdicts[x.Verdict] + ", if " + x.Assumes
	}
	return verdicts[x.Verdict]
}

// echoRequests are the types of ICMP and ICMPv6 that ping sends.
var echoRequests = map[config.Protocol]int{1: 8, 58: 128}

func (c *explainPacketCmd) query() control.PacketQuery {
	q := control.PacketQuery{Src: c.Src, Dst: c.Dst, Protocol: c.Protocol, Fragment: c.Fragment, Inbound: c.Inbound, SPI: c.SPI}
	if p, ok := config.ParseProtocol(c.Protocol); ok && c.SrcPort == nil && c.DstPort == nil && !c.Fragment {
		q.SrcPort = echoRequests[p]
	}
	if c.SrcPort != nil {
		q.SrcPort = *c.SrcPort
	}
	if c.DstPort != nil {
		q.DstPort = *c.DstPort
	}
	return q
}

// in is " (FILE:LINE)".
func in(where string) string {
	if where == "" {
		return ""
	}
	return " (" + where + ")"
}

// text builds output for people. Characters that could control the terminal are replaced, because a peer
// may have chosen them.
type text struct {
	width int // of the terminal; 0: there is none
	b     strings.Builder
}

// foldAt is the longest line in columns, on wider terminals too.
const foldAt = 80

// line writes one line and folds it at spaces. Continuation lines are indented further.
func (t *text) line(indent int, format string, a ...any) {
	width := foldAt
	if t.width > 0 {
		width = min(width, t.width)
	}
	pad := strings.Repeat("  ", indent)
	words := strings.Split(printable(fmt.Sprintf(format, a...)), " ")
	t.b.WriteString(pad + words[0])
	at := len(pad) + utf8.RuneCountInString(words[0])
	for _, word := range words[1:] {
		n := utf8.RuneCountInString(word)
		if at+1+n > width {
			t.b.WriteString("\n" + pad + "    " + word)
			at = len(pad) + 4 + n
		} else {
			t.b.WriteString(" " + word)
			at += 1 + n
		}
	}
	t.b.WriteByte('\n')
}

func (t *text) lines(indent int, lines []string) {
	for _, l := range lines {
		t.line(indent, "%s", l)
	}
}

func (t *text) to(s *session) error {
	_, err := fmt.Fprint(s.stdout, t.b.String())
	return err
}

// printable replaces control characters.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
