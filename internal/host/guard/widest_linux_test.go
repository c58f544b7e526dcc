package guard

import "testing"

// Of the widest networks only the one that has every address is not compared: half of them is half of them.
func TestHalfOfAllAddresses(t *testing.T) {
	for _, c := range []struct {
		local, remote string
		from, to      string
		drop          bool
	}{
		{"0.0.0.0/0", "10.2.0.0/24", "10.1.0.1", "10.2.0.1", true}, {"0.0.0.0/0", "10.2.0.0/24", "192.0.2.1", "10.2.0.1", true},
		{"0.0.0.0/1", "10.2.0.0/24", "10.1.0.1", "10.2.0.1", true}, {"0.0.0.0/1", "10.2.0.0/24", "192.0.2.1", "10.2.0.1", false},
		{"128.0.0.0/1", "10.2.0.0/24", "10.1.0.1", "10.2.0.1", false}, {"128.0.0.0/1", "10.2.0.0/24", "192.0.2.1", "10.2.0.1", true},
		{"10.1.0.0/24", "0.0.0.0/1", "10.1.0.1", "10.2.0.1", true}, {"10.1.0.0/24", "0.0.0.0/1", "10.1.0.1", "192.0.2.1", false},
		{"::/0", "fd02::/64", "fd01::1", "fd02::1", true}, {"::/1", "fd02::/64", "2001:db8::1", "fd02::1", true},
		{"::/1", "fd02::/64", "fd01::1", "fd02::1", false}, {"8000::/1", "fd02::/64", "fd01::1", "fd02::1", true},
	} {
		f := formOf(planOf(between(c.local, c.remote)))
		p := packet(c.from, c.to, 6, 1, 2)
		if v, err := f.judge(p); err != nil || v.Drop != c.drop || v.Absent {
			t.Errorf("%s => %s: from %s to %s: %+v, %v", c.local, c.remote, c.from, c.to, v, err)
		}
		p = packet(c.to, c.from, 6, 2, 1)
		p.Inbound = true
		if v, err := f.judge(p); err != nil || v.Drop != c.drop || v.Absent {
			t.Errorf("%s => %s: in from %s to %s: %+v, %v", c.local, c.remote, c.to, c.from, v, err)
		}
	}
}
