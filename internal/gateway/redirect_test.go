package gateway

import (
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/internal/testing/simnet"
)

// What the configuration says of redirects reaches the endpoint, ends no SA, and
// follows peers and identities over a reload that leaves them as they are.
func TestRedirectsAreCompiled(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 5 * time.Millisecond})
	w.up()
	before := w.east.spis()
	text := passive(site(westAddr, "102", "101"))
	next := replaceOnce(t, text, "name = \"other\"\n", "name = \"other\"\nredirect = \"gw2.example.net\"\nredirect-above = 7\n")
	next = replaceOnce(t, next, "peer = \"other\"\nsecret", "peer = \"other\"\nredirect = \"192.0.2.9\"\nsecret")
	w.east.mustConfigure(next)
	c := w.east.comp.IKE
	if r := c.Redirects["other"]; r != (core.Redirect{To: core.Gateway{Name: "gw2.example.net"}, Above: 7}) {
		t.Errorf("the peer's is %+v", r)
	}
	if g := c.IdentityRedirects[c.Peers[0].Identities[0]]; g.String() != "192.0.2.9" {
		t.Errorf("the identity's is %v", g)
	}
	w.run(10 * time.Second)
	for spi := range before {
		if _, ok := w.east.spis()[spi]; !ok {
			t.Errorf("%s is gone", spi)
		}
	}
	w.carriesAll()
	w.east.mustConfigure(text)
	if c := w.east.comp.IKE; len(c.Redirects)+len(c.IdentityRedirects) != 0 {
		t.Errorf("%v and %v are left", c.Redirects, c.IdentityRedirects)
	}
}
