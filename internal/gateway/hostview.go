package gateway

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

// What the host does with a packet before it comes to the device and after it has come
// out of it: as the kernel's rules, routes and table of nftables are now, whatever
// the gateway has planned.

// hostView is how the system is asked.
type hostView struct {
	host   tun.Prober      // nil: it cannot be asked
	guard  guard.Explainer // nil: there is none, or it cannot be asked
	device string
	mark   uint32
	// differences says how the system is not as the gateway wants it.
	differences func() []string
}

func (g *gateway) hostView() *hostView {
	h := &hostView{device: g.edges.Device.Name(), mark: g.cfg.Gateway.Mark, differences: g.restorer.differences}
	h.host, _ = g.edges.Host.(tun.Prober)
	if g.cfg.Gateway.Guard {
		h.guard, _ = g.edges.Guard.(guard.Explainer)
	}
	return h
}

// packet adds to what the data path would do with a packet what the host does with it,
// which may be that it never comes to the data path.
func (h *hostView) packet(x *control.PacketExplanation, f *wire.Flow, inbound bool) {
	x.Differences = []string{}
	if h.host == nil {
		return
	}
	var first, last []string
	if inbound {
		first, last = h.inbound(x, f)
	} else {
		first, last = h.outbound(x, f)
	}
	x.Why = slices.Concat(first, x.Why, last)
	if x.Differences = notNil(h.differences()); len(x.Differences) > 0 {
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
	return "this host is not as the gateway has set it up, and is being put in order: " + strings.Join(differences, "; ")
}

func cannotAsk(err error) []string {
	return []string{fmt.Sprintf("the kernel cannot be asked which way it leads it: %v", err)}
}

// outbound is for a packet that this host sends, or gets from the network behind it.
func (h *hostView) outbound(x *control.PacketExplanation, f *wire.Flow) (first, last []string) {
	q := tun.Query{Src: f.Src, Dst: f.Dst, Proto: f.Proto}
	if !f.Opaque && config.Protocol(f.Proto).HasPorts() {
		q.SrcPort, q.DstPort = f.SrcPort, f.DstPort
	}
	back, err := h.host.Lookup(tun.Query{Dst: f.Src})
	if err != nil {
		return cannotAsk(err), nil
	}
	from := ""
	if !back.Local {
		q.In, from = back.Device, ", which comes by "+back.Device+","
		if back.Device == h.device || back.Nowhere != "" {
			// Only the device itself leads to its source: nobody behind this host sends it.
			return []string{fmt.Sprintf("no network behind this host has the address %v: the kernel leads it to %s", f.Src, describe(back))}, nil
		}
	}
	w, err := h.host.Lookup(q)
	if err != nil {
		return cannotAsk(err), nil
	}
	x.Device = w.Device
	first = []string{fmt.Sprintf("the kernel leads it%s %s", from, describe(w))}
	switch {
	case w.Local:
		return first, nil
	case w.Nowhere != "":
		x.Verdict, x.Counter, x.Device = "drop", "", ""
		return first, []string{"it does not come to " + h.device + ": the kernel drops it (" + w.Nowhere + ")"}
	case w.Device == h.device:
		if x.Counter == datapath.OutPolicyErrors.String() || x.Counter == datapath.OutLinkLocal.String() {
			x.Verdict = "drop"
			last = []string{"it comes out of " + h.device + " though no policy is about it, and is dropped"}
		}
		return first, last
	}
	where := "it does not come to " + h.device + ": it goes by " + w.Device + " in clear"
	v, err := h.judge(guard.Packet{Src: f.Src, Dst: f.Dst, Proto: f.Proto, SrcPort: f.SrcPort, DstPort: f.DstPort, Opaque: f.Opaque,
		Device: w.Device, FromUs: back.Local, Broadcast: w.Broadcast})
	switch {
	case err != nil:
		last = []string{where + ", and what the guard does with it is not known: " + err.Error()}
		x.Verdict = "pass-unprotected"
	case v.Drop:
		last = []string{where + ", and the guard drops it there (chain " + v.Chain + ")"}
		x.Verdict, x.Counter = "drop", "guard-out"
		return first, last
	case v.Absent:
		last = []string{where + ", and no guard is in force"}
		x.Verdict = "pass-unprotected"
	default:
		last = []string{where + ", and the guard lets it"}
		x.Verdict = "pass-unprotected"
	}
	return first, last
}

// inbound is for a packet that was decrypted.
func (h *hostView) inbound(x *control.PacketExplanation, f *wire.Flow) (first, last []string) {
	q := tun.Query{Src: f.Src, Dst: f.Dst, Proto: f.Proto, In: h.device}
	if !f.Opaque && config.Protocol(f.Proto).HasPorts() {
		q.SrcPort, q.DstPort = f.SrcPort, f.DstPort
	}
	if x.Verdict == "deliver" {
		w, err := h.host.Lookup(q)
		switch {
		case err != nil:
			last = cannotAsk(err)
		case w.Nowhere != "":
			x.Verdict = "drop"
			last = append(last, fmt.Sprintf("it comes out of %s, and the kernel drops it there: %s", h.device, w.Nowhere))
		default:
			x.Device = w.Device
			last = append(last, fmt.Sprintf("it comes out of %s, and the kernel leads it %s", h.device, describe(w)))
		}
	}
	// The same packet in clear.
	clear, err := h.host.Lookup(tun.Query{Dst: f.Src, Mark: h.mark})
	here, err2 := h.host.Lookup(tun.Query{Dst: f.Dst})
	if err != nil || err2 != nil || clear.Device == "" || clear.Device == h.device || clear.Local {
		return nil, last
	}
	v, err := h.judge(guard.Packet{Src: f.Src, Dst: f.Dst, Proto: f.Proto, SrcPort: f.SrcPort, DstPort: f.DstPort, Opaque: f.Opaque,
		Inbound: true, Device: clear.Device, Local: here.Local, Broadcast: here.Broadcast})
	switch {
	case err != nil:
		last = append(last, "what the guard would do with it in clear is not known: "+err.Error())
	case v.Drop:
		last = append(last, fmt.Sprintf("in clear, by %s, the guard would drop it (chain %s)", clear.Device, v.Chain))
	case v.Absent:
		last = append(last, fmt.Sprintf("in clear, by %s, nothing would stop it: no guard is in force", clear.Device))
	default:
		last = append(last, fmt.Sprintf("in clear, by %s, the guard would let it in, too", clear.Device))
	}
	return nil, last
}

func (h *hostView) judge(p guard.Packet) (guard.Verdict, error) {
	if h.guard == nil {
		return guard.Verdict{Absent: true}, nil
	}
	return h.guard.Judge(p)
}

// describe is a way, to be read behind "the kernel leads it".
func describe(w tun.Decision) string {
	table := ""
	if w.Table != 0 {
		table = fmt.Sprintf(", by table %d", w.Table)
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

// peer is which way the gateway's own packets to an address go.
func (h *hostView) peer(to netip.Addr) string {
	w, err := h.host.Lookup(tun.Query{Dst: to, Mark: h.mark})
	switch {
	case err != nil:
		return fmt.Sprintf("the kernel cannot be asked which way it leads IKE and ESP to %v: %v", to, err)
	case w.Device == h.device:
		return fmt.Sprintf("the kernel leads IKE and ESP to %v into %s, their own tunnel: the rule for the gateway's mark is missing", to, h.device)
	}
	text := fmt.Sprintf("the kernel leads IKE and ESP to %v %s", to, describe(w))
	if w.Src.IsValid() {
		text += fmt.Sprintf(", from %v", w.Src)
	}
	return text
}

// peers adds that for all addresses of a peer.
func (h *hostView) peers(x *control.PeerExplanation, c *config.Config) {
	x.Host = []string{}
	if h.host == nil {
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
	for _, a := range list[:min(len(list), maxWays)] {
		x.Host = append(x.Host, h.peer(a))
	}
	if d := h.differences(); len(d) > 0 {
		x.Host = append(x.Host, notAsPlanned(d))
	}
}

// maxWays is for how many addresses of a peer the kernel is asked.
const maxWays = 4
