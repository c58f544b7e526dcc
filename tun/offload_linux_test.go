package tun

import (
	"strings"
	"testing"
)

// What is said of a device, by what its kernel has.
func TestOffloads(t *testing.T) {
	for name, c := range map[string]struct {
		read, write, udp bool
		want             [4]bool
		detail           string // of the last line
	}{
		"all":                  {true, true, true, [4]bool{true, true, true, true}, "get to the hosts as one"},
		"Linux before 6.2":     {true, true, false, [4]bool{true, false, true, false}, "TUN_F_USO4"},
		"no header of offload": {false, false, false, [4]bool{}, "IFF_VNET_HDR"},
	} {
		list := offloads(c.read, c.write, c.udp)
		for i, o := range list {
			if o.InUse != c.want[i] {
				t.Errorf("%s: %+v", name, o)
			}
		}
		if last := list[3]; len(list) != 4 || !strings.Contains(last.Detail, c.detail) {
			t.Errorf("%s: %+v", name, last)
		}
	}
	for has, want := range map[int]string{1: "1 of 3 queues", 2: "2 of 3 queues", 3: "3 queues, and"} {
		if o := severalQueues(has, 3); o.InUse != (has > 1) || !strings.Contains(o.Detail, want) {
			t.Errorf("%+v", o)
		}
	}
	lone(t)
	dev, err := Create("culvert1", 1400)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	if list := dev.(Offloader).Offloads(); len(list) != 4 || list[0].Place != "culvert1" || !list[0].InUse || !list[2].InUse {
		t.Errorf("%+v", list)
	}
}
