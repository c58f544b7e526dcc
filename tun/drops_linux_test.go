package tun

import (
	"strings"
	"testing"
)

// What the device's queue has no room for is counted: of all that is sent, what cannot be read.
func TestDeviceDrops(t *testing.T) {
	dev := created(t)
	if out := run(t, "ip link show culvert0"); !strings.Contains(out, "qlen 4000") {
		t.Errorf("the queue of the device has another length: %s", out)
	}
	run(t, "ip link set culvert0 txqueuelen 100")
	run(t, "ip addr add 10.3.0.1/24 dev culvert0")
	send := segments(t, "10.3.0.2:9")
	const sent = 1000
	for range sent {
		send(50, 0)
	}
	dropped := dev.(Dropper).Drops()
	if dropped < sent/2 || dropped >= sent {
		t.Fatalf("%d of %d dropped", dropped, sent)
	}
	bufs, sizes := buffers(128)
	for read := 0; read < sent-int(dropped); {
		n, err := dev.Read(bufs, sizes, Offset)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if bufs[i][Offset+9] == 17 { // else the kernel's own
				read++
			}
		}
	}
	if err := dev.Close(); err != nil {
		t.Error(err)
	}
	if n := dev.(Dropper).Drops(); n != dropped {
		t.Errorf("%d, once closed %d", dropped, n)
	}
}
