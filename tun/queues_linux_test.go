package tun

import (
	"net"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"culvert/internal/packet/wire"
)

// A device of several queues: each flow comes by one of them, and what is written to any of them arrives.
func TestQueues(t *testing.T) {
	lone(t)
	dev, err := CreateQueued("culvert1", 1400, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	queues := Queues(dev)
	if len(queues) != 3 {
		t.Fatalf("%d queues", len(queues))
	}
	if out, err := exec.Command("ip", "address", "add", "10.77.0.1/24", "dev", "culvert1").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if list := dev.(Offloader).Offloads(); len(list) != 5 || !list[4].InUse || list[4].Name != "read-queues" {
		t.Errorf("%+v", list)
	}
	type got struct {
		queue int
		pkt   string
	}
	arrived := make(chan got, 1000)
	for i, q := range queues {
		go func() {
			bufs, sizes := make([][]byte, q.BatchSize()), make([]int, q.BatchSize())
			for i := range bufs {
				bufs[i] = make([]byte, Offset+MaxMTU)
			}
			for {
				n, err := q.Read(bufs, sizes, Offset)
				if err != nil {
					return
				}
				for k := range n {
					arrived <- got{i, string(bufs[k][Offset:][:sizes[k]])}
				}
			}
		}()
	}
	const flows, packets = 30, 5
	for range packets {
		for port := range flows {
			conn, err := net.DialUDP("udp4", &net.UDPAddr{Port: 20000 + port}, &net.UDPAddr{IP: net.IPv4(10, 77, 0, 2), Port: 9})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write([]byte("to the other side")); err != nil {
				t.Fatal(err)
			}
			conn.Close()
		}
	}
	by, used := map[string]int{}, map[int]bool{}
	for range flows * packets {
		select {
		case g := <-arrived:
			flow := g.pkt[20:22]
			if q, known := by[flow]; known && q != g.queue {
				t.Fatalf("a flow came by queues %d and %d", q, g.queue)
			}
			by[flow], used[g.queue] = g.queue, true
		case <-time.After(time.Minute):
			t.Fatal("packets are missing")
		}
	}
	if len(by) != flows || len(used) != 3 {
		t.Errorf("%d flows by %d queues", len(by), len(used))
	}

	host, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 77, 0, 1), Port: 2000})
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	for i, q := range queues {
		pkt := wire.AppendUDPPacket(nil, netip.MustParseAddrPort("10.77.0.2:1000"), netip.MustParseAddrPort("10.77.0.1:2000"), []byte{byte(i)})
		if n, err := q.Write([][]byte{append(make([]byte, Offset), pkt...)}, Offset); n != 1 || err != nil {
			t.Fatalf("queue %d: %d, %v", i, n, err)
		}
		buf := make([]byte, 10)
		if n, err := host.Read(buf); n != 1 || err != nil || buf[0] != byte(i) {
			t.Errorf("queue %d: %d bytes %v, %v", i, n, buf[0], err)
		}
	}
	if err := dev.Close(); err != nil {
		t.Error(err)
	}
	if exists("culvert1") {
		t.Error("the device stays")
	}
}
