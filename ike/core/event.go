package core

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
)

// EventKind names what happened. The same event is a log line, a counter and a
// test's assertion.
type EventKind uint8

// What can happen.
const (
	EvNone           EventKind = iota
	EvIKEUp                    // an IKE SA is established
	EvIKEDown                  // an IKE SA ended; Reason says why
	EvIKERekeyed               // an IKE SA was replaced; SA is the new one, Old the old one
	EvChildUp                  // a CHILD SA is installed
	EvChildDown                // a CHILD SA ended
	EvChildRekeyed             // Child is the new one, OldChild the old one
	EvInitFailed               // an attempt as initiator came to nothing
	EvAuthFailed               // the peer's or our proof was refused
	EvNoProposal               // no proposal in common
	EvTSUnacceptable           // no selectors in common
	EvPeerDead                 // retransmissions were in vain
	EvBadMessage               // a message that could not be used; rate-limited by who logs
	EvNotify                   // an unexpected notify of the peer
	EvCertificate              // something about a certificate that did not refuse it
	EvMoved                    // an IKE SA goes between other addresses or ports
	EvLeased                   // an inner address was given to the peer, or to us
	EvRedirected               // the peer sent us to another gateway; Remote is that one
	EvRedirecting              // we sent the peer to another gateway
	EvAskedAgain               // we asked the peer to repeat a request, a moment later or with another group; that usually succeeds
	EvESPBlocked               // the peer answers IKE, and nothing of it comes by ESP
	EvPathMTU                  // long packets do not reach the peer, and no router has said so
)

var eventNames = [...]string{
	EvNone: "none", EvIKEUp: "ike-up", EvIKEDown: "ike-down", EvIKERekeyed: "ike-rekeyed",
	EvChildUp: "child-up", EvChildDown: "child-down", EvChildRekeyed: "child-rekeyed",
	EvInitFailed: "initiation-failed", EvAuthFailed: "authentication-failed",
	EvNoProposal: "no-proposal-chosen", EvTSUnacceptable: "ts-unacceptable",
	EvPeerDead: "peer-dead", EvBadMessage: "bad-message", EvNotify: "notify", EvMoved: "moved", EvLeased: "leased",
	EvCertificate: "certificate", EvRedirected: "redirected", EvRedirecting: "redirecting", EvAskedAgain: "asked-again", EvESPBlocked: "esp-blocked", EvPathMTU: "path-mtu",
}

func (k EventKind) String() string {
	if int(k) < len(eventNames) {
		return eventNames[k]
	}
	return "unknown"
}

// Event is something that people may want to know.
type Event struct {
	Kind          EventKind
	SA, Old       SAID
	Child, OldC   ChildID
	Policy        PolicyRef
	Peer          string
	Local, Remote netip.AddrPort
	Initiator     bool      // of the IKE SA: we began it
	Exchange      string    // the exchange that it happened in, as far as there is one
	Reason        string    // for people: what happened and what to do next
	Detail        *Mismatch // where both sides part; nil where that is not what happened
}

// maxText bounds what a peer can have us say: its names and the addresses in its certificates may be 64 KiB long.
const maxText = 1500

func (e Event) clipped() Event {
	e.Reason = clipped(e.Reason, maxText)
	if d := e.Detail; d != nil {
		short := *d
		short.Ours, short.Theirs, short.Hint = clippedAll(d.Ours), clippedAll(d.Theirs), clipped(d.Hint, maxText)
		e.Detail = &short
	}
	return e
}

func clippedAll(lines []string) []string {
	if !slices.ContainsFunc(lines, func(l string) bool { return len(l) > maxID+100 }) {
		return lines
	}
	list := make([]string, len(lines))
	for i, l := range lines {
		list[i] = clipped(l, maxID+100)
	}
	return list
}

// clipped is the beginning of a long text.
func clipped(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(s[:most], ""), len(s))
}

// LogValue makes the event one structured log group without empty fields.
func (e Event) LogValue() slog.Value {
	a := []slog.Attr{slog.String("event", e.Kind.String())}
	if e.Peer != "" {
		a = append(a, slog.String("peer", e.Peer))
	}
	if e.Remote.IsValid() {
		a = append(a, slog.String("remote", e.Remote.String()))
	}
	if e.SA != 0 {
		a = append(a, slog.Uint64("ike-sa", uint64(e.SA)))
	}
	if e.Child != 0 {
		a = append(a, slog.Uint64("child", uint64(e.Child)))
	}
	if e.Reason != "" {
		a = append(a, slog.String("reason", e.Reason))
	}
	if d := e.Detail; d != nil {
		a = append(a, slog.Any("ours", d.Ours))
		if len(d.Theirs) > 0 {
			a = append(a, slog.Any("theirs", d.Theirs))
		}
		a = append(a, slog.String("hint", d.Hint))
	}
	return slog.GroupValue(a...)
}
