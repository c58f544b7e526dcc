package demo

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"culvert/tun"
)

// host is a computer in the LAN behind a gateway: a TCP/IP stack of its own,
// whose only cable ends in the gateway's TUN device.
type host struct {
	addr  netip.Addr
	stack *stack.Stack
	cable *cable
	stop  context.CancelFunc
	done  sync.WaitGroup
}

const (
	nic = 1
	// buffered is the TCP buffers' size in bytes. The stack lets half of it be
	// under way, which in full packets is less than the queue of a tun.Memory
	// holds: a connection does not overrun it.
	buffered = 2 << 20
)

func newHost(addr netip.Addr, device *tun.Memory) (*host, error) {
	mtu, err := device.MTU()
	if err != nil {
		return nil, err
	}
	h := &host{addr: addr, cable: &cable{Endpoint: channel.New(0, uint32(mtu), ""), device: device}}
	h.cable.SupportedGSOKind = stack.GVisorGSOSupported
	h.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
	})
	if err := h.configure(); err != nil {
		h.stack.Destroy()
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	h.done.Go(func() { h.cable.receive(ctx) })
	return h, nil
}

func (h *host) configure() error {
	// Detection of losses by time (RACK) is off: on a busy machine a packet that
	// waits for a processor looks like one that was lost.
	sack, rack, adapt := tcpip.TCPSACKEnabled(true), tcpip.TCPRecovery(0), tcpip.TCPModerateReceiveBufferOption(false)
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: buffered, Default: buffered, Max: buffered}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: buffered, Default: buffered, Max: buffered}
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &rack, &adapt, &receive, &send} {
		if err := h.stack.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("setting up the TCP of %v: %v", h.addr, err)
		}
	}
	if err := h.stack.CreateNIC(nic, h.cable); err != nil {
		return fmt.Errorf("the network card of %v: %v", h.addr, err)
	}
	own := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddrFromSlice(h.addr.AsSlice()).WithPrefix()}
	if err := h.stack.AddProtocolAddress(nic, own, stack.AddressProperties{}); err != nil {
		return fmt.Errorf("the address of %v: %v", h.addr, err)
	}
	h.stack.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}})
	return nil
}

func (h *host) listen(port uint16) (net.Listener, error) {
	return gonet.ListenTCP(h.stack, tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFromSlice(h.addr.AsSlice()), Port: port}, ipv4.ProtocolNumber)
}

func (h *host) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return gonet.DialContextTCP(ctx, h.stack, tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFromSlice(to.Addr().AsSlice()), Port: to.Port()}, ipv4.ProtocolNumber)
}

// close ends all connections and waits for the stack's goroutines.
func (h *host) close() {
	h.stop()
	h.done.Wait()
	h.stack.Destroy()
}

// cable is the stack's link: what the stack sends is injected into the device,
// what the device puts out goes to the stack.
type cable struct {
	*channel.Endpoint // all of a link's methods but WritePackets
	device            *tun.Memory
}

// WritePackets is called by the stack from any goroutine. A packet that finds
// no room is lost, as on a wire; TCP sends it again.
func (c *cable) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	for _, p := range pkts.AsSlice() {
		v := p.ToView()
		_ = c.device.Inject(v.AsSlice())
		v.Release()
	}
	return pkts.Len(), nil
}

func (c *cable) receive(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case pkt := <-c.device.Outgoing():
			p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(pkt)})
			c.InjectInbound(ipv4.ProtocolNumber, p)
			p.DecRef()
		}
	}
}
