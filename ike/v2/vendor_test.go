package v2

import (
	"testing"

	"culvert/ike/message"
	ikesa "culvert/ike/sa"
)

// Only our own vendor ID, whole and alone or among others, says that the peer wants UDP.
func TestVendorOfOthers(t *testing.T) {
	own := string(ownVendor)
	for _, c := range []struct {
		ids  []string
		want bool
	}{{nil, false}, {[]string{""}, false}, {[]string{"strongSwan"}, false}, {[]string{own + "\x00"}, false}, {[]string{own[:len(own)-1]}, false},
		{[]string{own}, true}, {[]string{"strongSwan", own, "x"}, true}} {
		x := &exchange{sa: &SA{base: &ikesa.SA{WantsUDP: !c.want}}}
		for _, id := range c.ids {
			x.in = append(x.in, &message.VendorID{Data: []byte(id)})
		}
		if err := (&vendor{}).complete(x); err != nil || x.sa.base.WantsUDP != c.want {
			t.Errorf("%q: %v, %v, want %v", c.ids, x.sa.base.WantsUDP, err, c.want)
		}
	}
}
