package datapath

import (
	"bytes"
	"testing"

	"culvert/internal/packet/wire"
	"culvert/sad"
	"culvert/spd/selector"
)

// taken is a Local that takes what goes to a UDP port.
type taken struct {
	port uint16
	list [][]byte
	by   []uint64
}

func (l *taken) Take(pkt []byte, child uint64) bool {
	var f wire.Flow
	if _, ok := wire.ParseFlow(pkt, &f); !ok || f.Proto != wire.ProtoUDP || f.DstPort != l.port {
		return false
	}
	l.list, l.by = append(l.list, bytes.Clone(pkt)), append(l.by, child)
	return true
}

// What the gateway takes for itself does not get to the host, and has passed all that other packets pass.
func TestLocal(t *testing.T) {
	u := newTunnel(t, ciphers[0])
	local := &taken{port: 2000}
	u.right.path.cfg.Local = local
	u.connect(7, 1, func(_, right *sad.Params) { right.Pairs = []selector.Pair{pair("10.2.0.0/25", "10.1.0.0/16")} })
	ours, host := udp("10.1.0.1", "10.2.0.1", 20), udp("10.1.0.1", "10.2.0.1", 20)
	host[23] = 1 // another port
	host[26], host[27] = 0, 0
	before := u.right.values()
	for _, pkt := range [][]byte{ours, host, udp("10.1.0.1", "10.2.0.200", 20)} { // the last one is not allowed in
		if r := u.left.path.SendPlain(start, pkt); r != Passed {
			t.Fatal(r)
		}
	}
	for _, data := range u.left.conn.take() {
		u.right.path.Receive(start, datagram(data))
	}
	if len(local.list) != 1 || !bytes.Equal(local.list[0], ours) || local.by[0] != 7 {
		t.Errorf("%d packets were taken, by %d", len(local.list), local.by)
	}
	if got := u.right.host.take(); len(got) != 1 || !bytes.Equal(got[0], host) {
		t.Errorf("the host got %d packets", len(got))
	}
	u.right.moved(t, before, map[string]uint64{"rx-local": 1, "rx-packets": 1, "rx-bytes": uint64(len(host)), "in-template-mismatches": 1})
}
