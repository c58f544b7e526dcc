package gateway

import (
	"maps"
	"testing"
	"time"

	"culvert/ike/core"
	"culvert/internal/testing/simnet"
)

// A reload that says which identity a policy is for, or that it is for another one, ends what the wrong one has; a
// name alone, and the same identity under another name, change nothing.
func TestReloadOfAPolicysIdentity(t *testing.T) {
	w := newWorld(t, simnet.Link{Delay: 5 * time.Millisecond})
	two := "[[identity]]\nname = \"west\"\npeer = \"other\"\nremote-id = \"address:192.0.2.1\"\nsecret = \"thisisnotasecurepsk\"\n" +
		"[[identity]]\nname = \"nobody\"\npeer = \"other\"\nremote-id = \"fqdn:nobody\"\nsecret = \"another\"\n"
	plain := passive(site(westAddr, "102", "101"))
	plain = replaceOnce(t, plain, "[[identity]]\npeer = \"other\"\nsecret = \"thisisnotasecurepsk\"\n", two)
	with := func(name string) string {
		return replaceOnce(t, plain, "[[policy]]\npeer = \"other\"\nsrc-address = \"10.1.102.0/24\"", "[[policy]]\nidentity = \""+name+"\"\npeer = \"other\"\nsrc-address = \"10.1.102.0/24\"")
	}
	w.west.mustConfigure(site(eastAddr, "101", "102"))
	w.east.mustConfigure(plain)
	w.until("both policies up", func() bool { return w.west.sealing() == 2 && w.east.sealing() == 2 })
	w.run(10 * time.Second)

	w.east.mustConfigure(with("west")) // said of one of the two: it is another policy now, and west gets it anew
	w.until("both policies up again", func() bool { return w.west.sealing() == 2 && w.east.sealing() == 2 })
	w.run(10 * time.Second)
	w.carriesAll()
	before, downs := w.east.spis(), w.east.count(core.EvChildDown)
	w.east.mustConfigure(replaceOnce(t, replaceOnce(t, with("west"), "name = \"west\"", "name = \"w\""), "identity = \"west\"", "identity = \"w\""))
	w.run(10 * time.Second)
	if after := w.east.spis(); !maps.Equal(before, after) || w.east.count(core.EvChildDown) != downs {
		t.Errorf("under another name: SAs %v, then %v", before, after)
	}
	w.east.mustConfigure(with("nobody"))
	w.run(10 * time.Second)
	if w.east.sealing() != 1 || w.east.count(core.EvTSUnacceptable) == 0 {
		t.Errorf("the policy of another identity: %d up; %v", w.east.sealing(), kinds(w.east.events))
	}
	w.east.mustConfigure(plain)
	w.until("both policies up once more", func() bool { return w.west.sealing() == 2 && w.east.sealing() == 2 })
}
