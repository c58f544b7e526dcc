package underlay

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"
)

// The packets of an SA come to one queue, by their SPI; IKE and keepalives to the first.
func TestQueues(t *testing.T) {
	for name, addr := range map[string]string{"IPv4": "127.0.0.1", "IPv6": "::1"} {
		t.Run(name, func(t *testing.T) {
			const n = 3
			at := netip.MustParseAddr(addr)
			c, err := Listen(Options{Queues: n, Join: true, Listen: []netip.Addr{at}})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			queues := Queues(c)
			if len(queues) != n {
				t.Fatalf("%d queues", len(queues))
			}
			type got struct {
				queue int
				kind  Kind
				data  string
			}
			arrived := make(chan got, 100)
			for i, q := range queues {
				go func() {
					packets := make([]Packet, 8)
					for i := range packets {
						packets[i].Buf = make([]byte, Headroom+MaxDatagram)
					}
					for {
						n, err := q.Recv(packets)
						if err != nil {
							return
						}
						for k := range packets[:n] {
							arrived <- got{i, packets[k].Kind, string(packets[k].Data())}
						}
					}
				}()
			}
			next := func() got {
				select {
				case g := <-arrived:
					return g
				case <-time.After(time.Minute):
					t.Fatal("nothing arrives")
				}
				return got{}
			}
			_, natt := c.Ports()
			peer, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(at, natt)))
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			for spi := uint32(256); spi < 256+4*n; spi++ {
				packet := binary.BigEndian.AppendUint32(nil, spi)
				if _, err := peer.Write(append(packet, "\x00\x00\x00\x01sealed"...)); err != nil {
					t.Fatal(err)
				}
				if g := next(); g.queue != int(spi%n) || g.kind != ESP {
					t.Errorf("SPI %d: %+v", spi, g)
				}
			}
			for kind, data := range map[Kind]string{IKE: "\x00\x00\x00\x00a message of IKE, long enough", Keepalive: "\xff"} {
				if _, err := peer.Write([]byte(data)); err != nil {
					t.Fatal(err)
				}
				if g := next(); g.queue != 0 || g.kind != kind {
					t.Errorf("%+v, want kind %d in the first queue", g, kind)
				}
			}

			// What is sent comes from the one port, whatever the queue is: by the NAT-T port and by the other.
			ike, _ := c.Ports()
			to := peer.LocalAddr().(*net.UDPAddr).AddrPort()
			for i, q := range queues {
				packets := []Packet{
					{Buf: make([]byte, 200), Off: 100, Len: 40, Kind: ESP, NATT: true, Remote: to},
					{Buf: make([]byte, 200), Off: 100, Len: 40, Kind: IKE, Local: netip.AddrPortFrom(netip.Addr{}, ike), Remote: to},
				}
				if n, err := q.Send(packets); err != nil || n != 2 {
					t.Errorf("queue %d: %d were sent: %v", i, n, err)
				}
				buf := make([]byte, 100)
				if n, err := peer.Read(buf); err != nil || n != 40 {
					t.Errorf("queue %d: %d bytes: %v", i, n, err)
				}
			}
			if list := c.(Offloader).Offloads(); len(list) != 3 || list[2].Name != "receive-queues" || !list[2].InUse {
				t.Errorf("%+v", list)
			}
		})
	}
}

// One queue is nothing else than none: nobody else can bind the port.
func TestOneQueueSharesNoPort(t *testing.T) {
	c, err := Listen(Options{Listen: []netip.Addr{netip.MustParseAddr("127.0.0.1")}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, natt := c.Ports()
	if _, err := Listen(Options{Queues: 2, IKEPort: natt - 1, NATTPort: natt, Listen: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}); err == nil {
		t.Error("another one has the port as well")
	}
}
