package view

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"culvert/config"
	"culvert/internal/host/guard"
	"culvert/internal/operate/control"
	"culvert/internal/packet/datapath"
	"culvert/internal/packet/wire"
	"culvert/tun"
)

// What the host does with a packet before it reaches the device and after it has left it. The
// answers are read from the kernel's rules, routes and nftables, not from the gateway's plan.

// Host is what a view may ask the system.
type Host struct {
	Prober tun.Prober      // nil: it cannot be asked
	Guard  guard.Explainer // nil: there is none, or it cannot be asked
	Device string
	Mark   uint32 // of the gateway's own packets
	// Differences lists what of the system is not as the gateway has set it up.
	Differences func() []string
}

// The verdicts that the host gives. The others are the data path's.
const (
	verdictDrop    = "drop"
	verdictClear   = "pass-unprotected"
	verdictLocal   = "local"
	verdictUnknown = "unknown"
)

// explainHost adds what the host does with a packet to what the data path would do with it. path is
// what follows from the policy if the packet reaches the data path.
func (v *View) explainHost(x *control.PacketExplanation, f *wire.Flow, inbound bool, path []string) {
	x.Differences = []string{}
	h := &v.Host
	switch {
	case h.Prober == nil:
		h.assume(x, inbound, path)
		return
	case inbound:
		x.Why = slices.Concat(x.Why, path, h.inbound(x, f))
	default:
		v.outbound(x, f, path)
	}
	if x.Differences = notNil(h.Differences()); len(x.Differences) > 0 {
		x.Why = append(x.Why, notAsPlanned(x.Differences))
	}
}

// assume is for a system that cannot be asked for its routes.
func (h *Host) assume(x *control.PacketExplanation, inbound bool, path []string) {
	x.Why = append(x.Why, path...)
	switch {
	case unmatched(x):
		x.Verdict, x.Assumes = verdictClear, "the host does not route it to "+h.Device
		x.Why = append(x.Why, fmt.Sprintf("if it reached %s, it would be dropped and counted in %s", h.Device, x.Counter))
	case inbound && x.Verdict == "deliver":
		x.Assumes = "the host accepts it from " + h.Device
	case !inbound && x.Verdict != verdictClear:
		x.Assumes = "the host routes it to " + h.Device
	}
}

// unmatched reports whether no policy matches a packet that leaves.
func unmatched(x *control.PacketExplanation) bool {
	return x.Counter == datapath.OutPolicyErrors.String() || x.Counter == datapath.OutLinkLocal.String()
}

// missed decides about a packet that does not reach the data path.
func missed(x *control.PacketExplanation, verdict string, why ...string) {
	if !unmatched(x) || verdict != verdictClear {
		x.Counter = ""
	}
	x.Verdict, x.Acquire = verdict, false
	x.SPI, x.SAState, x.SACover, x.SrcAddr, x.DstAddr = "", "", "", "", ""
	x.Why = append(x.Why, why...)
}

func notNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func notAsPlanned(differences []string) string {
	return "this host is not as the gateway has set it up, and the gateway is repairing it: " + strings.Join(differences, "; ")
}

func cannotAsk(err error) string {
	return fmt.Sprintf("the kernel did not answer how it routes the packet: %v", err)
}

// outbound is for a packet that this host sends, or receives from a network behind it.
func (v *View) outbound(x *control.PacketExplanation, f *wire.Flow, path []string) {
	h := &v.Host
	q := tun.Query{Src: f.Src, Dst: f.Dst, Proto: f.Proto}
	if !f.Opaque && config.Protocol(f.Proto).HasPorts() {
		q.SrcPort, q.DstPort = f.SrcPort, f.DstPort
	}
	back, err := h.Prober.Lookup(tun.Query{Dst: f.Src})
	if err != nil {
		missed(x, verdictUnknown, cannotAsk(err))
		return
	}
	from := ""
	if !back.Local {
		if peer := v.leasedFrom(f.Src); peer != "" {
			missed(x, verdictDrop, fmt.Sprintf("peer %s gave this host the address %v, and the host does not have it: nothing can be sent from there", peer, f.Src))
			return
		}
		q.In, from = back.Device, ", which arrives on "+back.Device+","
		if back.Device == h.Device || back.Nowhere != "" {
			// The route to its source is the device itself: nobody behind this host sends it.
			missed(x, verdictUnknown, fmt.Sprintf("no network behind this host has the address %v: the kernel routes it %s", f.Src, describe(back)))
			return
		}
	}
	w, err := h.Prober.Lookup(q)
	if err != nil {
		missed(x, verdictUnknown, cannotAsk(err))
		return
	}
	x.Device = w.Device
	x.Why = append([]string{fmt.Sprintf("the kernel routes it%s %s", from, describe(w))}, x.Why...)
	switch {
	case w.Local:
		missed(x, verdictLocal, "its destination is an address of this host: it does not leave")
	case w.Nowhere != "":
		x.Device = ""
		missed(x, verdictDrop, "it does not reach "+h.Device+": the kernel drops it ("+w.Nowhere+")")
	case w.Device != h.Device:
		h.bypasses(x, f, w, back.Local)
		if back.Local {
			h.otherSource(x, f, q)
		}
	case unmatched(x):
		x.Why = append(x.Why, "it reaches "+h.Device+" although no policy matches it, and is dropped")
	default:
		x.Why = append(x.Why, path...)
		if x.Verdict == "protect" {
			h.sealed(x)
		}
	}
}

// leasedFrom is the peer that gave this host an address; "": none did.
func (v *View) leasedFrom(a netip.Addr) string {
	for _, sa := range v.IKE.SAs() {
		if sa.Initiator && slices.Contains(sa.Leased, a) {
			return sa.Peer
		}
	}
	return ""
}

// bypasses is for a packet that leaves by another device than the gateway's.
func (h *Host) bypasses(x *control.PacketExplanation, f *wire.Flow, w tun.Decision, fromUs bool) {
	where := "it does not reach " + h.Device + ": it leaves through " + w.Device + " in clear"
	v, err := h.judge(guard.Packet{Src: f.Src, Dst: f.Dst, Proto: f.Proto, SrcPort: f.SrcPort, DstPort: f.DstPort, Opaque: f.Opaque,
		Device: w.Device, FromUs: fromUs, Broadcast: w.Broadcast})
	switch {
	case err != nil:
		missed(x, verdictUnknown, where+", and it is not known what the guard does with it: "+err.Error())
	case v.Drop:
		missed(x, verdictDrop, where+", and the guard drops it there (chain "+v.Chain+")")
		x.Counter = "guard-out"
	case v.Absent:
		missed(x, verdictClear, where+", and no guard is in force")
	default:
		missed(x, verdictClear, where+", and the guard allows it")
	}
}

// otherSource says it if a program that leaves the source to the kernel sends through the device: from
// the address that a peer gave this host, for example.
func (h *Host) otherSource(x *control.PacketExplanation, f *wire.Flow, q tun.Query) {
	q.Src = netip.Addr{}
	w, err := h.Prober.Lookup(q)
	if err == nil && w.Device == h.Device && w.Src.IsValid() && w.Src != f.Src {
		x.Why = append(x.Why, fmt.Sprintf("a program that chooses no source address sends from %v, through %s: ask with --src %v", w.Src, h.Device, w.Src))
	}
}

// sealed is what becomes of the ESP or AH packet that the SA makes of a packet.
func (h *Host) sealed(x *control.PacketExplanation) {
	lost := func(verdict, format string, a ...any) {
		x.Verdict = verdict
		x.Why = append(x.Why, fmt.Sprintf(format, a...))
	}
	local, ok := outerAddr(x.SrcAddr)
	remote, ok2 := outerAddr(x.DstAddr)
	if !ok || !ok2 {
		return
	}
	if at, err := h.Prober.Lookup(tun.Query{Dst: local}); err == nil && !at.Local {
		lost(verdictDrop, "%v, from which the SA sends, is not an address of this host: nothing can be sent from there", local)
		return
	}
	w, err := h.Prober.Lookup(tun.Query{Src: local, Dst: remote, Mark: h.Mark})
	switch {
	case err != nil:
		lost(verdictUnknown, "the kernel did not answer how it routes ESP to %v: %v", remote, err)
	case w.Nowhere != "":
		lost(verdictDrop, "the kernel drops ESP to %v: %s", remote, w.Nowhere)
	case w.Device == h.Device:
		lost(verdictDrop, "%s", h.peer(remote))
	}
}

// outerAddr is the address of an end of an SA, with or without a port.
func outerAddr(text string) (netip.Addr, bool) {
	if a, err := netip.ParseAddrPort(text); err == nil {
		return a.Addr(), true
	}
	a, err := netip.ParseAddr(text)
	return a, err == nil && !a.IsUnspecified()
}

// inbound is for a packet that was decrypted.
func (h *Host) inbound(x *control.PacketExplanation, f *wire.Flow) (last []string) {
	q := tun.Query{Src: f.Src, Dst: f.Dst, Proto: f.Proto, In: h.Device}
	if !f.Opaque && config.Protocol(f.Proto).HasPorts() {
		q.SrcPort, q.DstPort = f.SrcPort, f.DstPort
	}
	if x.Verdict == "deliver" {
		w, err := h.Prober.Lookup(q)
		switch {
		case err != nil:
			x.Verdict = verdictUnknown
			last = append(last, cannotAsk(err))
		case w.Nowhere != "":
			x.Verdict = verdictDrop
			last = append(last, fmt.Sprintf("it leaves %s, and the kernel drops it: %s", h.Device, w.Nowhere))
		default:
			x.Device = w.Device
			last = append(last, fmt.Sprintf("it leaves %s, and the kernel routes it %s", h.Device, describe(w)))
		}
	}
	// The same packet in clear.
	clear, err := h.Prober.Lookup(tun.Query{Dst: f.Src, Mark: h.Mark})
	here, err2 := h.Prober.Lookup(tun.Query{Dst: f.Dst})
	if err != nil || err2 != nil || clear.Device == "" || clear.Device == h.Device || clear.Local {
		return last
	}
	v, err := h.judge(guard.Packet{Src: f.Src, Dst: f.Dst, Proto: f.Proto, SrcPort: f.SrcPort, DstPort: f.DstPort, Opaque: f.Opaque,
		Inbound: true, Device: clear.Device, Local: here.Local, Broadcast: here.Broadcast})
	switch {
	case err != nil:
		last = append(last, "it is not known what the guard would do with it in clear: "+err.Error())
	case v.Drop:
		last = append(last, fmt.Sprintf("if it arrived in clear on %s, the guard would drop it (chain %s)", clear.Device, v.Chain))
	case v.Absent:
		last = append(last, fmt.Sprintf("if it arrived in clear on %s, nothing would stop it: no guard is in force", clear.Device))
	default:
		last = append(last, fmt.Sprintf("if it arrived in clear on %s, the guard would accept it too", clear.Device))
	}
	return last
}

func (h *Host) judge(p guard.Packet) (guard.Verdict, error) {
	if h.Guard == nil {
		return guard.Verdict{Absent: true}, nil
	}
	return h.Guard.Judge(p)
}

// describe is a routing decision, for "the kernel routes it …".
func describe(w tun.Decision) string {
	table := ""
	if w.Table != 0 {
		table = fmt.Sprintf(", table %d", w.Table)
	}
	switch {
	case w.Nowhere != "":
		return "nowhere: " + w.Nowhere
	case w.Local:
		return "to this host itself"
	case w.Gateway.IsValid():
		return fmt.Sprintf("to %s via %v%s", w.Device, w.Gateway, table)
	}
	return "to " + w.Device + table
}

// peer is how the gateway's own packets to an address are routed.
func (h *Host) peer(to netip.Addr) string {
	w, err := h.Prober.Lookup(tun.Query{Dst: to, Mark: h.Mark})
	switch {
	case err != nil:
		return fmt.Sprintf("the kernel did not answer how it routes IKE and ESP to %v: %v", to, err)
	case w.Device == h.Device:
		return fmt.Sprintf("the kernel routes IKE and ESP to %v into %s, their own tunnel: the rule for the gateway's mark is missing", to, h.Device)
	}
	text := fmt.Sprintf("the kernel routes IKE and ESP to %v %s", to, describe(w))
	if w.Src.IsValid() {
		text += fmt.Sprintf(", from %v", w.Src)
	}
	return text
}

// peers adds that for all addresses of a peer.
func (h *Host) peers(x *control.PeerExplanation, c *config.Config) {
	x.Host = []string{}
	if h.Prober == nil {
		return
	}
	var list []netip.Addr
	i := slices.IndexFunc(c.Peers, func(p *config.Peer) bool { return p.Name == x.Peer })
	if p := c.Peers[i]; p.DNSName == "" && p.Address.IsSingleIP() {
		list = append(list, p.Address.Addr())
	}
	for _, sa := range x.SAs {
		if a, err := netip.ParseAddrPort(sa.RemoteAddress); err == nil && !slices.Contains(list, a.Addr()) {
			list = append(list, a.Addr())
		}
	}
	for _, a := range list[:min(len(list), maxAsked)] {
		x.Host = append(x.Host, h.peer(a))
	}
	if d := h.Differences(); len(d) > 0 {
		x.Host = append(x.Host, notAsPlanned(d))
	}
}

// maxAsked is for how many addresses of a peer the kernel is asked.
const maxAsked = 4
