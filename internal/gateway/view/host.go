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

// packet adds what the host does with a packet to what the data path would do with it. A packet
// may never reach the data path.
func (h *Host) packet(x *control.PacketExplanation, f *wire.Flow, inbound bool) {
	x.Differences = []string{}
	if h.Prober == nil {
		return
	}
	var first, last []string
	if inbound {
		first, last = h.inbound(x, f)
	} else {
		first, last = h.outbound(x, f)
	}
	x.Why = slices.Concat(first, x.Why, last)
	if x.Differences = notNil(h.Differences()); len(x.Differences) > 0 {
		x.Why = append(x.Why, notAsPlanned(x.Differences))
	}
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

func cannotAsk(err error) []string {
	return []string{fmt.Sprintf("the kernel did not answer how it routes the packet: %v", err)}
}

// outbound is for a packet that this host sends, or receives from a network behind it.
func (h *Host) outbound(x *control.PacketExplanation, f *wire.Flow) (first, last []string) {
	q := tun.Query{Src: f.Src, Dst: f.Dst, Proto: f.Proto}
	if !f.Opaque && config.Protocol(f.Proto).HasPorts() {
		q.SrcPort, q.DstPort = f.SrcPort, f.DstPort
	}
	back, err := h.Prober.Lookup(tun.Query{Dst: f.Src})
	if err != nil {
		return cannotAsk(err), nil
	}
	from := ""
	if !back.Local {
		q.In, from = back.Device, ", which arrives on "+back.Device+","
		if back.Device == h.Device || back.Nowhere != "" {
			// The route to its source is the device itself: nobody behind this host sends it.
			return []string{fmt.Sprintf("no network behind this host has the address %v: the kernel routes it %s", f.Src, describe(back))}, nil
		}
	}
	w, err := h.Prober.Lookup(q)
	if err != nil {
		return cannotAsk(err), nil
	}
	x.Device = w.Device
	first = []string{fmt.Sprintf("the kernel routes it%s %s", from, describe(w))}
	switch {
	case w.Local:
		return first, nil
	case w.Nowhere != "":
		x.Verdict, x.Counter, x.Device = "drop", "", ""
		return first, []string{"it does not reach " + h.Device + ": the kernel drops it (" + w.Nowhere + ")"}
	case w.Device == h.Device:
		if x.Counter == datapath.OutPolicyErrors.String() || x.Counter == datapath.OutLinkLocal.String() {
			x.Verdict = "drop"
			last = []string{"it reaches " + h.Device + " although no policy matches it, and is dropped"}
		}
		return first, last
	}
	where := "it does not reach " + h.Device + ": it leaves through " + w.Device + " in clear"
	v, err := h.judge(guard.Packet{Src: f.Src, Dst: f.Dst, Proto: f.Proto, SrcPort: f.SrcPort, DstPort: f.DstPort, Opaque: f.Opaque,
		Device: w.Device, FromUs: back.Local, Broadcast: w.Broadcast})
	switch {
	case err != nil:
		last = []string{where + ", and it is not known what the guard does with it: " + err.Error()}
		x.Verdict = "pass-unprotected"
	case v.Drop:
		last = []string{where + ", and the guard drops it there (chain " + v.Chain + ")"}
		x.Verdict, x.Counter = "drop", "guard-out"
		return first, last
	case v.Absent:
		last = []string{where + ", and no guard is in force"}
		x.Verdict = "pass-unprotected"
	default:
		last = []string{where + ", and the guard allows it"}
		x.Verdict = "pass-unprotected"
	}
	return first, last
}

// inbound is for a packet that was decrypted.
func (h *Host) inbound(x *control.PacketExplanation, f *wire.Flow) (first, last []string) {
	q := tun.Query{Src: f.Src, Dst: f.Dst, Proto: f.Proto, In: h.Device}
	if !f.Opaque && config.Protocol(f.Proto).HasPorts() {
		q.SrcPort, q.DstPort = f.SrcPort, f.DstPort
	}
	if x.Verdict == "deliver" {
		w, err := h.Prober.Lookup(q)
		switch {
		case err != nil:
			last = cannotAsk(err)
		case w.Nowhere != "":
			x.Verdict = "drop"
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
		return nil, last
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
	return nil, last
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
