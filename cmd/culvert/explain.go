package main

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"culvert/config"
	"culvert/internal/operate/control"
)

// The explain commands: why there is no tunnel, and what becomes of a packet.

type explainPeerCmd struct {
	Name string `arg:"" placeholder:"NAME" help:"Name of the peer."`
	JSON bool   `name:"json" help:"Print a JSON object."`
}

func (explainPeerCmd) Help() string {
	return `Tells what became of the last attempts to come together with a peer, the newest first: when, who began, between which addresses, how far they got, what each side offered, where they part, and which line of the configuration would let it through. What the other side does not say (as initiator a refusal is one word) stands in its log: run this there, too. Equal attempts are one entry with a count. What became known goes when the gateway stops.

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
		w.line(1, "IKE SA %s for %s, we are %s, %s to %s, %s", sa.State, sa.Since, sa.Side, sa.LocalAddress, sa.RemoteAddress, plural(sa.Children, "CHILD SA"))
	}
	for _, p := range x.Policies {
		w.line(1, "%s", p)
	}
	w.lines(1, x.Host)
	if len(x.Attempts) == 0 {
		w.line(0, "no attempt yet; what we would agree to:")
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
	w.line(1, "we are %s%s", a.Side, at)
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
	SrcPort  *int   `placeholder:"PORT" help:"Source port; of ICMP the type (an echo request, if neither is given)."`
	DstPort  *int   `placeholder:"PORT" help:"Destination port; of ICMP the code."`
	Fragment bool   `help:"A fragment that is not the first: its ports cannot be seen."`
	Inbound  bool   `help:"A packet that comes from the other side, out of an SA."`
	SPI      string `name:"spi" placeholder:"SPI" help:"With --inbound: by which SA (default: the newest that covers it)."`
	JSON     bool   `name:"json" help:"Print a JSON object."`
}

func (explainPacketCmd) Help() string {
	return `Tells what the gateway would do with a packet now, and why: which policy is the first that matches and where it stands, by which SA the packet would leave or what happens without one, and in which counter it would end. The tables that are asked are those that carry traffic at this moment, and on Linux the kernel: which way its rules and routes lead the packet, what its table of nftables does with it, and whether they are as the gateway has set them up. No packet is sent, nothing is counted, no SA is asked for. A packet that no policy matches is told which policies it misses by one thing alone. A source that NAT translates on this machine has to be given as it is afterwards. --protocol icmp alone is a ping.

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
	w.line(0, "=> %s", map[string]string{"protect": "protected, and sent to the peer", "deliver": "let in", "drop": "dropped",
		"hold": "is held until its packet is whole", "pass-unprotected": "passes in clear, by the host's own routes"}[x.Verdict])
	return w.to(s)
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

// text is lines for people. What a peer chose is in them only as printable text.
type text struct {
	width int // of the terminal; 0: there is none
	b     strings.Builder
}

// foldAt is the width of lines that people read, on wider terminals too.
const foldAt = 80

// line writes one line and folds it at spaces. The lines after the first are indented further.
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

// printable replaces what could steer a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
